/** A process that opens and closes the cluster of a home again and again, and uses it each time. */
import pg from 'pg';
import { openCluster } from '../../src/index.ts';

const [home = '', settings = '{}'] = process.argv.slice(2);
let starts = 0;
for (let visit = 0; visit < 6; visit++) {
  const cluster = await openCluster({ home, settings: JSON.parse(settings) as Record<string, string> });
  if (cluster.started) starts++;
  const client = new pg.Client({ connectionString: cluster.adminUrl() });
  await client.connect();
  await client.query('select 1');
  await client.end();
  await cluster.close();
}
console.log(JSON.stringify({ starts }));
