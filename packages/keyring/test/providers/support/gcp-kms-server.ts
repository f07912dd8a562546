/**
 * Google's Cloud KMS as far as the provider asks: Encrypt and Decrypt over REST (JSON transcoding), with real AES-256-GCM,
 * checksums, self-signed service account tokens that are verified, and errors as google.rpc.Status. Written from the API
 * reference; it is not Google's.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  verify,
} from 'node:crypto';
import { startLocalServer, type Answer, type LocalServer, type ReceivedRequest } from './local-server.ts';

export type GcpVersionState = 'ENABLED' | 'DISABLED' | 'DESTROY_SCHEDULED' | 'DESTROYED';

export interface GcpKey {
  readonly name: string;
  purpose: 'ENCRYPT_DECRYPT' | 'ASYMMETRIC_SIGN';
  /** The primary last. */
  readonly versions: { readonly number: number; readonly key: Buffer; state: GcpVersionState }[];
}

export interface GcpKmsServer extends LocalServer {
  /** For `?endpoint=`. */
  readonly url: string;
  /** The content of a service account's key file: what GOOGLE_APPLICATION_CREDENTIALS names. */
  readonly serviceAccount: Readonly<Record<string, string>>;
  readonly createKey: (name?: string) => GcpKey;
  readonly rotateKey: (key: GcpKey) => void;
  readonly error: (code: number, status: string, message: string, details?: unknown[]) => Answer;
  /** Permissions that the service account does not have. */
  readonly denied: Set<string>;
  /** Changes answers that would be right: damage on the way. */
  damage: ((answer: Record<string, unknown>) => Record<string, unknown>) | undefined;
}

const BLOB_HEAD = Buffer.of(0x0a, 0x24, 0x00);
const RING = 'projects/meshhook-test/locations/europe-west1/keyRings/keyring';

export async function startGcpKms(): Promise<GcpKmsServer> {
  const keys = new Map<string, GcpKey>();
  const denied = new Set<string>();
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const serviceAccount = {
    type: 'service_account',
    project_id: 'meshhook-test',
    private_key_id: randomBytes(20).toString('hex'),
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    client_email: 'keyring-test@meshhook-test.iam.gserviceaccount.com',
    client_id: '1',
    universe_domain: 'googleapis.com',
  };

  const server = await startLocalServer((request) => {
    try {
      return answer(request);
    } catch (refusal) {
      if (refusal instanceof Refusal) return refusal.answer;
      throw refusal;
    }
  });

  function answer(request: ReceivedRequest): Answer {
    const token = /^Bearer (.+)$/.exec(request.headers['authorization'] ?? '')?.[1];
    if (
      token === undefined ||
      !isTokenOf(serviceAccount, createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })), token)
    ) {
      throw new Refusal(
        error(
          401,
          'UNAUTHENTICATED',
          'Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.',
        ),
      );
    }
    const [, name = '', verb = ''] = /^\/v1\/(.+):(encrypt|decrypt)$/.exec(request.url.pathname) ?? [];
    if (request.method !== 'POST' || verb === '' || request.headers['content-type'] !== 'application/json') {
      return {
        status: 404,
        headers: { 'content-type': 'text/html' },
        body: '<!DOCTYPE html><title>Error 404 (Not Found)</title>',
      };
    }
    // Cloud KMS routes by it.
    if (request.headers['x-goog-request-params'] !== `name=${encodeURIComponent(name)}`) {
      throw new Refusal(error(400, 'INVALID_ARGUMENT', 'Missing routing header.'));
    }
    const permission = `cloudkms.cryptoKeyVersions.${verb === 'encrypt' ? 'useToEncrypt' : 'useToDecrypt'}`;
    if (denied.has(permission)) {
      throw new Refusal(
        error(
          403,
          'PERMISSION_DENIED',
          `Permission '${permission}' denied on resource '${name}' (or it may not exist).`,
        ),
      );
    }
    const key = keys.get(name);
    if (key === undefined) throw new Refusal(error(404, 'NOT_FOUND', `CryptoKey ${name} not found.`));
    if (key.purpose !== 'ENCRYPT_DECRYPT') {
      throw new Refusal(
        error(400, 'FAILED_PRECONDITION', `${name} has purpose ${key.purpose}, which does not support this operation.`),
      );
    }
    const input = JSON.parse(request.body.toString()) as Record<string, string>;
    const right = verb === 'encrypt' ? encrypt(key, input) : decrypt(key, input);
    return { status: 200, body: kms.damage === undefined ? right : kms.damage(right) };
  }

  const kms: GcpKmsServer = {
    ...server,
    url: `http://127.0.0.1:${String(server.port)}`,
    serviceAccount,
    createKey(name = `root-${randomBytes(4).toString('hex')}`) {
      const key: GcpKey = { name: `${RING}/cryptoKeys/${name}`, purpose: 'ENCRYPT_DECRYPT', versions: [] };
      kms.rotateKey(key);
      keys.set(key.name, key);
      return key;
    },
    rotateKey(key) {
      key.versions.push({ number: key.versions.length + 1, key: randomBytes(32), state: 'ENABLED' });
    },
    error,
    denied,
    damage: undefined,
  };
  return kms;
}

function encrypt(key: GcpKey, input: Readonly<Record<string, string>>): Record<string, unknown> {
  const plaintext = checked(input, 'plaintext', 'plaintextCrc32c');
  const aad = checked(input, 'additionalAuthenticatedData', 'additionalAuthenticatedDataCrc32c');
  const version = usable(key, key.versions.at(-1));
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', version.key, iv).setAAD(aad);
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const ciphertext = Buffer.concat([BLOB_HEAD, Buffer.of(version.number), iv, cipher.getAuthTag(), body]);
  return {
    name: `${key.name}/cryptoKeyVersions/${String(version.number)}`,
    ciphertext: ciphertext.toString('base64'),
    ciphertextCrc32c: String(slowCrc32c(ciphertext)),
    verifiedPlaintextCrc32c: input['plaintextCrc32c'] !== undefined,
    verifiedAdditionalAuthenticatedDataCrc32c: input['additionalAuthenticatedDataCrc32c'] !== undefined,
    protectionLevel: 1,
  };
}

function decrypt(key: GcpKey, input: Readonly<Record<string, string>>): Record<string, unknown> {
  const ciphertext = checked(input, 'ciphertext', 'ciphertextCrc32c');
  const aad = checked(input, 'additionalAuthenticatedData', 'additionalAuthenticatedDataCrc32c');
  const found = key.versions.find(({ number }) => number === ciphertext[3]);
  if (found === undefined || ciphertext.length < 32 || !ciphertext.subarray(0, 3).equals(BLOB_HEAD)) {
    throw new Refusal(
      error(400, 'INVALID_ARGUMENT', "Decryption failed: verify that 'name' refers to the correct CryptoKey."),
    );
  }
  const version = usable(key, found);
  try {
    const decipher = createDecipheriv('aes-256-gcm', version.key, ciphertext.subarray(4, 16))
      .setAAD(aad)
      .setAuthTag(ciphertext.subarray(16, 32));
    const plaintext = Buffer.concat([decipher.update(ciphertext.subarray(32)), decipher.final()]);
    return {
      plaintext: plaintext.toString('base64'),
      plaintextCrc32c: String(slowCrc32c(plaintext)),
      usedPrimary: version === key.versions.at(-1),
      protectionLevel: 1,
    };
  } catch {
    throw new Refusal(error(400, 'INVALID_ARGUMENT', 'Decryption failed: the ciphertext is invalid.'));
  }
}

function usable(key: GcpKey, version: GcpKey['versions'][number] | undefined): GcpKey['versions'][number] {
  const subject = `${key.name}/cryptoKeyVersions/${String(version?.number)}`;
  if (version?.state === 'ENABLED') return version;
  const state = version?.state ?? 'DESTROYED';
  const type =
    state === 'DESTROYED' ? 'KEY_DESTROYED' : state === 'DISABLED' ? 'KEY_DISABLED' : 'KEY_DESTROY_SCHEDULED';
  throw new Refusal(
    error(400, 'FAILED_PRECONDITION', `${subject} is not enabled, current state is: ${state}.`, [
      { '@type': 'type.googleapis.com/google.rpc.PreconditionFailure', violations: [{ type, subject }] },
    ]),
  );
}

function checked(input: Readonly<Record<string, string>>, field: string, checksum: string): Buffer {
  const bytes = Buffer.from(input[field] ?? '', 'base64');
  const given = input[checksum];
  if (given === undefined || Number(given) === slowCrc32c(bytes)) return bytes;
  throw new Refusal(
    error(400, 'INVALID_ARGUMENT', `The checksum in field ${checksum} did not match the data in field ${field}.`),
  );
}

/** Bit by bit, apart from the code that is tested. */
export function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** A self-signed JWT of a service account (Google's AIP-4111), within its hour, for all of the cloud or for Cloud KMS. */
function isTokenOf(
  account: Readonly<Record<string, string>>,
  key: ReturnType<typeof createPublicKey>,
  token: string,
): boolean {
  const [head = '', claims = '', signature = '', ...rest] = token.split('.');
  if (
    rest.length > 0 ||
    !verify('sha256', Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, 'base64url'))
  ) {
    return false;
  }
  const json = (part: string): Record<string, unknown> =>
    JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
  const { alg, kid } = json(head);
  const { iss, sub, iat, exp, aud, scope } = json(claims);
  const now = Date.now() / 1000;
  const isFor =
    aud === 'https://cloudkms.googleapis.com/' ||
    String(scope).includes('/auth/cloudkms') ||
    String(scope).includes('/auth/cloud-platform');
  return (
    alg === 'RS256' &&
    kid === account['private_key_id'] &&
    iss === account['client_email'] &&
    sub === account['client_email'] &&
    Number(iat) <= now + 60 &&
    Number(exp) > now &&
    isFor
  );
}

class Refusal extends Error {
  readonly answer: Answer;

  constructor(answer: Answer) {
    super('refused');
    this.answer = answer;
  }
}

function error(code: number, status: string, message: string, details?: unknown[]): Answer {
  return { status: code, body: { error: { code, message, status, ...(details === undefined ? {} : { details }) } } };
}
