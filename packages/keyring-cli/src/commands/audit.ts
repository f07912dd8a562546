import type { AuditEntry } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf, wholeNumber } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant } from '../terminal/text.ts';

interface Options {
  readonly project?: string;
  readonly limit: number;
  readonly before?: number;
}

export function registerAudit(program: Command, app: App): void {
  leaf(program, 'audit', 'who did what when, the newest first', [
    'mh-keys audit',
    'mh-keys audit --project acme --limit 20',
    'mh-keys audit --limit 1000 --json | jq \'.entries[] | select(.outcome != "succeeded")\'',
  ])
    .option('--project <project>', 'name or id (default: everything)')
    .option('--limit <n>', 'how many (at most 1000)', wholeNumber(1, 1000), 100)
    .option(
      '--before <entry>',
      'only older ones than the entry with that number',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .action(async ({ project, limit, before }: Options) => {
      const { terminal } = app;
      const { entries, names } = await withKeyring(app, async (keyring) => {
        const projectId = project === undefined ? undefined : (await keyring.projects.resolve(project)).id;
        const found = await keyring.audit.list({
          limit,
          ...(projectId === undefined ? {} : { projectId }),
          ...(before === undefined ? {} : { before: String(before) }),
        });
        const projects = await keyring.projects.list({ limit: 10_000 });
        return { entries: found, names: new Map(projects.map(({ id, name }) => [id, name])) };
      });
      terminal.result({ entries }, () => {
        if (entries.length === 0) return 'Nothing was done yet.';
        return table(entries, columns(names), (title) => terminal.style('bold', title));
      });
      const last = entries.at(-1);
      if (last !== undefined && entries.length === limit) terminal.say(`Older ones: mh-keys audit --before ${last.id}`);
    });
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
