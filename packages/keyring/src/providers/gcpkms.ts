/**
 * `gcpkms:` root keys: a symmetric key of Google's Cloud KMS, which never leaves it. Configuration, permissions and failures
 * are in `docs/providers/gcpkms.md`.
 */
import type { KeyManagementServiceClient } from '@google-cloud/kms';
import { resourceFingerprint } from '../envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { KEY_BYTES } from '../secret-bytes.ts';
import { invalidUri } from './client.ts';
import { endpointOf, parseCloudUri, type CloudUriForm } from './cloud-uri.ts';
import { crc32c } from './crc32c.ts';
import type { Failure } from './failure.ts';
import { gcpConnector } from './gcpkms-client.ts';
import { DamagedInTransit, gcpFailure, gcpRemedies } from './gcpkms-failure.ts';
import { UnexpectedAnswer } from './network-failure.ts';
import type { RootKeyProvider } from './provider.ts';
import type { OpenRootKeyOptions } from './registry.ts';
import { remoteRootKey, type RemoteCiphertext, type RemoteKey } from './remote-root-key.ts';
import { patientCaller, resolveRemoteOptions } from './remote.ts';

const form = {
  scheme: 'gcpkms',
  parameters: ['endpoint'],
  remedy:
    'Write gcpkms://projects/PROJECT-ID/locations/LOCATION/keyRings/RING/cryptoKeys/KEY. Credentials are Application Default Credentials.',
} satisfies CloudUriForm;

// A project's id begins with a letter, behind the domain it may belong to; its number is another name of it.
const KEY_NAME =
  /^projects\/(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{3,61}\/locations\/[a-z0-9-]{1,63}\/keyRings\/[A-Za-z0-9_-]{1,63}\/cryptoKeys\/[A-Za-z0-9_-]{1,63}$/;

/**
 * The key that a `gcpkms:` URI names.
 * @throws KeyringError `invalid_argument`, which shows nothing of the URI.
 */
export function parseGcpkmsUri(uri: string): { readonly name: string; readonly endpoint: URL | undefined } {
  const { authority, path, parameters } = parseCloudUri(uri, form);
  const name = `${authority}/${path}`;
  if (name.includes('/cryptoKeyVersions/')) {
    throw invalidUri(form.scheme, 'names a version: Cloud KMS picks it, and remembers which it was', form.remedy);
  }
  if (/^projects\/[0-9]+\//.test(name)) {
    throw invalidUri(form.scheme, 'names the project by its number: one key would have two names', form.remedy);
  }
  if (!KEY_NAME.test(name)) throw invalidUri(form.scheme, 'names no key', form.remedy);
  return { name, endpoint: endpointOf(form, parameters) };
}

/**
 * Opens a key of Cloud KMS, and encrypts with it once.
 * @throws KeyringError `invalid_argument`, `unsupported_root_key` (the client library is not installed), `root_key_*` and
 *   `wrong_root_key` (a key of another kind).
 */
export async function openGcpkmsRootKey(uri: string, options: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const { name, endpoint } = parseGcpkmsUri(uri);
  const { attemptTimeoutMs } = resolveRemoteOptions(options.remote ?? {});
  const connect = await gcpConnector(endpoint, attemptTimeoutMs);
  const call = patientCaller({ name: 'Cloud KMS', uri, remedies: gcpRemedies }, classify, options.remote);
  const client = await call(() => at('encrypt', connect));
  const key: RemoteKey = {
    scheme: 'gcpkms',
    uri,
    fingerprint: resourceFingerprint('gcpkms', name),
    encrypt: (bytes, aad, signal) => at('encrypt', () => encrypt(client, name, bytes, aad, signal)),
    decrypt({ resource, ciphertext }, aad, signal) {
      if (resource !== '') throw decryptionFailed();
      return at('decrypt', () => decrypt(client, name, ciphertext, aad, signal));
    },
  };
  // That it encrypts says more than its description would, and needs no further permission.
  const probe = call((signal) => key.encrypt(new Uint8Array(KEY_BYTES), Buffer.from('opening'), signal));
  await probe.catch((error: unknown) => {
    // That is the primary version: what others wrapped still opens.
    if (!(error instanceof KeyringError) || error.code !== 'root_key_disabled') throw error;
  });
  return remoteRootKey(key, call);
}

async function encrypt(
  client: KeyManagementServiceClient,
  name: string,
  plaintext: Uint8Array,
  aad: Uint8Array,
  signal: AbortSignal,
): Promise<RemoteCiphertext> {
  const request = { name, plaintext, plaintextCrc32c: { value: crc32c(plaintext) }, ...associated(aad) };
  const [response] = await client.encrypt(request, { ...once, signal });
  const ciphertext = bytesOf(response.ciphertext);
  if (!response.verifiedPlaintextCrc32c || !response.verifiedAdditionalAuthenticatedDataCrc32c) {
    throw new DamagedInTransit('The request was damaged on its way.');
  }
  expectChecksum(ciphertext, response.ciphertextCrc32c);
  if (!isVersionOf(name, response.name ?? '')) throw new UnexpectedAnswer('Encrypt used another key.');
  return { resource: '', ciphertext };
}

async function decrypt(
  client: KeyManagementServiceClient,
  name: string,
  ciphertext: Uint8Array,
  aad: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const request = { name, ciphertext, ciphertextCrc32c: { value: crc32c(ciphertext) }, ...associated(aad) };
  const [response] = await client.decrypt(request, { ...once, signal });
  const plaintext = bytesOf(response.plaintext);
  expectChecksum(plaintext, response.plaintextCrc32c);
  return plaintext;
}

// Attempts are counted in one place.
const once = { retry: null };

function associated(aad: Uint8Array): {
  additionalAuthenticatedData: Uint8Array;
  additionalAuthenticatedDataCrc32c: { value: number };
} {
  return { additionalAuthenticatedData: aad, additionalAuthenticatedDataCrc32c: { value: crc32c(aad) } };
}

/** What an attempt threw, and at which call. */
class FailedCall extends Error {
  readonly call: 'encrypt' | 'decrypt';

  constructor(call: 'encrypt' | 'decrypt', cause: unknown) {
    super(call, { cause });
    this.call = call;
  }
}

async function at<T>(call: 'encrypt' | 'decrypt', work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new FailedCall(call, error);
  }
}

function classify(error: unknown): Failure {
  return error instanceof FailedCall ? gcpFailure(error.call, error.cause) : { kind: 'misunderstood' };
}

function bytesOf(value: Uint8Array | string | null | undefined): Uint8Array {
  if (value === null || value === undefined) return new Uint8Array(0);
  return typeof value === 'string' ? Buffer.from(value, 'base64') : value;
}

function expectChecksum(bytes: Uint8Array, checksum: { value?: unknown } | null | undefined): void {
  if (checksum?.value === undefined || Number(checksum.value) !== crc32c(bytes)) {
    throw new DamagedInTransit('The answer was damaged on its way.');
  }
}

/** Whether it is a version of this key. Google may name the project by its number. */
function isVersionOf(name: string, version: string): boolean {
  const withoutProject = (text: string): string => text.replace(/^projects\/[^/]+\//, '');
  return withoutProject(version).startsWith(`${withoutProject(name)}/cryptoKeyVersions/`);
}
