import { randomUUID } from 'node:crypto';
import { chown, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import { ownerOf } from './account.ts';
import { isRoot } from './process.ts';

/** What `<home>/postgres.json` holds, mode 0600: all it takes to reach the cluster. */
export interface Facts {
  readonly format: 1;
  readonly host: '127.0.0.1';
  /** The port of the last start; null before the first. */
  readonly port: number | null;
  readonly user: 'postgres';
  readonly password: string;
  readonly version: string;
  readonly placement: 'home' | 'shared';
  readonly dataDirectory: string;
  readonly binDirectory: string;
  readonly logFile: string;
}

/**
 * @returns undefined when no cluster was made here yet.
 * @throws KeyringError `database_unreachable` when the file is there and cannot be used.
 */
export async function readFacts(home: string): Promise<Facts | undefined> {
  const path = join(home, 'postgres.json');
  try {
    const facts = JSON.parse(await readFile(path, 'utf8')) as Facts;
    const { format } = facts as { format: unknown };
    if (format !== 1) throw new Error(`format ${String(format)} is not known`);
    // A home can be moved with the data in it.
    const inHome = facts.placement === 'home' ? { dataDirectory: join(home, 'postgres') } : {};
    return { ...facts, ...inHome, logFile: join(home, 'postgres.log') };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new KeyringError('database_unreachable', `${path} cannot be used.`, {
      remedy: 'It holds the password of the embedded database: restore it from a backup of this folder.',
      cause,
    });
  }
}

/** Durable when it returns: a cluster whose password is lost cannot be opened any more. */
export async function writeFacts(home: string, facts: Facts): Promise<void> {
  const path = join(home, 'postgres.json');
  const staging = `${path}.${randomUUID()}`;
  const file = await open(staging, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(facts, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await giveToOwner(home, staging);
  await rename(staging, path);
}

/** What root makes in somebody's home belongs to that somebody, who could not come back otherwise. */
export async function giveToOwner(home: string, path: string): Promise<void> {
  const owner = isRoot() ? await ownerOf(home) : undefined;
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
}
