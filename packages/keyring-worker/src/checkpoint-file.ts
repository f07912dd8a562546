import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, open, readFile, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { KeyringError, type Audit, type AuditCheckpoint } from '@meshhook/keyring';

/** More than any note has. */
const MAX_BYTES = 8_192;

/** Where the last checkpoint is kept outside the database. */
export type KeepCheckpoint = (checkpoint: AuditCheckpoint) => Promise<void>;

/**
 * Keeps the last checkpoint in a file (mode 0600), replaced as a whole; or prints each, a line of JSON, where `path` is `-`. One that
 * the chain does not hold any more is never replaced, to show that is what the file is for; nor is one of a longer chain, which another
 * process wrote meanwhile.
 * @throws KeyringError from what it gives: `audit_broken` when the file knows of a longer chain, or of another; `backup_unwritten`.
 */
export function checkpointKeeper(
  file: string,
  print: (line: string) => void,
  audit: Pick<Audit, 'holds'>,
): KeepCheckpoint {
  let kept: string | undefined;
  return async ({ size, hash, signedAt, note }) => {
    if (file === '-') {
      print(JSON.stringify({ auditCheckpoint: { size, hash, signedAt: signedAt.toISOString(), note } }));
      return;
    }
    // Another process writes to it, too.
    const there = await readCheckpointFile(file).catch((error: unknown) => {
      throw unwritten(file, error);
    });
    if (there !== undefined && there !== kept && !(await audit.holds(there))) {
      throw new KeyringError('audit_broken', `The chain does not hold what the checkpoint in ${file} says.`, {
        remedy: 'Run `mh-keys audit verify`. After a restore, see docs/runbooks/the-audit-chain-is-broken.md.',
      });
    }
    if (there === undefined || sizeOf(there) <= size) {
      await replaceFile(file, note).catch((error: unknown) => {
        throw unwritten(file, error);
      });
    }
    kept = note;
  };
}

/** Of one that the chain holds. */
function sizeOf(note: string): number {
  return Number(note.split('\n')[1]);
}

function unwritten(file: string, error: unknown): KeyringError {
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  return new KeyringError('backup_unwritten', `The checkpoint of the trail could not be kept in ${file}: ${code}.`, {
    remedy: 'Give this process a folder of its own with room in it, or another place by MESHHOOK_AUDIT_CHECKPOINT.',
  });
}

/** Undefined: there is none, or they are printed. */
export async function readCheckpointFile(file: string): Promise<string | undefined> {
  if (file === '-') return undefined;
  try {
    const bytes = await readFile(file);
    return bytes.length > MAX_BYTES ? '' : bytes.toString('utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Where a link leads is what is replaced, and not the link. @throws Error ENOENT for a link that leads nowhere: a disk that is not there. */
async function behindLinks(file: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    const isThere = await lstat(file).then(
      () => true,
      () => false,
    );
    if (isThere) throw error;
    return file;
  }
}

async function replaceFile(given: string, text: string): Promise<void> {
  const file = await behindLinks(given);
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const aside = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    const handle = await open(aside, 'wx', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(aside, file);
  } finally {
    await rm(aside, { force: true });
  }
  if (process.platform === 'win32') return;
  const directory = await open(folder, constants.O_RDONLY);
  // Some file systems cannot: the file itself is there.
  await directory.sync().catch(() => undefined);
  await directory.close();
}
