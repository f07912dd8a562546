import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { KeyringError } from '@meshhook/keyring';
import { giveToOwner } from './facts.ts';

const SQLITE_BUSY = 5;

/**
 * Runs `task` while no other process starts or stops the cluster of `home`. The lock is SQLite's, on an empty file: the
 * kernel frees it when its holder dies, however it dies, so there is no stale lock to recognize and nothing to steal.
 * @throws KeyringError `database_unreachable` when the lock is not to be had before `deadline` (milliseconds, epoch).
 */
export async function withStartLock<T>(home: string, deadline: number, task: () => Promise<T>): Promise<T> {
  const path = join(home, 'postgres.lock');
  await createOnce(home, path);
  const lock = new DatabaseSync(path, { timeout: 0 });
  try {
    while (!take(lock)) {
      if (Date.now() > deadline) {
        throw new KeyringError(
          'database_unreachable',
          'Another process has been starting or stopping PostgreSQL all along.',
          {
            remedy: `Find the process that holds ${path} and end it.`,
          },
        );
      }
      await delay(25);
    }
    return await task();
  } finally {
    lock.close();
  }
}

async function createOnce(home: string, path: string): Promise<void> {
  try {
    // Exclusively or not at all: opening and closing the file again would free a lock that this process holds on it.
    await writeFile(path, '', { flag: 'wx', mode: 0o600 });
    await giveToOwner(home, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function take(lock: DatabaseSync): boolean {
  try {
    lock.exec('begin exclusive');
    return true;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return false;
    throw error;
  }
}
