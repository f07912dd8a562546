/**
 * A vendor's PKCS #11 library, loaded once per process: calls one after the other, because a session does one thing at a time
 * and the library may be finalized only while nothing runs in it. Calls into it block the event loop, encryption and decryption
 * excepted, which run beside it.
 */
import { KeyringError } from '../errors.ts';
import { loadClient } from './client.ts';
import type { Failure } from './failure.ts';

/** The little that is used of `pkcs11js`: PKCS #11 2.40, handles as buffers. */
export interface Library {
  load(path: string): void;
  C_Initialize(options: { readonly flags: number }): void;
  C_Finalize(): void;
  C_GetSlotList(tokenPresent: boolean): Buffer[];
  C_GetTokenInfo(slot: Buffer): TokenInfo;
  C_OpenSession(slot: Buffer, flags: number): Buffer;
  C_CloseSession(session: Buffer): void;
  C_GetSessionInfo(session: Buffer): { readonly state: number };
  C_Login(session: Buffer, userType: number, pin: string): void;
  C_FindObjectsInit(session: Buffer, template: readonly Attribute[]): void;
  C_FindObjects(session: Buffer, most: number): Buffer[];
  C_FindObjectsFinal(session: Buffer): void;
  C_GetAttributeValue(session: Buffer, object: Buffer, template: readonly { readonly type: number }[]): Attribute[];
  C_GenerateKey(session: Buffer, mechanism: Mechanism, template: readonly Attribute[]): Buffer;
  C_EncryptInit(session: Buffer, mechanism: Mechanism, key: Buffer): void;
  C_EncryptAsync(session: Buffer, input: Buffer, output: Buffer): Promise<Buffer>;
  C_DecryptInit(session: Buffer, mechanism: Mechanism, key: Buffer): void;
  C_DecryptAsync(session: Buffer, input: Buffer, output: Buffer): Promise<Buffer>;
}

export interface TokenInfo {
  readonly label: string;
  readonly manufacturerID: string;
  readonly model: string;
  readonly serialNumber: string;
  readonly flags: number;
}

export interface Attribute {
  readonly type: number;
  readonly value: Buffer | string | number | boolean;
}

export interface Mechanism {
  readonly mechanism: number;
  readonly parameter?: unknown;
}

export interface Module {
  readonly path: string;
  /** Goes up whenever every session and handle has become worthless. */
  readonly generation: number;
  /** Runs `work` when nothing else runs in the library; not at all when `signal` is aborted by then. */
  use<T>(signal: AbortSignal | undefined, work: (library: Library) => Promise<T> | T): Promise<T>;
  /** Begins anew with the library: some notice a token that is back, or a network, only then. Call it inside `use`. */
  reset(): void;
}

const CKF_OS_LOCKING_OK = 0x02;
const CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191;

const modules = new Map<string, Promise<Module>>();

/**
 * The library at `path`, loaded and initialized.
 * @throws KeyringError `unsupported_root_key` when `pkcs11js` or the library cannot be loaded.
 */
export function openModule(path: string): Promise<Module> {
  const opened = modules.get(path) ?? load(path);
  modules.set(path, opened);
  opened.catch(() => modules.delete(path));
  return opened;
}

async function load(path: string): Promise<Module> {
  const { PKCS11 } = await loadClient('pkcs11js', () => import('pkcs11js'));
  const library = new PKCS11() as unknown as Library;
  try {
    library.load(path);
  } catch (error) {
    throw new KeyringError('unsupported_root_key', `The PKCS #11 library ${path} cannot be loaded.`, {
      remedy:
        "Install your HSM's library and name it by module-path: a shared library, for this machine, that exports C_GetFunctionList.",
      details: { path },
      cause: error,
    });
  }
  const isOurs = initialize(library);
  let generation = 0;
  let last: Promise<unknown> = Promise.resolve();
  return {
    path,
    get generation() {
      return generation;
    },
    use(signal, work) {
      const run = last.then(() => {
        signal?.throwIfAborted();
        return work(library);
      });
      last = run.catch(() => undefined);
      return run;
    },
    reset() {
      // Somebody else in this process initialized it, and has sessions of his own.
      if (!isOurs) return;
      generation++;
      library.C_Finalize();
      initialize(library);
    },
  };
}

/** Whether it was this call that did it. */
function initialize(library: Library): boolean {
  try {
    library.C_Initialize({ flags: CKF_OS_LOCKING_OK });
    return true;
  } catch (error) {
    if (codeOf(error) === CKR_CRYPTOKI_ALREADY_INITIALIZED) return false;
    throw error;
  }
}

/** The CKR_ number of what the library returned. */
export function codeOf(error: unknown): number | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}

/** A refusal that is told by us, not by the library. */
export class Pkcs11Refusal extends Error {
  override readonly name = 'Pkcs11Refusal';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.kind);
    this.failure = failure;
  }
}

const kinds: ReadonlyMap<number, Failure['kind']> = new Map([
  // CKR_PIN_INCORRECT, _INVALID, _LEN_RANGE, _EXPIRED, _LOCKED, CKR_USER_PIN_NOT_INITIALIZED
  ...[0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102].map((code) => [code, 'credentials'] as const),
  // CKR_MECHANISM_INVALID, _PARAM_INVALID, CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_SIZE_RANGE, CKR_KEY_FUNCTION_NOT_PERMITTED
  ...[0x70, 0x71, 0x63, 0x62, 0x68].map((code) => [code, 'unsuitable'] as const),
  // CKR_SLOT_ID_INVALID, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, _RECOGNIZED, CKR_SESSION_CLOSED, _HANDLE_INVALID,
  // CKR_USER_NOT_LOGGED_IN, CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID, CKR_CRYPTOKI_NOT_INITIALIZED
  ...[0x03, 0x32, 0xe0, 0xe1, 0xb0, 0xb3, 0x101, 0x82, 0x60, 0x190].map((code) => [code, 'network'] as const),
  // CKR_ENCRYPTED_DATA_INVALID, _LEN_RANGE, CKR_AEAD_DECRYPT_FAILED, CKR_DATA_INVALID, CKR_DATA_LEN_RANGE
  ...[0x40, 0x41, 0x42, 0x20, 0x21].map((code) => [code, 'undecryptable'] as const),
]);

/** What the matter is with a call, from what it threw. Everything that is not named above may be a fit of the device's. */
export function classifyPkcs11Error(error: unknown): Failure {
  if (error instanceof Pkcs11Refusal) return error.failure;
  const code = codeOf(error);
  if (code === undefined) return { kind: 'misunderstood' };
  const name =
    error instanceof Error && /^CKR_\w{1,60}$/.test(error.message) ? error.message : `0x${code.toString(16)}`;
  return { kind: kinds.get(code) ?? 'server', name };
}
