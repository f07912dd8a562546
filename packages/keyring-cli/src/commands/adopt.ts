import type { AdoptOptions, AdoptReport } from '@meshhook/keyring';
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

const description = 'encrypts rows from before the keyring, online; interrupted, it goes on when run again';

/** `secrets adopt`, or with an argument `columns adopt <label>`. */
export function registerAdopt(parent: Command, app: App, argument?: '<label>'): void {
  const command = argument === undefined ? 'mh-keys secrets adopt' : 'mh-keys columns adopt webhooks.signing_secret';
  const adopting = leaf(parent, argument === undefined ? 'adopt' : `adopt ${argument}`, description, [
    `${command} --dry-run`,
    command,
    `${command} --legacy-key-file ./old.key    # rows under AES-256-GCM, nonce first`,
    `${command} --finish`,
  ])
    .option('--project <project>', 'name or id (default: all projects)')
    .option('--legacy-key-file <file>', 'the key of rows that are encrypted: 32 bytes, 64 hex digits, or base64')
    .option('--dry-run', 'counts and tries, and changes nothing')
    .option('--finish', 'closes the door: from then on plaintext cannot be stored');
  const act = async (label: string | undefined, options: Options): Promise<void> => {
    const report = await adopt(app, label, options);
    app.terminal.result({ adoption: report }, () => summary(app, report));
    const left = report.dryRun ? report.failed.length : report.remaining;
    if (left > 0) throw notAllAdopted(report, left);
  };
  if (argument === undefined) adopting.action((options: Options) => act(undefined, options));
  else adopting.action((label: string, options: Options) => act(label, options));
}

async function adopt(
  app: App,
  label: string | undefined,
  { project, legacyKeyFile, dryRun, finish }: Options,
): Promise<AdoptReport> {
  const { terminal, signal } = app;
  const legacyKey = legacyKeyFile === undefined ? undefined : parseLegacyKey(await readInputFile(legacyKeyFile));
  return withKeyring(
    app,
    async (keyring) => {
      const options: AdoptOptions = {
        ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
        ...(legacyKey === undefined ? {} : { legacyKey }),
        ...(dryRun === undefined ? {} : { dryRun }),
        ...(finish === undefined ? {} : { finish }),
        signal,
        onProgress: ({ adopted, total }) => terminal.status(`adopting  ${count(adopted)}/${plural(total, 'row')}`),
      };
      return label === undefined ? keyring.secrets.adopt(options) : keyring.columns.adopt(label, options);
    },
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
