/**
 * `npm run bench [-- --quick] [--only NAME…] [--json FILE]`: what the keyring costs, on this machine, as ratios within one
 * run. Real PostgreSQL with the settings that ship (durable: fsync on), the database and the keyring on the same cores.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startBench, type Measure } from './support.ts';
import { renderTable } from './table.ts';
import { againMeasures } from './again.ts';
import { appMeasures } from './app.ts';
import { auditMeasures } from './audit.ts';
import { fleetMeasures } from './fleet.ts';
import { getMeasures } from './get.ts';
import { pgcryptoMeasures } from './pgcrypto.ts';
import { readMeasures } from './reads.ts';
import { smallMeasures } from './small.ts';
import { rewrapMeasures } from './rewrap.ts';
import { scheduleMeasures } from './schedule.ts';
import { sweepMeasures } from './sweep.ts';
import { workerMeasures } from './workers.ts';

const suites: Readonly<Record<string, (bench: Awaited<ReturnType<typeof startBench>>) => Promise<Measure[]>>> = {
  sweep: sweepMeasures,
  small: smallMeasures,
  fleet: fleetMeasures,
  workers: workerMeasures,
  rewrap: rewrapMeasures,
  again: againMeasures,
  pgcrypto: pgcryptoMeasures,
  get: getMeasures,
  reads: readMeasures,
  audit: auditMeasures,
  app: appMeasures,
  schedule: scheduleMeasures,
};

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`npm run bench -- [--quick] [--only ${Object.keys(suites).join('|')}]… [--json FILE]`);
  process.exit(0);
}
for (const name of values.only ?? []) {
  if (!(name in suites)) {
    console.error(`There is no bench "${name}". hint: ${Object.keys(suites).join(', ')}`);
    process.exit(2);
  }
}

const bench = await startBench({ quick: values.quick });
const measures: Measure[] = [];
try {
  for (const [name, suite] of Object.entries(suites)) {
    if (values.only !== undefined && !values.only.includes(name)) continue;
    process.stderr.write(`bench: ${name}\n`);
    measures.push(...(await suite(bench)));
  }
} finally {
  await bench.stop();
}

const machine = {
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  postgres: bench.postgresVersion,
};
console.log(`${machine.cpu}, ${String(machine.cores)} cores, Node ${machine.node}, PostgreSQL ${machine.postgres}`);
console.log(renderTable(measures));

const file = values.json ?? path.join(import.meta.dirname, 'results', `${new Date().toISOString().slice(0, 19)}.json`);
mkdirSync(path.dirname(file), { recursive: true });
writeFileSync(
  file,
  `${JSON.stringify({ at: new Date().toISOString(), quick: values.quick, machine, measures }, null, 2)}\n`,
);
console.log(`\nwritten to ${file}`);
