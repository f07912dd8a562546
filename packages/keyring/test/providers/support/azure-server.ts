/**
 * Azure as far as the provider asks: an Entra ID that gives tokens for a client secret, Key Vault (RSA) and Managed HSM (AES),
 * behind one proxy, under their real names and over TLS. Challenges, real RSA and AES-GCM, Key Vault's own errors. Written
 * from the REST reference; it is not Azure.
 */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  generateKeyPairSync,
  type KeyPairKeyObjectResult,
  privateDecrypt,
  privateEncrypt,
  publicDecrypt,
  publicEncrypt,
  randomBytes,
  randomUUID,
  type KeyObject,
} from 'node:crypto';
import { startLocalServer, type Answer, type LocalServer, type ReceivedRequest } from './local-server.ts';
import { encodePss, isPss } from './pss.ts';
import { selfSigned } from './self-signed.ts';

export interface AzureVersion {
  readonly version: string;
  readonly kind: 'RSA' | 'EC' | 'oct-HSM';
  readonly pair?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  readonly secret?: Buffer;
  enabled: boolean;
  expired: boolean;
  operations: string[];
}

export interface AzureKey {
  readonly host: string;
  readonly name: string;
  /** The newest last. */
  readonly versions: AzureVersion[];
  /** Soft-deleted: gone, and recoverable. */
  deleted: boolean;
}

export interface AzureServer extends LocalServer {
  /** For HTTPS_PROXY. */
  readonly proxy: string;
  /** Of the authority that its clients have to trust. */
  readonly cert: string;
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly tokens: string[];
  readonly createKey: (host: string, kind?: AzureVersion['kind']) => AzureKey;
  readonly rotateKey: (key: AzureKey) => AzureVersion;
  readonly error: (status: number, code: string, message: string, inner?: string) => Answer;
  /** Operations that a role does not allow, such as `wrapkey` or `get`. */
  readonly denied: Set<string>;
  /** What anybody can do who has seen the public key. */
  readonly encryptWithPublicKey: (key: AzureKey, bytes: Buffer) => Buffer;
  /** What was asked of vaults: method and path. */
  readonly asked: string[];
  /** Digests that were to be verified. */
  readonly digests: Buffer[];
}

export const VAULT = 'keyring-test.vault.azure.net';
export const HSM = 'keyring-test.managedhsm.azure.net';
const LOGIN = 'login.microsoftonline.com';

export async function startAzure(): Promise<AzureServer> {
  const tls = selfSigned([VAULT, HSM, 'other-test.vault.azure.net', LOGIN]);
  const tenantId = randomUUID();
  const clientId = randomUUID();
  const clientSecret = `test-only-${randomBytes(20).toString('base64url')}`;
  const tokens: string[] = [];
  const audiences = new Map<string, string>();
  const keys: AzureKey[] = [];
  const denied = new Set<string>();
  const asked: string[] = [];
  const digests: Buffer[] = [];

  const server = await startLocalServer(
    (request) => {
      try {
        return request.headers['host'] === LOGIN ? login(request) : vault(request);
      } catch (refusal) {
        if (refusal instanceof Refusal) return refusal.answer;
        throw refusal;
      }
    },
    { tls },
  );

  function login({ method, url, body }: ReceivedRequest): Answer {
    const authority = `https://${LOGIN}/${tenantId}`;
    if (method === 'GET' && url.pathname === `/${tenantId}/v2.0/.well-known/openid-configuration`) {
      return {
        status: 200,
        body: {
          issuer: `${authority}/v2.0`,
          authorization_endpoint: `${authority}/oauth2/v2.0/authorize`,
          token_endpoint: `${authority}/oauth2/v2.0/token`,
          jwks_uri: `${authority}/discovery/v2.0/keys`,
        },
      };
    }
    const form = new URLSearchParams(body.toString());
    const isRight =
      method === 'POST' &&
      url.pathname === `/${tenantId}/oauth2/v2.0/token` &&
      form.get('grant_type') === 'client_credentials' &&
      form.get('client_id') === clientId;
    if (!isRight) return { status: 404 };
    if (form.get('client_secret') !== clientSecret) {
      return {
        status: 401,
        body: {
          error: 'invalid_client',
          error_description: 'AADSTS7000215: Invalid client secret provided.',
          error_codes: [7_000_215],
        },
      };
    }
    const token = `test-token-${randomBytes(24).toString('base64url')}`;
    tokens.push(token);
    audiences.set(token, form.get('scope') ?? '');
    return { status: 200, body: { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599, access_token: token } };
  }

  function vault(request: ReceivedRequest): Answer {
    const host = request.headers['host'] ?? '';
    if (!/\.(vault|managedhsm)\.azure\.net$/.test(host)) return { status: 404 };
    const resource = host.endsWith('.managedhsm.azure.net')
      ? 'https://managedhsm.azure.net'
      : 'https://vault.azure.net';
    const token = /^Bearer (.+)$/.exec(request.headers['authorization'] ?? '')?.[1] ?? '';
    if (audiences.get(token) !== `${resource}/.default`) {
      const challenge = `Bearer authorization="https://${LOGIN}/${tenantId}", resource="${resource}"`;
      return {
        ...error(401, 'Unauthorized', 'AKV10000: Request is missing a Bearer or PoP token.'),
        headers: { 'www-authenticate': challenge },
      };
    }
    if (!/^7\.\d|^20\d\d-\d\d-\d\d$/.test(request.url.searchParams.get('api-version') ?? '')) {
      throw new Refusal(error(400, 'BadParameter', 'The api-version is missing.'));
    }
    asked.push(`${request.method} ${request.url.pathname}`);
    const [, name = '', version = '', operation = 'get'] =
      /^\/keys\/([^/]+)(?:\/([^/]*))?(?:\/([a-z]+))?$/.exec(request.url.pathname) ?? [];
    if (denied.has(operation)) {
      const message = `Caller is not authorized to perform action on resource. Action: 'Microsoft.KeyVault/vaults/keys/${operation}'`;
      throw new Refusal(error(403, 'Forbidden', message, 'ForbiddenByRbac'));
    }
    const key = keys.find((one) => one.host === host && one.name === name.toLowerCase() && !one.deleted);
    const found = version === '' ? key?.versions.at(-1) : key?.versions.find((one) => one.version === version);
    if (key === undefined || found === undefined) {
      const message = `A key with (name/id) ${name}/${version} was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command.`;
      throw new Refusal(error(404, 'KeyNotFound', message));
    }
    const kid = `https://${host}/keys/${name}/${found.version}`;
    if (operation === 'get') return { status: 200, body: bundle(found, kid) };
    const input = JSON.parse(request.body.toString()) as Record<string, string>;
    if (operation === 'verify') digests.push(Buffer.from(input['digest'] ?? '', 'base64url'));
    return { status: 200, body: { kid, ...perform(found, operation, input) } };
  }

  const azure: AzureServer = {
    ...server,
    proxy: `http://127.0.0.1:${String(server.port)}`,
    cert: tls.cert,
    tenantId,
    clientId,
    clientSecret,
    tokens,
    createKey(host, kind = host === HSM ? 'oct-HSM' : 'RSA') {
      const key: AzureKey = { host, name: `root-${randomBytes(4).toString('hex')}`, versions: [], deleted: false };
      key.versions.push(newVersion(kind));
      keys.push(key);
      return key;
    },
    rotateKey(key) {
      const version = newVersion(key.versions[0]?.kind ?? 'RSA');
      key.versions.push(version);
      return version;
    },
    encryptWithPublicKey: ({ versions }, bytes) =>
      publicEncrypt({ key: need(versions[0]?.pair).publicKey, ...oaep }, bytes),
    error,
    denied,
    asked,
    digests,
  };
  return azure;
}

function bundle({ kind, pair, enabled, expired, operations }: AzureVersion, kid: string): unknown {
  const jwk = pair?.publicKey.export({ format: 'jwk' });
  const now = Math.floor(Date.now() / 1000);
  return {
    key: { kid, kty: kind, key_ops: operations, n: jwk?.n, e: jwk?.e },
    attributes: {
      enabled,
      created: now - 7200,
      updated: now - 7200,
      ...(expired ? { exp: now - 3600 } : {}),
      recoveryLevel: 'Recoverable+Purgeable',
    },
  };
}

const names: Readonly<Record<string, string>> = { wrapkey: 'wrapKey', unwrapkey: 'unwrapKey' };

function perform(key: AzureVersion, operation: string, input: Readonly<Record<string, string>>): object {
  const opens = ['unwrapkey', 'decrypt', 'verify'].includes(operation);
  const isSecret = ['unwrapkey', 'decrypt', 'sign'].includes(operation) || key.kind === 'oct-HSM';
  if (!key.enabled && isSecret) forbid(`Operation ${operation} is not allowed on a disabled key.`, 'KeyDisabled');
  if (key.expired && !opens) forbid(`Operation ${operation} is not allowed on an expired key.`, 'KeyExpired');
  if (!key.operations.includes(names[operation] ?? operation)) {
    forbid(`Operation ${operation} is not permitted on this key.`, 'KeyOperationForbidden');
  }
  const value = Buffer.from(input['value'] ?? input['signature'] ?? '', 'base64url');
  const run = (key.kind === 'RSA' ? rsa : key.kind === 'oct-HSM' ? aes : {})[`${operation} ${input['alg'] ?? ''}`];
  if (run === undefined)
    throw new Refusal(error(400, 'BadParameter', 'Key and signing key properties are incompatible.'));
  try {
    return run(key, value, input);
  } catch {
    throw new Refusal(error(400, 'BadParameter', 'The parameter is incorrect.\r\n'));
  }
}

type Operation = (key: AzureVersion, value: Buffer, input: Readonly<Record<string, string>>) => object;
const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };

const rsa: Readonly<Record<string, Operation>> = {
  'wrapkey RSA-OAEP-256': ({ pair }, value) => ({
    value: text(publicEncrypt({ key: need(pair).publicKey, ...oaep }, value)),
  }),
  'unwrapkey RSA-OAEP-256': ({ pair }, value) => ({
    value: text(privateDecrypt({ key: need(pair).privateKey, ...oaep }, value)),
  }),
  'sign PS256': ({ pair }, digest) => {
    const { privateKey } = need(pair);
    return {
      value: text(privateEncrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, encodePss(digest, 256))),
    };
  },
  'verify PS256': ({ pair }, signature, { digest = '' }) => {
    const { publicKey } = need(pair);
    const encoded = publicDecrypt({ key: publicKey, padding: constants.RSA_NO_PADDING }, signature);
    return { value: isPss(Buffer.from(digest, 'base64url'), encoded) };
  },
};

const aes: Readonly<Record<string, Operation>> = {
  'encrypt A256GCM': ({ secret }, value, { aad = '' }) => {
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', need(secret), iv).setAAD(Buffer.from(aad, 'base64url'));
    const body = Buffer.concat([cipher.update(value), cipher.final()]);
    return { value: text(body), iv: text(iv), tag: text(cipher.getAuthTag()), aad };
  },
  'decrypt A256GCM': ({ secret }, value, { aad = '', iv = '', tag = '' }) => {
    const decipher = createDecipheriv('aes-256-gcm', need(secret), Buffer.from(iv, 'base64url'), { authTagLength: 16 })
      .setAAD(Buffer.from(aad, 'base64url'))
      .setAuthTag(Buffer.from(tag, 'base64url'));
    return { value: text(Buffer.concat([decipher.update(value), decipher.final()])) };
  },
};
const rsaPairs: KeyPairKeyObjectResult[] = [];
let rsaVersions = 0;

/** Each takes a fifth of a second to make: they come in turns. No test has more than these. */
function nextRsaPair(): KeyPairKeyObjectResult {
  return (rsaPairs[rsaVersions++ % 8] ??= generateKeyPairSync('rsa', { modulusLength: 2048 }));
}

function newVersion(kind: AzureVersion['kind']): AzureVersion {
  const version = randomUUID().replaceAll('-', '');
  const common = { version, kind, enabled: true, expired: false };
  if (kind === 'oct-HSM') {
    return { ...common, secret: randomBytes(32), operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] };
  }
  const pair = kind === 'RSA' ? nextRsaPair() : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const operations =
    kind === 'RSA' ? ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'] : ['sign', 'verify'];
  return { ...common, pair, operations };
}

function forbid(message: string, inner: string): never {
  throw new Refusal(error(403, 'Forbidden', message, inner));
}

function error(status: number, code: string, message: string, inner?: string): Answer {
  const innererror = inner === undefined ? {} : { innererror: { code: inner } };
  return {
    status,
    headers: { 'x-ms-request-id': 'test-request-id' },
    body: { error: { code, message, ...innererror } },
  };
}

function text(bytes: Buffer): string {
  return bytes.toString('base64url');
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('no such key');
  return value;
}

class Refusal extends Error {
  readonly answer: Answer;

  constructor(answer: Answer) {
    super('refused');
    this.answer = answer;
  }
}
