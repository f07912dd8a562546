import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { KeyringError } from '@meshhook/keyring';

export interface ApiTokenFile {
  readonly token: string;
  readonly file: string;
  /** Did this call make it? */
  readonly made: boolean;
}

const shape = /^mhk_[A-Za-z0-9_-]{43}$/;

/**
 * The token in `<home>/api-token`, made there when there is none: 32 random bytes in a file that only its owner may read.
 * Any number of processes may ask at once, and get the same one.
 * @throws KeyringError `illegal_state` when the file can be read by others or holds no token.
 */
export async function apiTokenFile(home: string): Promise<ApiTokenFile> {
  const file = path.join(home, 'api-token');
  const made = await makeUnlessThere(file);
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0) {
    throw new KeyringError('illegal_state', `The API token in ${file} can be read by other users.`, {
      remedy: `Remove the file and start again: a new token is made. (Or, if nobody saw it: chmod 600 ${file})`,
    });
  }
  const token = (await readFile(file, 'utf8')).trim();
  if (!shape.test(token)) {
    throw new KeyringError('illegal_state', `There is no API token in ${file}.`, {
      remedy: 'Remove the file and start again: a new token is made.',
    });
  }
  return { token, file, made };
}

/** Written aside and then linked into place: it is never there half, and never twice. */
async function makeUnlessThere(file: string): Promise<boolean> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const aside = `${file}.${randomBytes(6).toString('hex')}`;
  const handle = await open(aside, 'wx', 0o600);
  try {
    await handle.writeFile(`mhk_${randomBytes(32).toString('base64url')}\n`);
    await handle.sync();
    await link(aside, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await handle.close();
    await rm(aside, { force: true });
  }
}
