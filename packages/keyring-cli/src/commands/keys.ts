import type { Keyring, KeyVersion } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { confirm } from '../confirm.ts';
import { knownKey } from '../known-key.ts';
import { pagedAfter, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { count, day, instant, line } from '../terminal/text.ts';

export function registerKeys(program: Command, app: App): void {
  const keys = group(program, 'keys', 'key versions: list them, suspend, restore or destroy one');

  const list = leaf(keys, 'list', 'lists key versions with their ids, fingerprints and times', [
    'mh-keys keys list',
    'mh-keys keys list --project acme --json',
  ]);
  pagedAfter(list, { most: 10_000, of: 'key' })
    .option('--project <project>', 'name or id (default: all projects)')
    .action(async ({ project, ...page }: Page & { project?: string }) => {
      const found = await withKeyring(app, async (keyring) =>
        keyring.keys.page({
          limit: page.limit,
          ...(page.after === undefined ? {} : { after: await knownKey(keyring, page.after) }),
          ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
        }),
      );
      app.terminal.result({ keys: found }, () =>
        found.length === 0
          ? 'There are no keys yet: the first secret of a project makes its version 1.'
          : table(found, columns, (title) => app.terminal.style('bold', title)),
      );
      sayMore(app.terminal, found, page, ({ id }) => `--after ${id}`);
    });

  leaf(keys, 'destroy <key>', 'erases a key version for good; what is under it never opens again', [
    "mh-keys keys destroy 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11 --reason 'retention is over'",
    "mh-keys keys destroy 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11 --reason 'retention is over' --yes",
  ])
    .requiredOption('--reason <text>', 'why, for the audit log')
    .option('--early', 'also inside its retention window: takes two people where there are two admins')
    .option('--yes', 'do not ask; needed where there is no terminal to ask at')
    .action(async (id: string, { reason, early, yes }: { reason: string; early?: boolean; yes?: boolean }) => {
      const key = await withKeyring(app, async (keyring) => {
        const found = await knownKey(keyring, id);
        if (yes !== true) await confirm(app, erasing(found));
        return keyring.keys.destroy(found.id, { reason, ...(early === undefined ? {} : { early }) });
      });
      app.terminal.result({ key }, () => destroyed(key));
    });

  const move = (verb: 'disable' | 'restore', does: string, done: (key: KeyVersion) => string): void => {
    leaf(keys, `${verb} <key>`, does, [
      `mh-keys keys ${verb} 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11 --reason 'does anything need it?'`,
    ])
      .requiredOption('--reason <text>', 'why, for the audit log')
      .action(async (id: string, { reason }: { reason: string }) => {
        const key = await withKeyring(app, async (keyring: Keyring) =>
          keyring.keys[verb]((await knownKey(keyring, id)).id, { reason }),
        );
        app.terminal.result({ key }, () => done(key));
      });
  };
  move('disable', 'suspends a version that no row names: it opens nothing, until it is restored', (key) =>
    [
      line`Version ${key.version} of ${key.projectName} is ${key.status}: what still needs it fails now.`,
      `It comes back with \`mh-keys keys restore ${key.id} --reason …\`.`,
    ].join('\n'),
  );
  move(
    'restore',
    'brings a suspended version back',
    (key) => line`Version ${key.version} of ${key.projectName} is ${key.status} again.`,
  );
}

function erasing(key: KeyVersion): Parameters<typeof confirm>[1] {
  return {
    warning: line`This erases version ${key.version} of ${key.projectName} for good (${key.status}, ${count(key.rows)} rows).`,
    wanted: key.id,
    what: 'id of the key',
    remedy: 'Check the id with `mh-keys keys list`.',
  };
}

function destroyed({ version, projectName, destroyedAt }: KeyVersion): string {
  return [
    line`Version ${version} of ${projectName} is destroyed (${instant(destroyedAt)}).`,
    'Its wrapped bytes are gone from the live row. They live on in dead row versions until vacuum, in the write-ahead log',
    'and in backups until those expire, where the wrapping key of that time still opens them.',
  ].join('\n');
}

const columns: readonly Column<KeyVersion>[] = [
  { title: 'PROJECT', value: ({ projectName }) => projectName },
  { title: 'VERSION', value: ({ version }) => String(version), align: 'right' },
  { title: 'STATUS', value: ({ status }) => status },
  { title: 'KEY', value: ({ id }) => id },
  { title: 'ROWS', value: ({ rows }) => count(rows), align: 'right' },
  { title: 'FINGERPRINT', value: ({ fingerprint }) => fingerprint },
  { title: 'CREATED', value: ({ createdAt }) => instant(createdAt) },
  { title: 'LAST USED', value: ({ lastUsedAt }) => instant(lastUsedAt) },
  { title: 'KEPT UNTIL', value: ({ retentionUntil }) => day(retentionUntil) },
  { title: 'DESTROYED', value: ({ destroyedAt }) => day(destroyedAt) },
];
