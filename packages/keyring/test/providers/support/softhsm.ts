/** A SoftHSM of the tests' own: Debian's `softhsm2`, with tokens in a folder that goes away with it. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canRun } from '../../../../../test/support/required.ts';

export const pin = 'a-pin-of-the-tests-4711';

const libraries = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
];

export const library = libraries.find((path) => existsSync(path)) ?? '/nowhere/libsofthsm2.so';

export const hasSoftHsm = canRun(
  'softhsm',
  existsSync(library) && canLoad('pkcs11js'),
  'what needs an HSM, because Debian’s softhsm2 or the package pkcs11js is not installed',
);

export interface SoftHsm {
  readonly folder: string;
  readonly pinFile: string;
  uri(token: string, object: string, more?: string): string;
  /** Takes a token out, as far as SoftHSM goes: its folder is elsewhere. */
  takeOut(token: string): Promise<void>;
  putBack(token: string): Promise<void>;
  close(): Promise<void>;
}

/** Once per process, before the first key is opened: the library reads where its tokens are when it is loaded. */
export async function startSoftHsm(tokens: readonly string[]): Promise<SoftHsm> {
  const folder = await mkdtemp(join(tmpdir(), 'keyring hsm '));
  const store = join(folder, 'tokens');
  const away = join(folder, 'away');
  const pinFile = join(folder, 'pin');
  await mkdir(store);
  await mkdir(away);
  await writeFile(pinFile, `${pin}\n`, { mode: 0o600 });
  await writeFile(join(folder, 'softhsm2.conf'), `directories.tokendir = ${store}\nlog.level = ERROR\n`);
  process.env['SOFTHSM2_CONF'] = join(folder, 'softhsm2.conf');
  for (const label of tokens) {
    const secrets = ['--pin', pin, '--so-pin', 'the-so-pin-of-the-tests'];
    execFileSync('softhsm2-util', ['--init-token', '--free', '--label', label, ...secrets], { stdio: 'pipe' });
  }

  /** The folder of a token, by the label that its file holds. */
  async function find(place: string, label: string): Promise<string> {
    for (const name of await readdir(place)) {
      const file = await readFile(join(place, name, 'token.object'), 'latin1');
      if (file.includes(label)) return name;
    }
    throw new Error(`no token ${label} in ${place}`);
  }

  return {
    folder,
    pinFile,
    uri: (token, object, more = '') =>
      `pkcs11:token=${token};object=${object}${more}?module-path=${library}&pin-source=file:${encodeURI(pinFile)}`,
    async takeOut(token) {
      const name = await find(store, token);
      await rename(join(store, name), join(away, name));
    },
    async putBack(token) {
      const name = await find(away, token);
      await rename(join(away, name), join(store, name));
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

function canLoad(name: string): boolean {
  try {
    createRequire(import.meta.url)(name);
    return true;
  } catch {
    return false;
  }
}
