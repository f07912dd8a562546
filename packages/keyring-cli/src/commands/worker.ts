import { KeyringError, pgDatabase } from '@meshhook/keyring';
import type { Log, WorkerEntry } from '@meshhook/keyring-worker';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { checkpointPath, keeper } from '../audit-checkpoint.ts';
import { leaf, wholeNumber } from '../command.ts';
import { withHost, withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { age, duration, instant, plural } from '../terminal/text.ts';

const MOST_AT_ONCE = 64;

export function registerWorker(program: Command, app: App): void {
  leaf(program, 'worker', 'does rotations, together with all others that run, until it is stopped', [
    'mh-keys worker',
    'mh-keys worker --concurrency 4',
    'DATABASE_URL=postgres://keyring_login@db.example/app mh-keys worker --json',
  ])
    .option('--concurrency <n>', 'units it does at once', wholeNumber(1, MOST_AT_ONCE), 2)
    .action(({ concurrency }: { concurrency: number }) => work(app, concurrency));

  leaf(program, 'workers', 'who is alive, since when, and what each does', [
    'mh-keys workers',
    "mh-keys workers --json | jq '.workers[] | select(.alive)'",
  ]).action(() => list(app));
}

async function work(app: App, concurrency: number): Promise<void> {
  const { terminal, signal } = app;
  const { allowedBy, readCheckpointFile, startWorker } = await import('@meshhook/keyring-worker');
  const log = await logOf(app);
  await withKeyring(
    app,
    async (keyring, databaseUrl) => {
      const worker = startWorker({
        keyring,
        databaseUrl,
        concurrency,
        version: await version(),
        onCheckpoint: keeper(app, keyring),
        readCheckpoint: () => readCheckpointFile(checkpointPath(app)),
        log,
        notify: allowedBy(app.settings.notificationsAllow ?? ''),
      });
      try {
        await Promise.race([worker.ready, aborted(signal)]);
        if (!signal.aborted)
          log.info(`worker ${worker.id}: ready; Ctrl-C stops it`, { event: 'worker_ready', workerId: worker.id });
        await aborted(signal);
      } finally {
        await worker.stop();
      }
      const { done, failed } = worker.units;
      terminal.result({ worker: { id: worker.id, units: { done, failed } } }, () => {
        const failures = failed === 0 ? '' : `, ${plural(failed, 'failure')}`;
        return `Stopped. ${plural(done, 'unit')} from the queue done${failures}; what was under way goes on elsewhere.`;
      });
    },
    { minds: 'signal', kind: 'worker' },
  );
}

/** @throws KeyringError `invalid_argument` for a LOG_FORMAT or LOG_LEVEL that is none. */
async function logOf({ terminal, stderr, settings }: App): Promise<Log> {
  const { eventLog, logFormats, logLevels } = await import('@meshhook/keyring-worker');
  const format = oneOf('LOG_FORMAT', logFormats, settings.logFormat);
  const level = oneOf('LOG_LEVEL', logLevels, settings.logLevel);
  if (format === 'json') return eventLog({ format, level, stdout: stderr, stderr });
  const note = (text: string): void => {
    terminal.note(text);
  };
  return { info: note, error: note };
}

function oneOf<Word extends string>(name: string, words: readonly Word[], given: string): Word {
  const word = words.find((candidate) => candidate === given);
  if (word !== undefined) return word;
  throw new KeyringError('invalid_argument', `${name} is none of ${words.join(', ')}.`, {
    remedy: `Set ${name} to one of them, or unset it.`,
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

async function version(): Promise<string> {
  const manifest = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** No key is needed to see who works. */
async function list(app: App): Promise<void> {
  const { terminal } = app;
  const { listWorkers } = await import('@meshhook/keyring-worker');
  const workers = await withHost(app, {}, async ({ databaseUrl }) => {
    const database = pgDatabase({ connectionString: databaseUrl, maxConnections: 1 });
    try {
      return await listWorkers(database);
    } finally {
      await database.close();
    }
  });
  terminal.result({ workers }, () => {
    if (workers.length === 0) return 'Nobody works: `mh-keys worker` does, and so does the server.';
    return table(workers, columns(Date.now()), (title) => terminal.style('bold', title));
  });
}

function columns(now: number): readonly Column<WorkerEntry>[] {
  return [
    { title: 'WORKER', value: ({ id }) => id },
    { title: 'ON', value: ({ host, pid }) => `${host}:${String(pid)}` },
    { title: 'VERSION', value: ({ version }) => version },
    { title: 'STATE', value: ({ alive, seenAt }) => (alive ? 'alive' : `silent for ${age(now - seenAt.getTime())}`) },
    { title: 'SINCE', value: ({ startedAt }) => instant(startedAt) },
    { title: 'DOES', value: (worker) => doing(worker, now) },
  ];
}

/** `drives 1 rotation; 500 projects of 6f1c2f0e… for 1.2 s`. */
function doing({ alive, units, driving }: WorkerEntry, now: number): string {
  if (!alive) return '-';
  const parts = units.map(({ rotationId, projects, since }) => {
    const ms = Math.max(now - since.getTime(), 0);
    return `${plural(projects, 'project')} of ${rotationId.slice(0, 8)} for ${duration(ms)}`;
  });
  if (driving.length > 0) parts.unshift(`drives ${driving.map((id) => id.slice(0, 8)).join(', ')}`);
  return parts.length === 0 ? 'nothing' : parts.join('; ');
}
