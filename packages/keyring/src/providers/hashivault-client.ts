/** Speaks the HTTP API of HashiCorp Vault and OpenBao: one request, a token for it, and what a refusal means. */
import { readFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Failure } from './failure.ts';

/** How a program shows who it is. A token ends; an AppRole makes new ones, and a file is read anew each time. */
export type VaultCredentials =
  | { readonly token: string }
  /** A file that holds a token and nothing else, such as the sink of a Vault Agent. */
  | { readonly tokenFile: string }
  | {
      readonly roleId: string;
      readonly secretId: string;
      /** Where AppRole is mounted. Default `approle`. */
      readonly authMount?: string;
    };

export interface VaultConnection {
  /** `https://host:8200`; `http:` is the caller's own decision. */
  readonly address: URL;
  readonly credentials: VaultCredentials;
  readonly namespace?: string | undefined;
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca?: string | undefined;
}

/** A request that Vault did not do. It holds what Vault said, nothing that was asked. */
export class VaultRefusal extends Error {
  override readonly name = 'VaultRefusal';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.kind);
    this.failure = failure;
  }
}

/** One request with a token, of the data of its answer. `path` begins after `/v1/`, percent-encoded. */
export type VaultClient = (
  method: 'GET' | 'POST',
  path: string,
  body: Readonly<Record<string, string>> | undefined,
  signal: AbortSignal,
) => Promise<Readonly<Record<string, unknown>>>;

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly retryAfterMs: number | undefined;
}

const MAX_ANSWER_BYTES = 1_048_576;
const MAX_REDIRECTS = 2;
/** Of the time that Vault grants a token, what it is used for: clocks differ, and requests take time. */
const TOKEN_SHARE = 0.8;

/** @throws (from the client) `VaultRefusal`, or what the network throws. */
export function vaultClient(connection: VaultConnection): VaultClient {
  const { credentials } = connection;
  let login: { readonly token: string; readonly until: number } | undefined;

  async function token(signal: AbortSignal): Promise<string> {
    if ('token' in credentials) return credentials.token;
    if ('tokenFile' in credentials) return tokenFrom(credentials.tokenFile);
    if (login !== undefined && performance.now() < login.until) return login.token;
    const { roleId, secretId, authMount = 'approle' } = credentials;
    const answer = await send(connection, {
      ...{ method: 'POST', path: `auth/${encodePath(authMount)}/login`, signal },
      body: { role_id: roleId, secret_id: secretId },
    });
    // Whatever Vault finds wrong with them, it is the credentials.
    if (answer.status === 400 || answer.status === 403 || answer.status === 404) throw refusal('credentials', answer);
    const auth = record(granted(answer).body['auth']);
    const made = auth['client_token'];
    if (typeof made !== 'string') throw refusal('misunderstood', answer);
    const seconds = typeof auth['lease_duration'] === 'number' ? auth['lease_duration'] : 0;
    login = { token: made, until: performance.now() + seconds * 1_000 * TOKEN_SHARE };
    return made;
  }

  return async (method, path, body, signal) => {
    const sent = { method, path, body, signal };
    const usesLogin = login !== undefined;
    let given = await token(signal);
    let answer = await send(connection, { ...sent, token: given });
    if (answer.status === 403 && usesLogin && 'roleId' in credentials) {
      // Revoked before its time, perhaps: one that is new tells.
      login = undefined;
      given = await token(signal);
      answer = await send(connection, { ...sent, token: given });
    }
    if (answer.status === 403) {
      const mayLookAtItself = { method: 'GET', path: 'auth/token/lookup-self', signal, token: given } as const;
      const self = await send(connection, mayLookAtItself);
      throw refusal(self.status === 200 ? 'forbidden' : 'credentials', answer);
    }
    return record(granted(answer).body['data']);
  };
}

/** What the matter is with a call, from what it threw. */
export function classifyVaultError(error: unknown): Failure {
  if (error instanceof VaultRefusal) return error.failure;
  // Names, addresses, TLS, a connection that ended: Node gives them codes.
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return code === undefined ? { kind: 'misunderstood' } : { kind: 'network', name: code };
}

/** Percent-encodes a path, its slashes excepted. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

function granted(answer: Answer): Answer {
  if (answer.status >= 200 && answer.status < 300) return answer;
  throw refusal(kindOf(answer), answer);
}

function kindOf({ status, body }: Answer): Failure['kind'] {
  const said = errorsOf(body).join(' ');
  if (status === 429) return 'throttled';
  // 412: a replica that has not caught up yet.
  if (status >= 500 || status === 412) return 'server';
  if (status === 404 || /encryption key not found/.test(said)) return 'missing';
  if (/too old|soft-deleted/.test(said)) return 'disabled';
  // Every other word of Transit about a ciphertext: its form, its version, its tag.
  if (status === 400 && /ciphertext|authentication failed/.test(said)) return 'undecryptable';
  return 'misunderstood';
}

function refusal(kind: Failure['kind'], { status, body, retryAfterMs }: Answer): VaultRefusal {
  const said = errorsOf(body).join('; ');
  return new VaultRefusal({ kind, status, retryAfterMs, said: said === '' ? undefined : withoutSecrets(said) });
}

/** Vault's messages hold no credentials; whoever answers in its place may repeat what it was sent. */
function withoutSecrets(text: string): string {
  return text.replace(/[\w.+/=-]{20,}/g, '…');
}

function errorsOf(body: Readonly<Record<string, unknown>>): string[] {
  const { errors } = body;
  return Array.isArray(errors) ? errors.filter((error) => typeof error === 'string') : [];
}

async function tokenFrom(path: string): Promise<string> {
  const token = await readFile(path, 'utf8').catch(() => '');
  if (token.trim() !== '') return token.trim();
  throw new VaultRefusal({ kind: 'credentials', said: `the token file ${path} cannot be read, or is empty` });
}

interface Sent {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: Readonly<Record<string, string>> | undefined;
  readonly token?: string;
  readonly signal: AbortSignal;
}

async function send(connection: VaultConnection, sent: Sent): Promise<Answer> {
  let url = new URL(`/v1/${sent.path}`, connection.address);
  for (let redirects = 0; ; redirects++) {
    const { message, answer } = await sendTo(url, connection, sent);
    const { location } = message.headers;
    // A standby that forwards nothing says where the active node is.
    if ((answer.status !== 307 && answer.status !== 308) || location === undefined) return answer;
    const next = URL.parse(location, url.href);
    const isSafe = next !== null && (next.protocol === url.protocol || next.protocol === 'https:');
    if (!isSafe || redirects === MAX_REDIRECTS) throw refusal('misunderstood', answer);
    url = next;
  }
}

async function sendTo(url: URL, { namespace, ca }: VaultConnection, { method, body, token, signal }: Sent) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const options: RequestOptions = {
    method,
    signal,
    headers: {
      'x-vault-request': 'true',
      ...(token === undefined ? {} : { 'x-vault-token': token }),
      ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
      ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
    },
  };
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request =
    url.protocol === 'https:'
      ? httpsRequest(url, { ...options, ...(ca === undefined ? {} : { ca }) }, resolve)
      : httpRequest(url, options, resolve);
  request.on('error', reject);
  request.end(text);
  const message = await promise;
  const answer: Answer = {
    status: message.statusCode ?? 0,
    retryAfterMs: secondsToMs(message.headers['retry-after']),
    body: parse(await read(message)),
  };
  return { message, answer };
}

async function read(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new VaultRefusal({ kind: 'misunderstood', status: message.statusCode });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    return record(JSON.parse(text));
  } catch {
    return {};
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function secondsToMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1_000 : undefined;
}
