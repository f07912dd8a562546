/** `file:` root keys: 32 bytes in a file that only its owner can read. `docs/spec/root-key-file.md`. */
import { constants } from 'node:fs';
import { open as openFile, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KeyringError } from '../errors.ts';
import { generateKey, rootFingerprint, wipe, type SecretKey } from '../secret-bytes.ts';
import { insecureRootKeyText, localRootKey, parseRootKey } from './local-root-key.ts';
import type { RootKeyProvider } from './provider.ts';

export interface FileRootKeyOptions {
  /** What a relative path starts from; the process's working directory when absent. */
  readonly cwd?: string;
}

const MAX_FILE_BYTES = 16_384;
const OWNER_ONLY = 0o600;
const GROUP_AND_OTHERS = 0o077;

const HEADER = `\
# The root key of a MeshHook Keyring. Every secret is encrypted under keys that only this key unlocks.
# If it is lost, every secret is lost with it: nobody can restore it. Keep a copy offline, apart from the database.
# Whoever has it and a copy of the database can read everything: never commit it, mail it or put it in an image.
`;

/**
 * The path that a `file:` URI names, absolute. `file:root.key`, `file:./root.key` and `file:/etc/root.key` are taken
 * letter for letter; `file:///etc/root.key` is a URL (RFC 8089), its percent-encoding decoded.
 * @param cwd what a relative path starts from.
 * @throws KeyringError `invalid_argument` for a host, a query, a fragment, or a URI that names no path.
 */
export function fileRootKeyPath(uri: string, cwd: string): string {
  const path = uri.startsWith('file:') ? uri.slice('file:'.length) : '';
  if (path === '' || /[?#]|%00/.test(path) || path.includes('\0')) throw notAPath(uri);
  if (!path.startsWith('//')) return resolve(cwd, path);
  if (!path.startsWith('///')) throw notAPath(uri);
  try {
    return fileURLToPath(uri);
  } catch {
    throw notAPath(uri);
  }
}

/**
 * Makes a new root key, in a new file that only its owner can read (mode 0600). When it resolves, file and directory
 * entry are on disk.
 * @returns the file's absolute path and the key's fingerprint (32 lower-case hex digits).
 * @throws KeyringError `root_key_exists` when there is anything at that path; it is never overwritten.
 * @throws KeyringError `root_key_unreadable` when the file cannot be written, `invalid_argument` for a bad URI.
 */
export async function createRootKeyFile(
  uri: string,
  options: FileRootKeyOptions = {},
): Promise<{ readonly path: string; readonly fingerprint: string }> {
  const path = fileRootKeyPath(uri, options.cwd ?? process.cwd());
  const file = await openFile(path, 'wx', OWNER_ONLY).catch((error: unknown) => {
    throw cannotCreate(path, error);
  });
  const key = generateKey();
  try {
    await writeKey(file, key);
    await syncDirectory(dirname(path));
  } catch (error) {
    // A file with half a key would be taken for one that was lost.
    await unlink(path).catch(() => undefined);
    throw cannotCreate(path, error);
  }
  return { path, fingerprint: rootFingerprint(key) };
}

/**
 * Opens the root key in a file. The file is read again at each call and the key not kept, so the provider is as
 * available as the file is: it notices when the file is gone, is readable for others, or holds another key.
 * @throws KeyringError `root_key_missing`, `root_key_permissions` (group or others have any access) or
 *   `root_key_unreadable` (not a root key file), each with its remedy; `invalid_argument` for a bad URI.
 */
export async function openFileRootKey(uri: string, options: FileRootKeyOptions = {}): Promise<RootKeyProvider> {
  const path = fileRootKeyPath(uri, options.cwd ?? process.cwd());
  return localRootKey({ uri, read: () => readKey(path), changed: () => changed(path) });
}

function changed(path: string): KeyringError {
  return new KeyringError(
    'wrong_root_key',
    `The root key file ${path} now holds another key than when it was opened.`,
    {
      remedy: 'Put the former key back: a new root key is a file of its own, not a new content of this one.',
      details: { path },
    },
  );
}

/** The key itself, for a backup. @throws KeyringError as `openFileRootKey` does. */
export function readFileRootKey(uri: string, options: FileRootKeyOptions = {}): Promise<SecretKey> {
  return readKey(fileRootKeyPath(uri, options.cwd ?? process.cwd()));
}

async function readKey(path: string): Promise<SecretKey> {
  // Non-blocking, so that a pipe at that path is refused instead of waited for.
  const file = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw cannotOpen(path, error);
  });
  try {
    // Of the open file, not of the path: what is checked is what is read.
    const { mode, size } = await file.stat();
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw unreadable(path, 'is not a file');
    if ((mode & GROUP_AND_OTHERS) !== 0 && process.platform !== 'win32') throw tooOpen(path);
    if (size > MAX_FILE_BYTES) throw unreadable(path, 'is too long to be a root key file');
    const text = await readWhole(file, size);
    try {
      return parseKey(path, text);
    } finally {
      wipe(text);
    }
  } catch (error) {
    throw error instanceof KeyringError ? error : cannotOpen(path, error);
  } finally {
    await file.close();
  }
}

/** Into one buffer of our own, which can be wiped: `readFile` may leave parts in others. */
async function readWhole(file: FileHandle, size: number): Promise<Buffer> {
  const bytes = Buffer.alloc(size);
  let length = 0;
  while (length < size) {
    const { bytesRead } = await file.read(bytes, length, size - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
}

function parseKey(path: string, text: Buffer): SecretKey {
  const key = parseRootKey(text);
  if (typeof key === 'string') throw unreadable(path, key);
  return key;
}

async function writeKey(file: FileHandle, key: SecretKey): Promise<void> {
  const text = insecureRootKeyText(HEADER, key);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    wipe(text);
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows opens no directories.
  if (process.platform === 'win32') return;
  const directory = await openFile(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function notAPath(uri: string): KeyringError {
  return new KeyringError('invalid_argument', `"${uri}" names no root key file on this machine.`, {
    remedy: 'Write file:./root.key, file:/etc/meshhook/root.key or file:///etc/meshhook/root.key.',
  });
}

function cannotCreate(path: string, cause: unknown): KeyringError {
  const options = { details: { path }, cause };
  if (errno(cause) === 'EEXIST') {
    return new KeyringError('root_key_exists', `There is a file at ${path} already.`, {
      ...options,
      remedy: 'Use it, or name another path: a root key file is never overwritten.',
    });
  }
  return new KeyringError('root_key_unreadable', `The root key file ${path} could not be created.`, {
    ...options,
    remedy: `Check that ${dirname(path)} is a directory, that you may write to it and that the disk is not full.`,
  });
}

function cannotOpen(path: string, cause: unknown): KeyringError {
  if (errno(cause) !== 'ENOENT') return unreadable(path, 'cannot be read', cause);
  return new KeyringError('root_key_missing', `There is no root key file at ${path}.`, {
    remedy: 'Restore it from your backup, or make the first one with `mh-keys root-key create`.',
    details: { path },
    cause,
  });
}

function tooOpen(path: string): KeyringError {
  return new KeyringError('root_key_permissions', `Others than its owner have access to the root key file ${path}.`, {
    remedy: `Run \`chmod 600 ${path}\`; if others could read it, rotate the root key.`,
    details: { path },
  });
}

function unreadable(path: string, why: string, cause?: unknown): KeyringError {
  return new KeyringError('root_key_unreadable', `The root key file ${path} ${why}.`, {
    remedy: 'Restore it from your backup; docs/spec/root-key-file.md describes what it looks like.',
    details: { path },
    cause,
  });
}

function errno(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
