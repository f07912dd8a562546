import { listInstances, pgDatabase, type Instance } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { withHost, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { age, instant, line } from '../terminal/text.ts';

export function registerInstances(program: Command, app: App): void {
  leaf(program, 'instances', 'which processes have the keyring open, and which root and wrapping keys each can use', [
    'mh-keys instances',
    "mh-keys instances --json | jq '.instances[] | select(.alive)'",
  ]).action(() => list(app));
}

/** No key is needed to see who has which. */
async function list(app: App): Promise<void> {
  const { terminal } = app;
  const instances = await withHost(app, {}, async ({ databaseUrl }) => {
    const database = pgDatabase({ connectionString: databaseUrl, maxConnections: 1 });
    try {
      return await listInstances(database);
    } finally {
      await database.close();
    }
  });
  terminal.result({ instances }, () => {
    if (instances.length === 0) return 'No process has the keyring open.';
    const shown = table(instances, columns(Date.now()), (title) => terminal.style('bold', title));
    const troubles = instances.flatMap(({ id, troubles: all }) =>
      all.map((trouble) => line`${id} cannot use ${trouble}`),
    );
    return [shown, ...troubles].join('\n');
  });
}

function columns(now: number): readonly Column<Instance>[] {
  return [
    { title: 'INSTANCE', value: ({ id }) => id },
    { title: 'ON', value: ({ host, pid }) => `${host}:${String(pid)}` },
    { title: 'ACTOR', value: ({ actor }) => actor },
    { title: 'VERSION', value: ({ version }) => version },
    { title: 'STATE', value: ({ alive, seenAt }) => (alive ? 'alive' : `silent for ${age(now - seenAt.getTime())}`) },
    { title: 'SINCE', value: ({ startedAt }) => instant(startedAt) },
    { title: 'ROOT KEYS', value: ({ usableRoots }) => short(usableRoots) },
    { title: 'WRAPPING KEYS', value: ({ wrappingKeys }) => short(wrappingKeys) },
  ];
}

/** The beginning of each is enough to tell them apart; `--json` has them whole. */
function short(ids: readonly string[]): string {
  return ids.length === 0 ? '-' : ids.map((id) => id.slice(0, 8)).join(' ');
}
