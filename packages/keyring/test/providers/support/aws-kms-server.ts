/**
 * AWS KMS as far as the provider asks: Encrypt, Decrypt and DescribeKey of one region, over AWS JSON 1.1 with Signature
 * Version 4, with real AES-256-GCM and KMS's own names of errors. Written from the API reference; it is not AWS.
 */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import { startLocalServer, type Answer, type LocalServer, type ReceivedRequest } from './local-server.ts';
import { signatureProblem, type AwsCredentials } from './sigv4.ts';

export const AWS_ACCOUNT = '123456789012';

export type AwsKeyState = 'Enabled' | 'Disabled' | 'PendingDeletion' | 'PendingImport' | 'Unavailable';

/** Equal `backing` is equal key material: related multi-Region keys. */
export interface AwsKey {
  readonly arn: string;
  state: AwsKeyState;
  usage: 'ENCRYPT_DECRYPT' | 'SIGN_VERIFY';
  /** The newest last: automatic rotation adds one, and KMS keeps the others. */
  readonly backing: { readonly id: string; readonly key: Buffer }[];
}

export interface AwsKmsServer extends LocalServer {
  readonly url: string;
  readonly credentials: AwsCredentials;
  readonly createKey: (from?: { keyId?: string; backing?: AwsKey['backing'] }) => AwsKey;
  readonly rotateKey: (key: AwsKey) => void;
  readonly aliases: Map<string, AwsKey>;
  /** The error with KMS's own name, as every call would get it. */
  readonly error: (name: string, message?: string, status?: number) => Answer;
  /** Operations that an IAM policy does not allow. */
  readonly denied: Set<string>;
  /** What was asked, in order, without what was to be encrypted. */
  readonly sent: Record<string, unknown>[];
}

/** @param region what its keys and signatures belong to. */
export async function startAwsKms(region = 'eu-west-1'): Promise<AwsKmsServer> {
  const keys: AwsKey[] = [];
  const aliases = new Map<string, AwsKey>();
  const denied = new Set<string>();
  const sent: Record<string, unknown>[] = [];
  const credentials: AwsCredentials = {
    accessKeyId: 'AKIATESTONLYTESTONLY',
    secretAccessKey: randomBytes(30).toString('base64'),
    sessionToken: `test-session-${randomUUID()}`,
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
    const problem = signatureProblem(request, credentials, { region, service: 'kms' });
    if (problem !== undefined) {
      // AWS repeats what was to be signed, headers and all.
      const repeated = `The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:${request.headers['x-amz-security-token'] ?? ''}'`;
      throw new Refusal(error(problem, `${signatureMessages[problem]}\n\n${repeated}`));
    }
    const isWellFormed =
      request.method === 'POST' &&
      request.url.pathname === '/' &&
      request.headers['content-type'] === 'application/x-amz-json-1.1';
    const operation = /^TrentService\.([A-Za-z]+)$/.exec(request.headers['x-amz-target'] ?? '')?.[1];
    const run = operation === undefined ? undefined : operations[operation];
    if (!isWellFormed || run === undefined || operation === undefined) {
      throw new Refusal(error('UnknownOperationException'));
    }
    const input = JSON.parse(request.body.toString()) as Record<string, unknown>;
    sent.push({ ...input, Plaintext: undefined });
    const key = find(String(input['KeyId']));
    if (denied.has(operation)) {
      const who = `arn:aws:sts::${AWS_ACCOUNT}:assumed-role/keyring-test/session`;
      throw new Refusal(
        error(
          'AccessDeniedException',
          `User: ${who} is not authorized to perform: kms:${operation} on resource: ${key.arn} because no identity-based policy allows the kms:${operation} action`,
        ),
      );
    }
    return { status: 200, headers, body: run(key, input) };
  }

  function find(keyId: string): AwsKey {
    const arn = /^arn:aws:kms:([^:]+):\d+:(.+)$/.exec(keyId);
    if (arn !== null && arn[1] !== region) throw new Refusal(error('NotFoundException', `Invalid arn ${arn[1] ?? ''}`));
    const resource = arn === null ? keyId : (arn[2] ?? '');
    const alias = resource.startsWith('alias/') ? `arn:aws:kms:${region}:${AWS_ACCOUNT}:${resource}` : undefined;
    const found =
      alias === undefined
        ? keys.find((one) => one.arn.endsWith(`:key/${resource.replace(/^key\//, '')}`))
        : aliases.get(resource);
    if (found !== undefined) return found;
    const message =
      alias === undefined
        ? `Key 'arn:aws:kms:${region}:${AWS_ACCOUNT}:key/${resource.replace(/^key\//, '')}' does not exist`
        : `Alias ${alias} is not found.`;
    throw new Refusal(error('NotFoundException', message));
  }

  function usable(key: AwsKey): AwsKey {
    if (key.state === 'Disabled') throw new Refusal(error('DisabledException', `${key.arn} is disabled.`));
    if (key.state === 'Unavailable') throw new Refusal(error('KeyUnavailableException', undefined, 500));
    if (key.state !== 'Enabled') {
      const state = key.state === 'PendingDeletion' ? 'pending deletion' : 'pending import';
      throw new Refusal(error('KMSInvalidStateException', `${key.arn} is ${state}.`));
    }
    if (key.usage !== 'ENCRYPT_DECRYPT') {
      throw new Refusal(error('InvalidKeyUsageException', `${key.arn} key usage is SIGN_VERIFY.`));
    }
    return key;
  }

  const operations: Readonly<Record<string, (key: AwsKey, input: Record<string, unknown>) => unknown>> = {
    DescribeKey: (key) => ({
      KeyMetadata: {
        AWSAccountId: AWS_ACCOUNT,
        Arn: key.arn,
        KeyId: key.arn.split('/')[1],
        Enabled: key.state === 'Enabled',
        KeyState: key.state,
        KeyUsage: key.usage,
        KeySpec: 'SYMMETRIC_DEFAULT',
        KeyManager: 'CUSTOMER',
        Origin: 'AWS_KMS',
        MultiRegion: key.arn.includes(':key/mrk-'),
        CreationDate: 1_700_000_000.123,
      },
    }),
    Encrypt: (key, input) => {
      const { id, key: secret } = usable(key).backing.at(-1) ?? neverEmpty();
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', secret, iv).setAAD(contextBytes(input['EncryptionContext']));
      const body = Buffer.concat([cipher.update(Buffer.from(String(input['Plaintext']), 'base64')), cipher.final()]);
      const blob = Buffer.concat([BLOB_HEAD, Buffer.from(id, 'hex'), iv, cipher.getAuthTag(), body]);
      return { CiphertextBlob: blob.toString('base64'), KeyId: key.arn, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
    },
    Decrypt: (key, input) => {
      const blob = Buffer.from(String(input['CiphertextBlob']), 'base64');
      const id = blob.subarray(4, 20).toString('hex');
      const owner = keys.find((one) => one.backing.some((material) => material.id === id));
      if (owner === undefined || !blob.subarray(0, 4).equals(BLOB_HEAD))
        throw new Refusal(error('InvalidCiphertextException'));
      const secret = usable(key).backing.find((material) => material.id === id)?.key;
      if (secret === undefined) {
        throw new Refusal(
          error(
            'IncorrectKeyException',
            'The key ID in the request does not identify a CMK that can perform this operation.',
          ),
        );
      }
      try {
        const decipher = createDecipheriv('aes-256-gcm', secret, blob.subarray(20, 32))
          .setAAD(contextBytes(input['EncryptionContext']))
          .setAuthTag(blob.subarray(32, 48));
        const plaintext = Buffer.concat([decipher.update(blob.subarray(48)), decipher.final()]);
        return {
          Plaintext: plaintext.toString('base64'),
          KeyId: key.arn,
          EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        };
      } catch {
        throw new Refusal(error('InvalidCiphertextException'));
      }
    },
  };

  return {
    ...server,
    url: `http://127.0.0.1:${String(server.port)}`,
    credentials,
    createKey({ keyId = randomUUID(), backing = [newBacking()] } = {}) {
      const arn = `arn:aws:kms:${region}:${AWS_ACCOUNT}:key/${keyId}`;
      const key: AwsKey = { arn, state: 'Enabled', usage: 'ENCRYPT_DECRYPT', backing };
      keys.push(key);
      return key;
    },
    rotateKey(key) {
      key.backing.push(newBacking());
    },
    aliases,
    error,
    denied,
    sent,
  };
}

class Refusal extends Error {
  readonly answer: Answer;

  constructor(answer: Answer) {
    super('refused');
    this.answer = answer;
  }
}

const BLOB_HEAD = Buffer.from([1, 2, 2, 0]);

const headers = { 'content-type': 'application/x-amz-json-1.1', 'x-amzn-requestid': 'test-request-id' };

const signatureMessages = {
  MissingAuthenticationTokenException: 'Missing Authentication Token',
  UnrecognizedClientException: 'The security token included in the request is invalid.',
  InvalidSignatureException:
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
};

function error(name: string, message?: string, status = 400): Answer {
  return { status, headers, body: { __type: name, ...(message === undefined ? {} : { message }) } };
}

function newBacking(): AwsKey['backing'][number] {
  return { id: randomBytes(16).toString('hex'), key: randomBytes(32) };
}

/** The order of the pairs does not matter to KMS. */
function contextBytes(context: unknown): Buffer {
  return Buffer.from(JSON.stringify(Object.entries((context ?? {}) as Record<string, string>).sort()));
}

function neverEmpty(): never {
  throw new Error('A key has material.');
}
