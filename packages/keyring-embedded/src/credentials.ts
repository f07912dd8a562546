import { randomBytes, randomUUID } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import { giveToOwner } from './facts.ts';

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** What `<home>/credentials.json` holds, mode 0600: the two logins of the keyring's database. */
export interface Credentials {
  readonly format: 1;
  /** Owns the database and migrates it. */
  readonly owner: Login;
  /** What the service uses; owns nothing. */
  readonly service: Login;
}

export const credentialsPath = (home: string): string => join(home, 'credentials.json');

/**
 * @returns undefined when there are none yet.
 * @throws KeyringError `database_unreachable` when the file is there and cannot be used.
 */
export async function readCredentials(home: string): Promise<Credentials | undefined> {
  const path = credentialsPath(home);
  try {
    const credentials = JSON.parse(await readFile(path, 'utf8')) as Credentials;
    const { format } = credentials as { format: unknown };
    if (format !== 1) throw new Error(`format ${String(format)} is not known`);
    return credentials;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new KeyringError('database_unreachable', `${path} cannot be used.`, {
      remedy: 'Make it readable again, or delete it: the logins then get new passwords.',
      cause,
    });
  }
}

/** Makes and keeps new passwords. The caller tells PostgreSQL. */
export async function createCredentials(home: string): Promise<Credentials> {
  const login = (user: string): Login => ({ user, password: randomBytes(24).toString('base64url') });
  const credentials: Credentials = { format: 1, owner: login('meshhook_owner'), service: login('meshhook_service') };
  const path = credentialsPath(home);
  const staging = `${path}.${randomUUID()}`;
  const file = await open(staging, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(credentials, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await giveToOwner(home, staging);
  await rename(staging, path);
  return credentials;
}
