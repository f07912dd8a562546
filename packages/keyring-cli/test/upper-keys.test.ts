import path from 'node:path';
import { openCluster } from '@meshhook/keyring-embedded';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { build, cli, firstOf, temporaryFolder } from './support/cli.ts';
import { here } from './support/in-process.ts';

const folder = temporaryFolder();
const home = path.join(folder.path, 'home');
const { start } = cli(home);
const { run, json, refused } = here(home);
let cluster: Awaited<ReturnType<typeof openCluster>>;

beforeAll(async () => {
  build();
  await json(['project', 'create', 'acme']);
  // Held by this process from here on, so that commands do not each start and stop it.
  cluster = await openCluster({ home });
  await run(['secrets', 'set', 'A', '--project', 'acme'], { input: 'a' });
});
afterAll(async () => {
  await cluster.close();
  folder.remove();
});

interface Listed {
  readonly instances: readonly {
    readonly id: string;
    readonly pid: number;
    readonly alive: boolean;
    readonly troubles: readonly string[];
  }[];
}
const instances = async (): Promise<Listed['instances']> =>
  ((await json(['instances'])) as unknown as Listed).instances;

test('instances lists who has the keyring open, until they close it, and needs no root key itself', async () => {
  expect((await run(['instances'])).stdout).toBe('No process has the keyring open.\n');
  const next = `file:${path.join(folder.path, 'next.key')}`;
  const worker = start(['worker'], { env: { MESHHOOK_NEXT_ROOT_KEY: next } });
  await worker.says('ready');
  expect(await instances()).toMatchObject([
    { pid: worker.child.pid, alive: true, troubles: [`${next}: root_key_missing`] },
  ]);
  const { stdout } = await run(['instances'], { env: { MESHHOOK_ROOT_KEY: 'file:/nowhere' } });
  expect(stdout).toMatch(/^INSTANCE +ON +ACTOR +VERSION +STATE +SINCE +ROOT KEYS +WRAPPING KEYS\n/);
  expect(stdout).toMatch(new RegExp(`:${String(worker.child.pid)} +cli:\\S+ +0\\.1\\.0 +alive +\\d{4}-`));
  expect(stdout).toContain(`cannot use ${next}: root_key_missing`);
  worker.child.kill('SIGTERM');
  await worker.outcome;
  expect(await instances()).toEqual([]);
});

/** Those that are in the list now do not fall silent, however long this takes. */
const keepAlive = (): Promise<unknown> =>
  query(cluster.adminUrl('meshhook'), `update keyring.instances set seen_at = now() + interval '1 hour'`);

interface WrappingStatus {
  readonly wrappingKeys: readonly {
    readonly id: string;
    readonly version: number;
    readonly active: boolean;
    readonly keys: number;
  }[];
  readonly rotation: { readonly id: string; readonly state: string } | null;
}
const wrappingStatus = async (): Promise<WrappingStatus> =>
  (await json(['wrapping-key', 'status'])) as unknown as WrappingStatus;

describe('the wrapping key', () => {
  test('is rotated beside a worker, which follows by itself', async () => {
    const worker = start(['worker']);
    await worker.says('ready');
    // It follows at its next heartbeat, which must not come before anybody has waited for it.
    worker.child.kill('SIGSTOP');
    await keepAlive();
    const rotating = start(['wrapping-key', 'rotate', '--reason', 'yearly']);
    await rotating.says('prepared: waits for ');
    worker.child.kill('SIGCONT');
    const { code, stdout, stderr } = await rotating.outcome;
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        // One or two: the worker seals the trail, with a key of its own.
        /^Rotation \S+ of the wrapping key: completed\n {2}version 1 → 2, ([12]) of \1 keys? wrapped anew, \1 read back\n/,
      ) as string,
    });
    expect(stderr).toContain(`:${String(worker.child.pid)})`);
    worker.child.kill('SIGTERM');
    await worker.outcome;
    expect((await run(['secrets', 'get', 'A', '--project', 'acme'])).stdout).toBe('a');
    const { stdout: shown } = await run(['wrapping-key', 'status']);
    expect(shown).toMatch(/^VERSION +STATE +WRAPPING KEY +KEYS +ROOT KEYS/);
    expect(shown).toMatch(/^ +2 +active +\S+ +[12] /m);
    expect(shown).toMatch(/^ +1 +disabled +\S+ +0 /m);
    expect((await run(['wrapping-key', 'rotations'])).stdout).toMatch(/completed +1 → 2 .* yearly$/m);
  });

  test('while a process hangs it is left prepared, named, canceled, or forced past; Ctrl-C leaves it where it is', async () => {
    const hanging = start(['worker']);
    await hanging.says('ready');
    hanging.child.kill('SIGSTOP');
    try {
      const { id } = firstOf(await instances());
      await keepAlive();
      const left = await run(['wrapping-key', 'rotate', '--no-wait']);
      expect(left).toMatchObject({ code: 0, stdout: expect.stringContaining(`It waits for ${id} (`) as string });
      expect((await wrappingStatus()).rotation?.state).toBe('prepared');
      expect((await run(['wrapping-key', 'rollback'])).code).toBe(4);
      expect((await run(['wrapping-key', 'cancel'])).stdout).toContain('Canceled');
      expect(await refused(['wrapping-key', 'cancel'])).toMatchObject({ exit: 4, code: 'rotation_not_open' });

      const waiting = start(['wrapping-key', 'rotate']);
      await waiting.says(`waits for ${id}`);
      waiting.child.kill('SIGINT');
      expect(await waiting.outcome).toMatchObject({
        code: 130,
        stderr: expect.stringContaining('wrapping-key rotate') as string,
      });
      expect((await run(['wrapping-key', 'rotate', '--force-past', id])).code).toBe(0);
    } finally {
      hanging.child.kill('SIGCONT');
      hanging.child.kill('SIGTERM');
      await hanging.outcome;
    }
    expect((await json(['audit', '--limit', '50'])) as unknown).toMatchObject({
      entries: expect.arrayContaining([expect.objectContaining({ action: 'instance.forced_past' })]) as unknown[],
    });
    expect((await run(['doctor'])).code).toBe(0);
  });

  test('an old version is destroyed with its id or --yes, the active one not', async () => {
    const { wrappingKeys } = await wrappingStatus();
    const [active, old] = [wrappingKeys.find((key) => key.active), wrappingKeys.find((key) => key.version === 1)];
    const destroy = ['wrapping-key', 'destroy'];
    expect(await refused([...destroy, active?.id ?? '', '--reason', 'x', '--yes'])).toMatchObject({
      exit: 4,
      code: 'key_is_primary',
    });
    expect(await refused([...destroy, old?.id ?? '', '--reason', 'x'])).toMatchObject({ exit: 2 });
    expect(await refused([...destroy, 'nothing', '--reason', 'x', '--yes'])).toMatchObject({
      exit: 3,
      code: 'unknown_key',
    });
    const done = await run([...destroy, old?.id ?? '', '--reason', 'no backup is left', '--yes']);
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('version 1 is destroyed') as string });
  });

  test('killed at any moment, it goes on when it is run again', async () => {
    for (let kill = 0; kill < 2; kill++) {
      const rotating = start(['wrapping-key', 'rotate']);
      await Promise.race([rotating.says('prepar'), rotating.outcome]);
      rotating.child.kill('SIGKILL');
      await rotating.outcome;
      // Entries of those that were killed are in the list for another fifteen seconds, and they hold nothing new.
      const past = (await instances()).flatMap(({ id }) => ['--force-past', id]);
      const again = await run(['wrapping-key', 'rotate', ...past]);
      expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('completed') as string });
      expect((await run(['secrets', 'get', 'A', '--project', 'acme'])).stdout).toBe('a');
    }
    expect((await run(['doctor'])).code).toBe(0);
  });
});
