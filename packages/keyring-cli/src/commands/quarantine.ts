import {
  KeyringError,
  type Keyring,
  type QuarantineEntry,
  type QuarantineScope,
  type RotationDetail,
} from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { confirm } from '../confirm.ts';
import { drive } from '../drive.ts';
import { Unhealthy } from '../exit-codes.ts';
import { pagedAfter, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line, plural } from '../terminal/text.ts';
import { rotationSummary } from '../views.ts';

interface Scope {
  readonly project?: string;
  readonly rotation?: string;
}

export function registerQuarantine(program: Command, app: App): void {
  const quarantine = group(program, 'quarantine', 'rows that do not open: list them, try them again, discard one');

  const list = leaf(quarantine, 'list', 'lists the rows that rotations could not open, and why, the oldest first', [
    'mh-keys quarantine list',
    'mh-keys quarantine list --project acme --json',
  ]);
  pagedAfter(list, { most: 10_000, of: 'entry' })
    .option('--project <project>', 'name or id (default: all projects)')
    .option('--rotation <id>', 'those that one rotation met')
    .action(async (options: Scope & Page) => {
      const { limit, after } = options;
      const rows = await withKeyring(app, async (keyring) =>
        keyring.quarantine.list({
          ...(await scope(keyring, options)),
          limit,
          ...(after === undefined ? {} : { after }),
        }),
      );
      app.terminal.result({ quarantine: rows }, () =>
        rows.length === 0 ? 'Nothing is quarantined.' : entries(app, rows),
      );
      sayMore(app.terminal, rows, options, ({ id }) => `--after ${id}`);
    });

  leaf(quarantine, 'retry', 'tries quarantined rows again, and goes on with the rotations that this frees', [
    'mh-keys quarantine retry',
    'mh-keys quarantine retry --project acme',
    'mh-keys quarantine retry --no-wait   # a running server goes on with them',
  ])
    .option('--project <project>', 'name or id (default: all projects)')
    .option('--rotation <id>', 'those that one rotation met')
    .option('--no-wait', 'resume the rotations and leave')
    .action((options: Scope & { wait: boolean }) =>
      withKeyring(app, (keyring) => retry(app, keyring, options), { minds: 'signal' }),
    );

  leaf(quarantine, 'discard <column> <row>', 'deletes a row that does not open, for good', [
    "mh-keys quarantine discard secrets.value 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11 --project acme --reason 'no backup has it'",
  ])
    .requiredOption('--project <project>', 'name or id')
    .requiredOption('--reason <text>', 'why, for the audit log')
    .option('--yes', 'do not ask; needed where there is no terminal to ask at')
    .action(async (label: string, rowId: string, options: { project: string; reason: string; yes?: boolean }) => {
      const discarded = await withKeyring(app, async (keyring) => {
        const project = await keyring.projects.resolve(options.project);
        if (options.yes !== true) {
          await confirm(app, {
            warning: line`This deletes the row ${rowId} of ${label} in ${project.name} for good. Nothing can open it.`,
            wanted: rowId,
            what: 'id of the row',
            remedy: 'Check it with `mh-keys quarantine list`.',
          });
        }
        return keyring.quarantine.discard({ projectId: project.id, label, rowId }, { reason: options.reason });
      });
      app.terminal.result({ discarded }, () =>
        [
          line`Discarded ${discarded.name ?? discarded.rowId} of ${discarded.label}.`,
          line`Go on with its rotation: mh-keys rotate --resume ${discarded.rotationId}`,
        ].join('\n'),
      );
    });
}

async function scope(keyring: Keyring, { project, rotation }: Scope): Promise<QuarantineScope> {
  return {
    ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
    ...(rotation === undefined ? {} : { rotationId: rotation }),
  };
}

async function retry(app: App, keyring: Keyring, options: Scope & { wait: boolean }): Promise<void> {
  const { terminal, signal } = app;
  const report = await keyring.quarantine.retry({ ...(await scope(keyring, options)), signal });
  const rotations: RotationDetail[] = [];
  if (options.wait) for (const id of report.resumed) rotations.push(await drive(app, keyring, id));
  terminal.result({ retry: report, rotations }, () => {
    const { tried, opened, gone, unreadableRows } = report;
    const lines = [
      `${plural(tried, 'row')} tried: ${String(opened)} open now, ${String(gone)} are gone, ${String(unreadableRows)} do not open.`,
      ...rotations.map((rotation) => rotationSummary(terminal, rotation)),
    ];
    if (!options.wait && report.resumed.length > 0) lines.push(`Resumed: ${report.resumed.join(', ')}.`);
    if (report.unreadable.length > 0) lines.push(entries(app, report.unreadable));
    return lines.join('\n\n');
  });
  if (report.unreadableRows > 0) {
    throw new Unhealthy(
      `${plural(report.unreadableRows, 'row does not', 'rows do not')} open.`,
      'Mend them, or discard them: docs/runbooks/a-row-does-not-open.md.',
      { unreadable: report.unreadableRows },
    );
  }
  const stuck = rotations.find(({ state }) => state === 'blocked' || state === 'failed');
  if (stuck !== undefined) {
    throw new KeyringError('rotation_blocked', `The rotation ${stuck.id} is ${stuck.state}; why is named above.`, {
      remedy: 'Mend that (docs/runbooks/a-rotation-does-not-finish.md), then run this again.',
      details: { rotationId: stuck.id, state: stuck.state },
    });
  }
}

function entries({ terminal }: App, rows: readonly QuarantineEntry[]): string {
  return table(rows, columns, (title) => terminal.style('bold', title));
}

const columns: readonly Column<QuarantineEntry>[] = [
  { title: 'PROJECT', value: ({ projectName }) => projectName },
  { title: 'SECRET', value: ({ name }) => name ?? '-' },
  { title: 'COLUMN', value: ({ label }) => label },
  { title: 'ROW', value: ({ rowId }) => rowId },
  { title: 'REASON', value: ({ reason }) => reason.replaceAll('_', ' ') },
  { title: 'SINCE', value: ({ noticedAt }) => instant(noticedAt) },
  { title: 'ROTATION', value: ({ rotationId }) => rotationId },
];
