import type { AdoptReport } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { Unhealthy } from '../exit-codes.ts';
import { parseLegacyKey, readInputFile } from '../input.ts';
import { withKeyring, type App } from '../session.ts';
import { table } from '../terminal/table.ts';
import { count, plural } from '../terminal/text.ts';

interface Options {
  readonly project?: string;
  readonly legacyKeyFile?: string;
  readonly dryRun?: boolean;
  readonly finish?: boolean;
}

export function registerAdopt(secrets: Command, app: App): void {
  leaf(secrets, 'adopt', 'encrypts rows from before the keyring, online; interrupted, it goes on when run again', [
    'mh-keys secrets adopt --dry-run',
    'mh-keys secrets adopt',
    'mh-keys secrets adopt --legacy-key-file ./old.key    # rows under AES-256-GCM, nonce first',
    'mh-keys secrets adopt --finish',
  ])
    .option('--project <project>', 'name or id (default: all projects)')
    .option('--legacy-key-file <file>', 'the key of rows that are encrypted: 32 bytes, 64 hex digits, or base64')
    .option('--dry-run', 'counts and tries, and changes nothing')
    .option('--finish', 'closes the door: from then on plaintext cannot be stored')
    .action(async (options: Options) => {
      const { terminal } = app;
      const report = await adopt(app, options);
      terminal.result({ adoption: report }, () => summary(app, report));
      const left = report.dryRun ? report.failed.length : report.remaining;
      if (left > 0) throw notAllAdopted(report, left);
    });
}

async function adopt(app: App, { project, legacyKeyFile, dryRun, finish }: Options): Promise<AdoptReport> {
  const { terminal, signal } = app;
  const legacyKey = legacyKeyFile === undefined ? undefined : parseLegacyKey(await readInputFile(legacyKeyFile));
  return withKeyring(
    app,
    async (keyring) =>
      keyring.secrets.adopt({
        ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
        ...(legacyKey === undefined ? {} : { legacyKey }),
        ...(dryRun === undefined ? {} : { dryRun }),
        ...(finish === undefined ? {} : { finish }),
        signal,
        onProgress: ({ adopted, total }) => terminal.status(`adopting  ${count(adopted)}/${plural(total, 'row')}`),
      }),
    { minds: 'signal' },
  ).finally(() => legacyKey?.fill(0));
}

function summary({ terminal }: App, { dryRun, found, adopted, remaining, failed, finished }: AdoptReport): string {
  const lines = dryRun
    ? [
        `${plural(found, 'row')} from before the keyring; ${count(found - failed.length)} can be adopted. Nothing was changed.`,
      ]
    : [`Adopted ${count(adopted)} of ${plural(found, 'row')}; ${count(remaining)} left.`];
  if (finished) lines.push('Adoption is finished: plaintext cannot be stored any more.');
  if (failed.length > 0) {
    const columns = [
      { title: 'ROW', value: (row: (typeof failed)[number]) => row.rowId },
      { title: 'PROJECT', value: (row: (typeof failed)[number]) => row.projectId },
      { title: 'REASON', value: (row: (typeof failed)[number]) => row.reason },
    ];
    lines.push(
      '',
      table(failed, columns, (title) => terminal.style('bold', title)),
    );
  }
  return lines.join('\n');
}

function notAllAdopted({ failed }: AdoptReport, left: number): Unhealthy {
  const remedy =
    failed.length === 0
      ? 'Other transactions hold them: run it again.'
      : 'They are as they were. Give their key with --legacy-key-file, or set these secrets again.';
  return new Unhealthy(`${plural(left, 'row')} could not be adopted.`, remedy, { left, failed: failed.length });
}
