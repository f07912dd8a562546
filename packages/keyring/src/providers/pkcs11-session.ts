/** Sessions with a token: finding it, and logging in without ever locking it. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { KeyringError } from '../errors.ts';
import { equalBytes } from '../secret-bytes.ts';
import type { Environment } from './client.ts';
import { classifyPkcs11Error, Pkcs11Refusal, type Library, type Module } from './pkcs11-module.ts';
import type { Pkcs11Place, PinSource, TokenAttribute } from './pkcs11-uri.ts';

// PKCS #11 2.40, `pkcs11t.h`.
const CKF = { serialSession: 0x4, rwSession: 0x2, loginRequired: 0x4, finalTry: 0x2_0000, locked: 0x4_0000 };
const CKU_USER = 1;
/** CKS_RO_USER_FUNCTIONS and CKS_RW_USER_FUNCTIONS. */
const LOGGED_IN: readonly number[] = [1, 3];

/**
 * PINs that a token has refused, hashed, by module and serial number: a PIN that is wrong is tried once in a process, since
 * tokens lock after a few.
 */
const refusedPins = new Map<string, Buffer>();

/** A session with the token that `place` names, logged in. Call it inside `module.use`. */
export async function openSession(
  ...[library, module, place, env, mode]: [Library, Module, Pkcs11Place, Environment, 'read' | 'readwrite']
): Promise<Buffer> {
  const slots = library.C_GetSlotList(true).map((slot) => ({ slot, info: library.C_GetTokenInfo(slot) }));
  const fitting = slots.filter(({ info }) => fits(namesOf(info), place));
  const [one] = fitting;
  if (one === undefined) {
    const others = slots.map(({ info }) => info.label.trim()).filter((label) => label !== '');
    throw new Pkcs11Refusal({ kind: 'network', said: `the tokens at hand are: ${others.join(', ') || 'none'}` });
  }
  if (fitting.length > 1)
    throw new Pkcs11Refusal({ kind: 'unsuitable', said: 'more than one token fits; name its serial=' });
  const pin = place.pin === undefined ? undefined : await readPin(place.pin, env);
  const session = library.C_OpenSession(one.slot, CKF.serialSession | (mode === 'readwrite' ? CKF.rwSession : 0));
  try {
    if (!LOGGED_IN.includes(library.C_GetSessionInfo(session).state))
      logIn(library, session, { module, ...one.info, pin });
    return session;
  } catch (error) {
    closeSession(library, session);
    throw error;
  }
}

export function closeSession(library: Library, session: Buffer): void {
  try {
    library.C_CloseSession(session);
  } catch {
    // It is gone already.
  }
}

function namesOf(info: ReturnType<Library['C_GetTokenInfo']>): Record<TokenAttribute, string> {
  const { label, manufacturerID, model, serialNumber } = info;
  return { token: label, manufacturer: manufacturerID, model, serial: serialNumber };
}

/** A token's names are padded with blanks. */
function fits(names: Record<TokenAttribute, string>, { token }: Pkcs11Place): boolean {
  return Object.entries(token).every(([name, value]) => names[name as TokenAttribute].trimEnd() === value.trimEnd());
}

interface Login {
  readonly module: Module;
  readonly serialNumber: string;
  readonly flags: number;
  readonly pin: string | undefined;
}

function logIn(library: Library, session: Buffer, { module, serialNumber, flags, pin }: Login): void {
  if ((flags & CKF.loginRequired) === 0) return;
  if (pin === undefined) throw new Pkcs11Refusal({ kind: 'credentials', said: 'no pin-source is named' });
  const problem = pinProblem(flags);
  if (problem !== undefined) throw new Pkcs11Refusal({ kind: 'credentials', ...problem });
  const token = `${module.path}\0${serialNumber}`;
  const hash = createHash('sha256').update(token).update(pin).digest();
  const refused = refusedPins.get(token);
  if (refused !== undefined && equalBytes(refused, hash)) {
    throw new Pkcs11Refusal({
      kind: 'credentials',
      name: 'CKR_PIN_INCORRECT',
      said: 'this PIN was refused before, and is not tried again',
    });
  }
  try {
    library.C_Login(session, CKU_USER, pin);
    refusedPins.delete(token);
  } catch (error) {
    if (classifyPkcs11Error(error).kind === 'credentials') refusedPins.set(token, hash);
    throw error;
  }
}

/** Why a PIN is not even tried, by the token's flags: a program that is restarted over and over must not use up the last try. */
export function pinProblem(flags: number): { readonly name: string; readonly said: string } | undefined {
  if ((flags & CKF.locked) !== 0) return { name: 'CKF_USER_PIN_LOCKED', said: 'the PIN is locked' };
  if ((flags & CKF.finalTry) === 0) return undefined;
  return { name: 'CKF_USER_PIN_FINAL_TRY', said: 'one wrong PIN more would lock the token, so none is tried' };
}

async function readPin(source: PinSource, env: Environment): Promise<string> {
  if ('variable' in source) {
    const pin = Object.hasOwn(env, source.variable) ? env[source.variable] : undefined;
    if (pin !== undefined && pin !== '') return pin;
    throw new Pkcs11Refusal({ kind: 'credentials', said: `the variable ${source.variable} of the PIN is not set` });
  }
  return readPinFile(source.file);
}

/** As strict about who may read it as about a root key file. */
async function readPinFile(path: string): Promise<string> {
  const file = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => {
    throw new Pkcs11Refusal({ kind: 'credentials', said: `the PIN file ${path} cannot be read` });
  });
  try {
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
      throw new KeyringError('root_key_permissions', `Others than its owner have access to the PIN file ${path}.`, {
        remedy: `Run \`chmod 600 ${path}\`; if others could read it, change the PIN.`,
        details: { path },
      });
    }
    const pin = size > 0 && size < 1_024 ? (await file.readFile('utf8')).replace(/\r?\n$/, '') : '';
    if (pin === '' || /[\r\n\0]/.test(pin)) {
      throw new Pkcs11Refusal({ kind: 'credentials', said: `the PIN file ${path} does not hold one line` });
    }
    return pin;
  } finally {
    await file.close();
  }
}
