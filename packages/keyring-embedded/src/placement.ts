import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { canEnter, type Account } from './process.ts';

/** Where things go that the account of PostgreSQL could not reach otherwise. */
export const SHARED_DIRECTORY = '/var/lib/meshhook-keyring';

export interface Place {
  readonly placement: 'home' | 'shared';
  readonly dataDirectory: string;
}

/**
 * Where the data of a new cluster goes: into `home`, unless `account` has to reach it and cannot; then into a folder of
 * `sharedDirectory` named after `home`.
 */
export async function placeData(home: string, account: Account | undefined, sharedDirectory: string): Promise<Place> {
  if (account === undefined || (await admit(home, account))) {
    return { placement: 'home', dataDirectory: join(home, 'postgres') };
  }
  await mkdir(sharedDirectory, { recursive: true, mode: 0o755 });
  const name = `data-${createHash('sha256').update(home).digest('hex').slice(0, 16)}`;
  let path = join(sharedDirectory, name);
  // Data of a former home at the same path is somebody's: never reused, never overwritten.
  for (let n = 2; existsSync(path); n++) path = join(sharedDirectory, `${name}-${String(n)}`);
  return { placement: 'shared', dataDirectory: path };
}

/**
 * Lets `account` pass through `home`, if it can get as far as that, by group and without a right to list or read:
 * 0710 instead of 0700. Folders above are never touched, nor a home whose mode somebody chose himself.
 */
async function admit(home: string, account: Account): Promise<boolean> {
  if (await canEnter(home, account)) return true;
  const { mode, uid } = await stat(home);
  if ((mode & 0o077) !== 0 || !(await canEnter(dirname(home), account))) return false;
  await chown(home, uid, account.gid);
  await chmod(home, 0o710);
  return canEnter(home, account);
}
