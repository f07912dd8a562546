/**
 * A worker as a process of its own, until SIGTERM. Says on its standard output, one JSON object a line, what happens to it.
 * With GATED it holds every unit that it takes, or with GATED=rows every part of a large project, until a line comes on its
 * standard input; from then on it holds none.
 *
 *   node --conditions=@meshhook/source worker-process.ts     settings from the environment: no URL in a list of processes
 */
import { once } from 'node:events';
import { openKeyring, type Keyring } from '@meshhook/keyring';
import { startWorker } from '@meshhook/keyring-worker';

const {
  DATABASE_URL = '',
  ROOT_KEY = '',
  GATED,
  PREPARED,
  DUE_EVERY_MS = '0',
  CONCURRENCY = '1',
  BATCH_SIZE = '2',
  VERIFY_WHOLE_EVERY_MS = '0',
  VERIFY_SHARE = '100',
} = process.env;
const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`);

const opened = await openKeyring({
  database: DATABASE_URL,
  rootKey: ROOT_KEY,
  sweepBatchSize: Number(BATCH_SIZE),
  preparedStatements: PREPARED !== 'off',
  actor: 'worker process',
});
const gate = GATED === undefined ? Promise.resolve() : once(process.stdin, 'data');
const keyring: Keyring = {
  ...opened,
  rotations: {
    ...opened.rotations,
    async work(unit, options) {
      say({ unit: unit.projectIds.length });
      const aborted = options?.signal === undefined ? [] : [once(options.signal, 'abort')];
      if (GATED !== 'rows' || unit.kind === 'rows') {
        if (GATED !== undefined) say({ holds: unit.kind });
        await Promise.race([gate, ...aborted]);
      }
      const result = await opened.rotations.work(unit, options);
      say(unit.kind === 'rows' ? { rows: unit.rows } : { done: unit.projectIds.length });
      return result;
    },
  },
};
const worker = startWorker({
  keyring,
  databaseUrl: DATABASE_URL,
  log: { info: (info) => say({ info }), error: (error) => say({ error }) },
  concurrency: Number(CONCURRENCY),
  dueEveryMs: Number(DUE_EVERY_MS),
  lookEveryMs: 200,
  verifyWholeEveryMs: Number(VERIFY_WHOLE_EVERY_MS),
  verifyShare: Number(VERIFY_SHARE),
  unitSize: 8,
  partRows: 1_000,
});
const told = once(process, 'SIGTERM');
await worker.ready;
say({ ready: worker.id });
await told;
await worker.stop();
await opened.close();
say({ stopped: worker.units });
process.exit(0);
