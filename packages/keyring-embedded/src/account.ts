import { stat } from 'node:fs/promises';
import { KeyringError } from '@meshhook/keyring';
import { isRoot, run, type Account } from './process.ts';

const NEW_ACCOUNT = 'meshhook-keyring';

/**
 * Who PostgreSQL has to run as, since it refuses to run as root: nobody in particular (`undefined`) unless we are root;
 * the owner of the first of `paths` that exists and is not root's, so that root and that user can take turns; else the
 * system's `postgres`; else an account made for it.
 * @throws KeyringError `database_unreachable` when no such account exists and none can be made.
 */
export async function accountFor(...paths: readonly string[]): Promise<Account | undefined> {
  if (!isRoot()) return undefined;
  for (const path of paths) {
    const owner = await ownerOf(path);
    if (owner !== undefined && owner.uid !== 0) return owner;
  }
  return (await lookUp('postgres')) ?? (await lookUp(NEW_ACCOUNT)) ?? (await createAccount());
}

/** @returns undefined when `path` does not exist. */
export async function ownerOf(path: string): Promise<Account | undefined> {
  try {
    const { uid, gid } = await stat(path);
    return { uid, gid };
  } catch {
    return undefined;
  }
}

async function lookUp(name: string): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
  return uid.ok && gid.ok ? { uid: Number(uid.output), gid: Number(gid.output) } : undefined;
}

async function createAccount(): Promise<Account> {
  const options = [
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/bin/false',
  ];
  const { output } = await run('useradd', [...options, NEW_ACCOUNT]);
  // Looked up whatever useradd said: another process may have been first.
  const account = await lookUp(NEW_ACCOUNT);
  if (account !== undefined) return account;
  throw new KeyringError(
    'database_unreachable',
    `PostgreSQL does not run as root, and no account for it could be made: ${output}`,
    {
      remedy: `Run this as an ordinary user, or create a system user named \`${NEW_ACCOUNT}\`, or set DATABASE_URL.`,
    },
  );
}
