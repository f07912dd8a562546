import { migrate } from '@meshhook/keyring';
import { startScratchCluster, type ScratchCluster, type ScratchOptions } from '@meshhook/keyring-embedded/scratch';
import { query, type TestDatabase } from '../../../../../test/support/database.ts';

/** A PostgreSQL that a test may stop as a crash would, with one migrated database; the cluster is the caller's to stop. */
export async function startOwnCluster(
  options: ScratchOptions = {},
): Promise<{ readonly cluster: ScratchCluster; readonly test: TestDatabase }> {
  const cluster = await startScratchCluster(options);
  try {
    const url = (user: string): string => {
      const made = new URL(cluster.adminUrl('crashing'));
      made.username = user;
      made.password = 'test';
      return made.href;
    };
    await query(cluster.adminUrl(), `create role crash_owner login createrole password 'test'`);
    await query(cluster.adminUrl(), `create role crash_app login password 'test'`);
    await query(cluster.adminUrl(), 'create database crashing owner crash_owner');
    await migrate({ connectionString: url('crash_owner') });
    await query(cluster.adminUrl('crashing'), 'grant keyring_service to crash_app');
    const test = {
      name: 'crashing',
      adminUrl: cluster.adminUrl('crashing'),
      ownerUrl: url('crash_owner'),
      serviceUrl: url('crash_app'),
      drop: async () => undefined,
    };
    return { cluster, test };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
