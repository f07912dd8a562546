import { expect, test } from 'vitest';
import { findPgbouncer, startPooler } from '../../../test/support/pgbouncer.ts';
import { canRun } from '../../../test/support/required.ts';
import { detailOf, expectEverySecretFresh } from '../../keyring/test/engine/support/world.ts';
import { makeProjects, startFleet } from './support/fleet.ts';

const there = canRun(
  'pgbouncer',
  findPgbouncer() !== undefined,
  'pgbouncer is not installed (Debian: apt-get install pgbouncer)',
);

test.skipIf(!there)(
  'two workers behind a transaction-mode pooler share a rotation over one server connection',
  async () => {
    const fleet = await startFleet();
    try {
      const { installation, keyring } = fleet;
      await using pooler = await startPooler({ url: installation.test.serviceUrl, poolSize: 1 });
      const projects = await makeProjects(keyring, 24, 2);
      const behind = { DATABASE_URL: pooler.url, PREPARED: 'off', GATED: 'yes' };
      const workers = await Promise.all([fleet.start(behind), fleet.start(behind)]);
      const { id } = await keyring.rotations.request({ projects: 'all' });
      await Promise.all(workers.map((worker) => worker.says('unit')));
      for (const worker of workers) worker.open();
      await expect.poll(async () => (await detailOf(keyring, id)).state).toBe('completed');
      await expectEverySecretFresh(installation, keyring, projects);
      for (const worker of workers) expect(await worker.end('SIGTERM')).toBe(0);
      expect(await installation.sql('select id from keyring_jobs.job')).toEqual([]);
      expect(await installation.sql('select id from keyring.workers')).toEqual([]);
    } finally {
      await fleet.end();
    }
  },
);
