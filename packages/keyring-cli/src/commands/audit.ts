import type { AuditEntry, AuditFilter, Keyring } from '@meshhook/keyring';
import { InvalidArgumentError, type Command } from 'commander';
import { asLeaf, leaf, wholeNumber } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant } from '../terminal/text.ts';
import { registerAuditArchive } from './audit-archive.ts';
import { registerAuditChain } from './audit-chain.ts';

interface FilterOptions {
  readonly project?: string;
  readonly actor?: string;
  readonly kind?: AuditFilter['kind'];
  readonly action?: string;
  readonly outcome?: AuditFilter['outcome'];
  readonly since?: Date;
  readonly until?: Date;
}

interface Options extends FilterOptions {
  readonly limit: number;
  readonly before?: number;
}

// Written in pieces: a line of a hundred entries is one write, and nothing is held back for long.
const LINES_AT_ONCE = 100;

export function registerAudit(program: Command, app: App): void {
  const audit = listing(program.command('audit'), app);
  listing(audit.command('list'), app);

  filtered(
    leaf(audit, 'export', 'entries as JSON Lines, the oldest first', [
      'mh-keys audit export > audit.jsonl',
      'mh-keys audit export --since 2026-11-01 --until 2026-12-01 --project acme > november.jsonl',
      "mh-keys audit export --action 'key.*' --outcome refused",
    ]),
  ).action((options: FilterOptions) => exportEntries(app, options));

  registerAuditChain(audit, app);
  registerAuditArchive(audit, app);
}

function listing(command: Command, app: App): Command {
  return filtered(
    asLeaf(command, 'who did what when, the newest first', [
      'mh-keys audit',
      'mh-keys audit --project acme --limit 20',
      "mh-keys audit list --action 'key.*' --since 2026-11-01",
      'mh-keys audit --limit 1000 --json | jq \'.entries[] | select(.outcome != "succeeded")\'',
    ]),
  )
    .option('--limit <n>', 'how many (at most 1000)', wholeNumber(1, 1000), 100)
    .option(
      '--before <entry>',
      'only older ones than the entry with that number',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .action((options: Options) => list(app, options));
}

/** What lists and exports may be narrowed by. */
function filtered(command: Command): Command {
  return command
    .option('--project <project>', 'name or id (default: everything)')
    .option('--actor <name>', 'who did it')
    .option('--kind <kind>', 'what they are: user, token, session, cli, service, worker, system')
    .option('--action <action>', 'what was done, as key.destroyed, or key.* for all of a kind')
    .option('--outcome <outcome>', 'succeeded, failed or refused')
    .option('--since <time>', 'not before, as 2026-11-01 or 2026-11-01T08:00:00Z', moment)
    .option('--until <time>', 'before', moment);
}

export function moment(text: string): Date {
  const time = new Date(text);
  if (
    /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/.test(text) &&
    !Number.isNaN(time.getTime())
  ) {
    return time;
  }
  throw new InvalidArgumentError('It takes a date (midnight UTC), or a time with its zone, as RFC 3339 has them.');
}

async function toFilter(keyring: Keyring, { project, actor, kind, action, outcome, since, until }: FilterOptions) {
  return {
    ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
    ...(actor === undefined ? {} : { actor }),
    ...(kind === undefined ? {} : { kind }),
    ...(action === undefined ? {} : { action }),
    ...(outcome === undefined ? {} : { outcome }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
  } satisfies AuditFilter;
}

async function list(app: App, { limit, before, ...options }: Options): Promise<void> {
  const { terminal } = app;
  const { entries, names } = await withKeyring(app, async (keyring) => {
    const found = await keyring.audit.list({
      limit,
      ...(await toFilter(keyring, options)),
      ...(before === undefined ? {} : { before: String(before) }),
    });
    const projects = await keyring.projects.list({ limit: 10_000 });
    return { entries: found, names: new Map(projects.map(({ id, name }) => [id, name])) };
  });
  terminal.result({ entries }, () => {
    if (entries.length === 0) return 'There is no such entry.';
    return table(entries, columns(names), (title) => terminal.style('bold', title));
  });
  const last = entries.at(-1);
  if (last !== undefined && entries.length === limit) terminal.say(`Older ones: add --before ${last.id}`);
}

async function exportEntries(app: App, options: FilterOptions): Promise<void> {
  const { terminal, signal } = app;
  await withKeyring(
    app,
    async (keyring) => terminal.stream(linesOf(keyring.audit.export(await toFilter(keyring, options)), signal)),
    { minds: 'signal' },
  );
}

async function* linesOf(entries: AsyncIterable<AuditEntry>, signal: AbortSignal): AsyncGenerator<string> {
  let lines: string[] = [];
  for await (const entry of entries) {
    signal.throwIfAborted();
    if (lines.push(`${JSON.stringify(entry)}\n`) < LINES_AT_ONCE) continue;
    yield lines.join('');
    lines = [];
  }
  if (lines.length > 0) yield lines.join('');
}

function columns(names: ReadonlyMap<string, string>): readonly Column<AuditEntry>[] {
  return [
    { title: 'ENTRY', value: ({ id }) => id, align: 'right' },
    { title: 'AT', value: ({ at }) => instant(at) },
    { title: 'ACTOR', value: ({ actor }) => actor },
    { title: 'ACTION', value: ({ action }) => action },
    { title: 'OUTCOME', value: ({ outcome }) => outcome },
    // A project that was deleted keeps its trail, under its id.
    {
      title: 'PROJECT',
      value: ({ projectId }) => (projectId === undefined ? '-' : (names.get(projectId) ?? projectId)),
    },
    { title: 'SUBJECT', value: ({ subject }) => subject },
    { title: 'REASON', value: ({ reason }) => reason ?? '' },
  ];
}
