import { lookup as systemLookup } from 'node:dns/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { NotificationMessage } from '@meshhook/keyring';
import { Webhook } from 'standardwebhooks';
import { isPublic } from './address.ts';

const TIMEOUT_MS = 15_000;
const MOST_ANSWERED_BYTES = 65_536;

export interface DeliveryOptions {
  /** Deliver to addresses that are not of the public internet, too. */
  readonly allowPrivate?: boolean;
  /** Deliver over plain HTTP, too. */
  readonly allowHttp?: boolean;
  readonly lookup?: (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;
  readonly timeoutMs?: number;
  /** Ends the try. */
  readonly signal?: AbortSignal;
}

/** Reads `private`, `http`, or both with a comma. @throws TypeError for anything else. */
export function allowedBy(text: string): Pick<DeliveryOptions, 'allowPrivate' | 'allowHttp'> {
  const words = text.split(',').map((word) => word.trim());
  const unknown = words.find((word) => !['', 'private', 'http'].includes(word));
  if (unknown !== undefined)
    throw new TypeError('MESHHOOK_NOTIFICATIONS_ALLOW takes private, http, or both with a comma');
  return { allowPrivate: words.includes('private'), allowHttp: words.includes('http') };
}

export interface Delivered {
  readonly delivered: boolean;
  readonly status: number | undefined;
  /** Of ours: nothing that the endpoint, or a name server, said. */
  readonly error: string | undefined;
}

/**
 * Sends a message once, signed by the Standard Webhooks scheme. The host is resolved once: all its addresses have to be allowed, and
 * the connection goes to the one that was checked, whatever its name becomes meanwhile. No redirect is followed. Never rejects.
 */
export async function deliver(message: NotificationMessage, options: DeliveryOptions = {}): Promise<Delivered> {
  const refused = (error: string): Delivered => ({ delivered: false, status: undefined, error });
  const url = new URL(message.url);
  if (url.protocol !== 'https:' && options.allowHttp !== true) return refused('The endpoint is not https.');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const lookup = options.lookup ?? ((name) => systemLookup(name, { all: true }));
  const timeout = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const end = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  try {
    const addresses = await Promise.race([lookup(host), ended(end)]);
    const [first] = addresses;
    if (first === undefined) return refused('The host of the endpoint has no address.');
    if (options.allowPrivate !== true && !addresses.every(({ address }) => isPublic(address))) {
      return refused('The endpoint has an address that is not of the public internet.');
    }
    const status = await post(url, first, message, end);
    const delivered = status >= 200 && status < 300;
    return { delivered, status, error: delivered ? undefined : `The endpoint answered ${String(status)}.` };
  } catch (error) {
    if (timeout.aborted) return refused('The endpoint did not answer in time.');
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    return refused(`The endpoint could not be reached${/^[A-Z_0-9]{1,60}$/.test(code) ? ` (${code})` : ''}.`);
  }
}

function post(
  url: URL,
  to: { readonly address: string; readonly family: number },
  { id, secret, body }: NotificationMessage,
  signal: AbortSignal,
): Promise<number> {
  const now = new Date();
  const headers = {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    'user-agent': 'MeshHook-Keyring',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, now, body),
  };
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      headers,
      signal,
      agent: false,
      // The address that was checked.
      lookup: (_host, { all }, found) => {
        if (all === true) found(null, [{ ...to }]);
        else found(null, to.address, to.family);
      },
    });
    request.on('error', reject);
    // A connection that ends otherwise, as by an answer that nobody asked for (101), says nothing else.
    request.on('close', () => reject(new Error('closed')));
    request.on('response', (response) => {
      let bytes = 0;
      const end = (): void => {
        resolve(response.statusCode ?? 0);
        response.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MOST_ANSWERED_BYTES) end();
      });
      response.on('end', end);
      response.on('error', reject);
    });
    request.end(body);
  });
}

function ended(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('ended')), { once: true });
  });
}
