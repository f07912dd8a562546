/**
 * A server that speaks the protocol of HashiCorp Vault's and OpenBao's Transit engine, as far as a root key needs it: real
 * AES-256-GCM with associated data, key versions, policies, AppRole, and every way of misbehaving. What it answers, statuses
 * and messages, is what OpenBao 2.x answers (read in its source, `internal/builtin/logical/transit`, 2026-11).
 */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import { createServer as createHttp, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Misbehaviour } from '../remote-contract.ts';

export interface TransitKey {
  type: string;
  derived: boolean;
  softDeleted: boolean;
  minDecryptionVersion: number;
  /** By version, from 1; the last one encrypts. */
  versions: Buffer[];
}

type Capability = 'read' | 'create' | 'update';

/** Capabilities by exact path. */
export type Policy = Readonly<Record<string, readonly Capability[]>>;

export interface TransitServer {
  readonly port: number;
  readonly host: string;
  readonly keys: Map<string, TransitKey>;
  readonly mounts: Map<string, { uuid: string; type: string }>;
  readonly tokens: Map<string, Policy>;
  /** Role ids, with their secret ids. Each login makes a token with the role's policy, and counts. */
  readonly roles: Map<string, { secretId: string; policy: Policy; leaseSeconds: number; logins: number }>;
  /** Method and path of what was asked, with the namespace in front if there was one. */
  readonly requests: string[];
  sealed: boolean;
  misbehave(how: Misbehaviour, times: number): void;
  misbehaved(): number;
  stop(): Promise<void>;
  start(): Promise<void>;
}

export const newKey = (type = 'aes256-gcm96'): TransitKey => ({
  ...{ type, derived: false, softDeleted: false, minDecryptionVersion: 1 },
  versions: [randomBytes(32)],
});

/** The least that a root key needs. */
export const leastPolicy = (mount: string, key: string): Policy => ({
  [`${mount}/keys/${key}`]: ['read'],
  [`${mount}/encrypt/${key}`]: ['update'],
  [`${mount}/decrypt/${key}`]: ['update'],
});

class Answer extends Error {
  readonly status: number;
  readonly body: unknown;
  constructor(status: number, body: unknown) {
    super();
    this.status = status;
    this.body = body;
  }
}
const refuse = (status: number, ...errors: string[]): never => {
  throw new Answer(status, { errors });
};

export async function startTransitServer(tls?: {
  readonly key: string;
  readonly cert: string;
}): Promise<TransitServer> {
  const sockets = new Set<Socket>();
  let server: Server;
  let mode: { how: Misbehaviour; left: number; met: number } = { how: 'failing', left: 0, met: 0 };
  const self: { -readonly [K in keyof TransitServer]: TransitServer[K] } = {
    ...{ port: 0, host: '127.0.0.1', sealed: false, requests: [] },
    ...{ keys: new Map(), mounts: new Map(), tokens: new Map(), roles: new Map() },
    misbehave(how, times) {
      mode = { how, left: times, met: 0 };
    },
    misbehaved: () => mode.met,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    async start() {
      const listener = (request: IncomingMessage, response: ServerResponse): void => {
        onRequest(request, response).catch((error: unknown) => response.destroy(error as Error));
      };
      server = tls === undefined ? createHttp(listener) : createHttps(tls, listener);
      server.on('connection', (socket: Socket) => {
        sockets.add(socket);
        socket.on('close', () => sockets.delete(socket));
      });
      await new Promise<void>((resolve) => server.listen(self.port, self.host, resolve));
      self.port = (server.address() as AddressInfo).port;
    },
  };

  /** Whether this request is met by misbehaviour. */
  const isMet = (applies: boolean): boolean => {
    if (!applies || mode.left <= 0) return false;
    mode.left--;
    mode.met++;
    return true;
  };

  async function onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const path = decodeURIComponent((request.url ?? '').replace(/^\/v1\//, ''));
    const namespace = request.headers['x-vault-namespace'];
    self.requests.push(`${namespace === undefined ? '' : `${String(namespace)}: `}${request.method ?? ''} ${path}`);
    if (mode.how === 'silent' && isMet(true)) return;
    if (mode.how === 'broken' && isMet(true)) {
      response.writeHead(200, { 'content-length': 1_000 });
      response.write('{"data":{"ciphertext":"vault:v1:');
      setImmediate(() => response.destroy());
      return;
    }
    try {
      const body = chunks.length === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString()) as Record<string, string>);
      reply(response, 200, answer(request, path, body));
    } catch (error) {
      if (!(error instanceof Answer)) throw error;
      reply(response, error.status, error.body);
    }
  }

  const reply = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, {
      'content-type': 'application/json',
      ...(status === 429 ? { 'retry-after': '0' } : {}),
    });
    response.end(JSON.stringify(body));
  };

  function answer(request: IncomingMessage, path: string, body: Record<string, string>): unknown {
    const { method } = request;
    const token = String(request.headers['x-vault-token'] ?? '');
    if (self.sealed) refuse(503, 'Vault is sealed');
    if (mode.how === 'throttled' && isMet(true)) refuse(429, `request path "${path}": rate limit quota exceeded`);
    if (mode.how === 'failing' && isMet(true)) refuse(mode.met % 2 === 0 ? 503 : 500, 'internal error');
    if (path === 'auth/token/lookup-self') {
      if (mode.how === 'expired' && mode.left > 0) refuse(403, 'permission denied');
      if (!self.tokens.has(token)) refuse(403, 'permission denied');
      return { data: { display_name: 'token' } };
    }
    if ((mode.how === 'expired' || mode.how === 'forbidden') && isMet(true))
      refuse(403, '1 error occurred:\n\t* permission denied\n\n');
    const login = /^auth\/(.+)\/login$/.exec(path);
    if (login) return logIn(login[1], body);

    const policy = self.tokens.get(token) ?? refuse(403, 'permission denied');
    const mountRead = /^sys\/internal\/ui\/mounts\/(.+)$/.exec(path)?.[1];
    if (mountRead !== undefined) {
      const mount = self.mounts.get(mountRead);
      const mayUse = Object.keys(policy).some((granted) => granted.startsWith(`${mountRead}/`));
      if (mount === undefined || !mayUse) {
        refuse(
          403,
          `preflight capability check returned 403, please ensure client's policies grant access to path "${mountRead}"`,
        );
      }
      return { data: { ...mount, accessor: 'transit_1', path: `${mountRead}/` } };
    }
    const [, mount = '', action = '', name = ''] = /^(.+)\/(keys|encrypt|decrypt)\/([^/]+)$/.exec(path) ?? [];
    const key = self.keys.get(`${mount}/${name}`);
    const wanted: Capability =
      method === 'GET' ? 'read' : action === 'encrypt' && key === undefined ? 'create' : 'update';
    if (policy[path]?.includes(wanted) !== true) refuse(403, '1 error occurred:\n\t* permission denied\n\n');
    if (!self.mounts.has(mount)) refuse(404, `no handler for route "${path}". route entry not found.`);
    const isGone = mode.how === 'missing' && isMet(true);
    const isDeleted = mode.how === 'disabled' && isMet(true);
    if (action === 'keys') return readKey(name, isGone ? undefined : key, isDeleted);
    if (isGone) refuse(400, 'encryption key not found');
    if (isDeleted) refuse(400, 'refusing to use soft-deleted key');
    if (action === 'encrypt') return encrypt(key ?? upsert(`${mount}/${name}`), body);
    return decrypt(key ?? refuse(400, 'encryption key not found'), body);
  }

  function logIn(
    mount: string | undefined,
    { role_id: roleId = '', secret_id: secretId = '' }: Record<string, string>,
  ) {
    const role = mount === 'approle' ? self.roles.get(roleId) : undefined;
    if (role?.secretId !== secretId) throw new Answer(400, { errors: ['invalid role or secret ID'] });
    role.logins++;
    const token = `hvs.${randomUUID()}`;
    self.tokens.set(token, role.policy);
    return { auth: { client_token: token, lease_duration: role.leaseSeconds, renewable: true } };
  }

  function upsert(name: string): TransitKey {
    const key = newKey();
    self.keys.set(name, key);
    return key;
  }

  await self.start();
  return self;
}

function readKey(name: string, key: TransitKey | undefined, isDeleted: boolean): unknown {
  if (key === undefined) return refuse(404);
  return {
    data: {
      ...{ name, type: key.type, derived: key.derived, exportable: false, latest_version: key.versions.length },
      ...{ min_decryption_version: key.minDecryptionVersion, min_encryption_version: 0 },
      soft_deleted: key.softDeleted || isDeleted,
      keys: Object.fromEntries(key.versions.map((_, at) => [String(at + 1), 1_800_000_000 + at])),
    },
  };
}

function encrypt(key: TransitKey, { plaintext = '', associated_data: aad = '' }: Record<string, string>): unknown {
  if (key.softDeleted) refuse(400, 'refusing to use soft-deleted key');
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key.versions.at(-1) ?? Buffer.alloc(32), nonce);
  cipher.setAAD(Buffer.from(aad, 'base64'));
  const bytes = [nonce, cipher.update(Buffer.from(plaintext, 'base64')), cipher.final(), cipher.getAuthTag()];
  const version = key.versions.length;
  return {
    data: { ciphertext: `vault:v${String(version)}:${Buffer.concat(bytes).toString('base64')}`, key_version: version },
  };
}

function decrypt(key: TransitKey, { ciphertext = '', associated_data: aad = '' }: Record<string, string>): unknown {
  if (key.softDeleted) refuse(400, 'refusing to use soft-deleted key');
  if (!ciphertext.startsWith('vault:v')) refuse(400, 'invalid ciphertext: no prefix');
  const [version = '', encoded] = ciphertext.slice('vault:v'.length).split(':');
  if (encoded === undefined) return refuse(400, 'invalid ciphertext: wrong number of fields');
  if (!/^\d+$/.test(version)) refuse(400, 'invalid ciphertext: version number could not be decoded');
  if (Number(version) > key.versions.length) refuse(400, 'invalid ciphertext: version is too new');
  if (Number(version) < key.minDecryptionVersion) {
    refuse(400, 'ciphertext or signature version is disallowed by policy (too old)');
  }
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length < 12) refuse(400, 'invalid ciphertext length');
  try {
    const decipher = createDecipheriv(
      'aes-256-gcm',
      key.versions[Number(version) - 1] ?? Buffer.alloc(32),
      bytes.subarray(0, 12),
      {
        authTagLength: 16,
      },
    );
    decipher.setAAD(Buffer.from(aad, 'base64'));
    decipher.setAuthTag(bytes.subarray(-16));
    const plaintext = Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    return { data: { plaintext: plaintext.toString('base64') } };
  } catch {
    return refuse(400, 'cipher: message authentication failed');
  }
}
