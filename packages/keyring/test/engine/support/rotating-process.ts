/**
 * A process that rotates until it is killed: whatever waits for a runner first, then one rotation after the other. Says on
 * its standard output how many rows it has moved.
 *
 *   node --conditions=@meshhook/source rotating-process.ts DATABASE_URL ROOT_KEY_URI
 */
import { openKeyring } from '@meshhook/keyring';

const [database = '', rootKey = ''] = process.argv.slice(2);
const keyring = await openKeyring({ database, rootKey, sweepBatchSize: 2, actor: 'rotating process' });
for (;;) {
  const [id = (await keyring.rotations.request({ projects: 'all' })).id] = await keyring.rotations.waiting();
  process.stdout.write('running\n');
  await keyring.rotations.run(id);
}
