/** What the matter is when Cloud KMS, or the library that fetches Google's credentials, says no. */
import type { Failure, FailureKind, Remedies } from './failure.ts';
import { networkFailure, unexpectedAnswer } from './network-failure.ts';

/** Damage on the way, found by a checksum: Google asks to discard the answer and try again a few times. */
export class DamagedInTransit extends Error {
  override readonly name = 'DamagedInTransit';
}

// Numbers of google.rpc.Code. What is not here was not understood.
const kinds: Readonly<Record<number, FailureKind>> = {
  2: 'server',
  3: 'unsuitable',
  4: 'timeout',
  5: 'missing',
  7: 'forbidden',
  8: 'throttled',
  9: 'disabled',
  10: 'server',
  13: 'server',
  14: 'server',
  16: 'credentials',
};
const INVALID_ARGUMENT = 3;
const FAILED_PRECONDITION = 9;

/** For `patientCaller`. @param call which call it was: an invalid argument of a decryption is the ciphertext or its context. */
export function gcpFailure(call: 'encrypt' | 'decrypt', error: unknown): Failure {
  if (error instanceof DamagedInTransit) return { kind: 'server', name: error.name, said: error.message };
  if (!(error instanceof Error)) return { kind: 'misunderstood' };
  // First: what never arrived is called 14, unavailable, by the library.
  const common = networkFailure(error) ?? unexpectedAnswer(error);
  if (common !== undefined) return common;
  const code = (error as GoogleError).code;
  if (typeof code === 'number' && code in kinds) {
    const kind = kindOf(call, code, error.message);
    // Unauthenticated apart, Cloud KMS's messages name keys, permissions and projects, nothing else.
    return { kind, name: (error as GoogleError).reason, status: code, said: code === 16 ? undefined : error.message };
  }
  // An answer that is not Cloud KMS's own: a proxy's page.
  if (error instanceof SyntaxError) return { kind: 'server', name: error.name };
  const status = (error as GoogleError).response?.status;
  if (status !== undefined) return { kind: status >= 500 ? 'server' : 'credentials', name: error.name, status };
  if (/credential|token|authenticat/i.test(error.message)) return { kind: 'credentials', name: error.name };
  return { kind: 'misunderstood', name: error.name };
}

/** Of google-gax (`code`: google.rpc.Code) and of gaxios (`response`, when a token was asked for). */
interface GoogleError extends Error {
  readonly code?: unknown;
  readonly reason?: string;
  readonly response?: { readonly status?: number };
}

function kindOf(call: 'encrypt' | 'decrypt', code: number, message: string): FailureKind {
  if (code === INVALID_ARGUMENT && /crc32c|checksum/i.test(message)) return 'server';
  if (code === INVALID_ARGUMENT && call === 'decrypt') return 'undecryptable';
  if (code === FAILED_PRECONDITION && /purpose/i.test(message)) return 'unsuitable';
  return kinds[code] ?? 'misunderstood';
}

export const gcpRemedies: Remedies = {
  network:
    'Check the name and the route to Cloud KMS (cloudkms.googleapis.com, or what ?endpoint= names), then start again.',
  timeout:
    'Check the route to Cloud KMS, and that the metadata server answers where credentials come from it, then start again.',
  server: "Start again in a minute; look at Google Cloud's service health if it stays.",
  throttled: 'Start again in a minute; if it stays, raise the quota of cryptographic requests of the project.',
  credentials:
    'Give this process Application Default Credentials that are valid now (a service account attached to the machine, or GOOGLE_APPLICATION_CREDENTIALS); check the clock of the machine.',
  forbidden:
    'Grant the service account roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, and check that the Cloud KMS API is enabled in its project.',
  disabled:
    'Enable the version that it names, or restore it while its destruction is only scheduled (gcloud kms keys versions enable, restore); as long as it is off nothing can start.',
  missing: 'Check project, location, key ring and key: a key exists in its own location only.',
  unsuitable: 'Name a key with the purpose ENCRYPT_DECRYPT (symmetric encryption).',
  misunderstood: 'Start again; if it stays, report it with the name in the details.',
};
