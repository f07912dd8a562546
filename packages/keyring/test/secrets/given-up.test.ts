import { KeyringError } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';

let installation: Installation;
beforeEach(async () => {
  installation = await startInstallation();
});
afterEach(() => installation.end());

// Seen in a rolling upgrade: a read held `secrets` and waited for `keyrings`, a migration the other way round.
test('a read that PostgreSQL gives up for a migration is made again, and nobody hears of it', async () => {
  let givenUp = 0;
  const keyring = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, ({ send }) =>
        send().catch((error: unknown) => {
          if (error instanceof KeyringError && error.details['sqlState'] === '40P01') givenUp += 1;
          throw error;
        }),
      ),
  });
  const { id } = await keyring.projects.create({ name: 'acme' });
  await keyring.secrets.put(id, 'A', 'a');
  const reads = {
    get: async () => (await keyring.secrets.get(id, 'A'))?.value,
    list: async () => (await keyring.secrets.list(id))[0]?.name,
  };
  await using migrator = await session(installation.test.adminUrl, 'migrator');
  // PostgreSQL gives up whoever looks first after a second of waiting; which is seldom the migrator, and then it tries again.
  await migrator.query(`set deadlock_timeout = '10s'`);
  const waiting = async (): Promise<number> =>
    (await installation.sql(`select from pg_locks where not granted and relation = 'keyring.keyrings'::regclass`))
      .length;
  for (const [name, read] of Object.entries(reads)) {
    for (const before = givenUp; givenUp === before;) {
      await migrator.query('begin; lock table keyring.keyrings in access exclusive mode');
      const reading = read();
      await expect.poll(waiting).toBe(1);
      await migrator.query('lock table public.secrets in access exclusive mode').catch(() => undefined);
      await migrator.query('rollback');
      expect(await reading).toBe(name === 'get' ? 'a' : 'A');
    }
  }
});
