import { createRootKeyFile, openKeyring, type Keyring } from '@meshhook/keyring';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createTestDatabase } from '../../../test/support/database.ts';
import { keyringHandler, tokenDigest, type KeyringHandlerOptions } from '../src/index.ts';

export const tokens = { all: 'mhk_all', reader: 'mhk_reader', rotator: 'mhk_rotator' };

export interface Api extends AsyncDisposable {
  readonly keyring: Keyring;
  readonly errors: { readonly error: unknown; readonly id: string }[];
  readonly requested: string[];
  /** As the token "all" unless headers say otherwise. */
  send(method: string, address: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Exactly this. */
  fetch(request: Request): Promise<Response>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: AnswerBody;
}

/** What tests look at, of all the answers there are; a test that looks at what was not sent fails. */
export interface AnswerBody {
  readonly id: string;
  readonly code: string;
  readonly detail: string;
  readonly details: { readonly ids: string[]; readonly rotationIds: string[] };
  readonly fields: readonly { readonly field: string; readonly message: string }[];
  readonly requestedAt: string;
  readonly finishedAt: string | null;
  readonly durationMs: number;
  readonly projectDetails: readonly { readonly finishedAt: string }[];
  readonly rotations: readonly { readonly id: string }[];
  readonly next: string | null;
  readonly keys: readonly { readonly projectName: string; readonly active: boolean; readonly createdAt: string }[];
  readonly truncated: boolean;
}

/** A handler over a keyring of its own, in a database of its own. */
export async function openApi(options: Partial<KeyringHandlerOptions> = {}): Promise<Api> {
  const database = await createTestDatabase();
  const folder = await mkdtemp(path.join(tmpdir(), 'keyring-http-'));
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const keyring = await openKeyring({ database: database.serviceUrl, rootKey, actor: 'server' });
  const errors: { error: unknown; id: string }[] = [];
  const requested: string[] = [];
  const handler = keyringHandler({
    keyring,
    tokens: [
      { name: 'all', digest: tokenDigest(tokens.all), scopes: ['read', 'rotate'] },
      { name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] },
      { name: 'rotator', digest: tokenDigest(tokens.rotator), scopes: ['rotate'] },
    ],
    onRotationRequested: (id) => requested.push(id),
    onError: (error, id) => errors.push({ error, id }),
    ...options,
  });
  return {
    keyring,
    errors,
    requested,
    fetch: handler,
    async send(method, address, body, headers = {}) {
      const sent = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
      const response = await handler(
        new Request(`http://127.0.0.1:8080${address}`, {
          method,
          ...(sent === undefined ? {} : { body: sent }),
          headers: {
            authorization: `Bearer ${tokens.all}`,
            ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
            ...headers,
          },
        }),
      );
      return answer(response);
    },
    async [Symbol.asyncDispose]() {
      await keyring.close();
      await rm(folder, { recursive: true, force: true });
      await database.drop();
    },
  };
}

export async function answer(response: Response): Promise<Answer> {
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') ?? false;
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: (isJson ? JSON.parse(text) : undefined) as AnswerBody,
  };
}
