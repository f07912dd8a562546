/** A process that opens the cluster of the home it is given, tells what it found, and closes it at the end of its input. */
import { openCluster } from '../../src/index.ts';

const [home = '', settings = '{}', sharedDirectory = ''] = process.argv.slice(2);
const cluster = await openCluster({
  home,
  settings: JSON.parse(settings) as Record<string, string>,
  ...(sharedDirectory === '' ? {} : { sharedDirectory }),
});
console.log(JSON.stringify({ ...cluster, port: cluster.port, adminUrl: cluster.adminUrl() }));
for await (const _ of process.stdin) continue;
await cluster.close();
