import { constants } from 'node:fs';
import { lstat, open, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import type { App } from './session.ts';

/** Where a file with something precious in it goes, and is known to have gone. */
export interface Output {
  /** Undefined: standard output. */
  readonly path: string | undefined;
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * A new file that only its owner can read, or standard output, if it is no terminal. What is in the way is told now, before there
 * is anything to write.
 * @throws KeyringError `backup_exists` for a file that is there, `invalid_argument` for a terminal, and with `--json` for
 *   standard output; `write` throws `backup_unwritten` when it did not get there, and leaves no part of it.
 */
export async function outputTo(app: App, given: string | undefined): Promise<Output> {
  if (given === undefined) return standardOutput(app);
  const path = resolve(given);
  const there = await lstat(path).then(
    () => true,
    () => false,
  );
  if (there) throw exists(path);
  return { path, write: (bytes) => writeNew(path, bytes) };
}

function standardOutput({ terminal }: App): Output {
  if (terminal.isInteractive || terminal.json) {
    const where = terminal.json ? 'With --json, standard output' : 'Standard output is a terminal, and';
    throw new KeyringError('invalid_argument', `${where} is no place for a backup.`, { remedy: 'Add --output FILE.' });
  }
  return {
    path: undefined,
    write: (bytes) =>
      terminal.deliver(bytes).catch((error: unknown) => {
        throw unwritten('standard output', error, 'Delete what is in its place: a part of it is no backup.');
      }),
  };
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? exists(path) : unwritten(path, error);
  });
  try {
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(path).catch(() => undefined);
    throw unwritten(path, error);
  }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows opens no directories.
  if (process.platform === 'win32') return;
  let directory: FileHandle | undefined;
  try {
    directory = await open(path, constants.O_RDONLY);
    await directory.sync();
  } catch (error) {
    // Some file systems, on sticks and networks, cannot: the file itself is there.
    if (!['EINVAL', 'ENOTSUP', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    await directory?.close();
  }
}

function exists(path: string): KeyringError {
  return new KeyringError('backup_exists', `There is a file at ${path} already.`, {
    remedy: 'Name another: a backup is never overwritten.',
    details: { path },
  });
}

function unwritten(
  where: string,
  error: unknown,
  remedy = 'Name a folder that you may write to, on a disk with room.',
): KeyringError {
  const reason = (error as NodeJS.ErrnoException).code ?? 'it failed';
  return new KeyringError('backup_unwritten', `The backup could not be written to ${where}: ${reason}.`, {
    remedy,
    cause: error,
  });
}
