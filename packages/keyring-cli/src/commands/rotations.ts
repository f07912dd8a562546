import {
  rotationProjectStates,
  type Keyring,
  type PaceChange,
  type Receipt,
  type RotationProjectState,
} from '@meshhook/keyring';
import { Option, type Command } from 'commander';
import { asLeaf, leaf, wholeNumber } from '../command.ts';
import { detail, drive, requireEnd } from '../drive.ts';
import { pagedAfter, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { projectTable, rotationSummary, rotationTable, rotationView, paceLine } from '../views.ts';
import { MOST_RATE, requireResumedEnd, resumeOne } from './rotate.ts';

const ID = '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11';

interface Options {
  readonly limit: number;
  readonly before?: string;
}

export function registerRotations(program: Command, app: App): void {
  const { terminal } = app;
  const rotations = asLeaf(program.command('rotations [id]'), 'the history of rotations, or one in full', [
    'mh-keys rotations',
    `mh-keys rotations ${ID}`,
    `mh-keys rotations pause ${ID}`,
    'mh-keys rotations --limit 500 --json',
  ]);
  rotations
    .option('--limit <n>', 'how many, the newest first (at most 500)', wholeNumber(1, 500), 50)
    .option('--before <id>', 'only those asked for before that one')
    .action((id: string | undefined, options: Options) => (id === undefined ? list(app, options) : show(app, id)));

  leaf(rotations, 'pause <id>', 'brings a rotation to rest; reads and writes go on as ever', [
    `mh-keys rotations pause ${ID}`,
  ]).action(async (id: string) => {
    const rotation = await withKeyring(app, (keyring) => keyring.rotations.pause(id));
    terminal.result({ rotation }, () => `Paused. Go on with \`mh-keys rotations resume ${rotation.id}\`.`);
  });

  leaf(rotations, 'resume <id>', 'goes on with a paused or blocked rotation, and with one whose process died', [
    `mh-keys rotations resume ${ID}`,
  ]).action(async (id: string) => {
    const rotation = await withKeyring(app, (keyring) => resumeOne(app, keyring, id), { minds: 'signal' });
    terminal.result({ rotation }, () => rotationSummary(terminal, rotation));
    requireResumedEnd(rotation);
  });

  const pace = leaf(rotations, 'pace <id>', 'changes how fast a rotation goes, also while it runs, whoever drives it', [
    `mh-keys rotations pace ${ID} --full-speed`,
    `mh-keys rotations pace ${ID} --polite --max-rate 500`,
    `mh-keys rotations pace ${ID} --no-max-rate`,
  ]);
  pace
    .option('--polite', 'ordinary reads and writes go first')
    .addOption(new Option('--full-speed', 'as fast as it goes').conflicts('polite'))
    .option('--max-rate <n>', 'rows a second at most, for each process that works on it', wholeNumber(1, MOST_RATE))
    .option('--no-max-rate', 'without such a limit')
    .action(async (id: string, options: PaceOptions) => {
      const change = paceChange(options);
      if (change === undefined) {
        pace.error('error: say how: --polite, --full-speed, --max-rate <n>, or --no-max-rate');
        return;
      }
      const rotation = await withKeyring(app, (keyring) => keyring.rotations.setPace(id, change));
      terminal.result({ rotation }, () => `From now on: ${paceLine(rotation)}.`);
    });

  leaf(rotations, 'cancel <id>', 'takes the projects out that are not promoted yet; the others go on to their end', [
    `mh-keys rotations cancel ${ID}`,
  ]).action(async (id: string) => {
    const rotation = await withKeyring(app, (keyring) => keyring.rotations.cancel(id));
    terminal.result({ rotation }, () =>
      rotation.state === 'canceled'
        ? 'Canceled: nothing was promoted.'
        : `Canceled for ${String(rotation.projects.canceled ?? 0)} of ${String(rotation.projects.total)} projects. The others were promoted; \`mh-keys rotations rollback ${rotation.id}\` turns them back.`,
    );
  });

  leaf(rotations, 'rollback <id>', 'turns every project that is not finalized back to the version it came from', [
    `mh-keys rotations rollback ${ID}`,
  ]).action(async (id: string) => {
    const rotation = await withKeyring(
      app,
      async (keyring) => drive(app, keyring, (await keyring.rotations.rollback(id)).id),
      { minds: 'signal' },
    );
    terminal.result({ rotation }, () => rotationSummary(terminal, rotation));
    requireEnd(rotation, 'rolled_back');
  });

  const projects = leaf(rotations, 'projects <id>', 'its projects, each with how far it is, by their ids', [
    `mh-keys rotations projects ${ID}`,
    `mh-keys rotations projects ${ID} --state blocked --json`,
  ]);
  pagedAfter(projects, { most: 1_000, of: 'project' })
    .addOption(new Option('--state <state>', 'only those in it').choices(rotationProjectStates))
    .action(async (id: string, page: Page & { state?: RotationProjectState }) => {
      const { found, rotation } = await withKeyring(app, async (keyring) => ({
        found: await keyring.rotations.projects(id, page),
        rotation: await keyring.rotations.standing(id),
      }));
      terminal.result({ projects: found }, () =>
        rotation === undefined || found.length === 0
          ? 'No project of this rotation is like that.'
          : projectTable(terminal, rotation, found),
      );
      sayMore(terminal, found, page, ({ projectId }) => `--after ${projectId}`);
    });

  leaf(rotations, 'receipts <id>', 'the signed receipts of the projects that a rotation finalized', [
    `mh-keys rotations receipts ${ID} > receipts.jsonl`,
    `mh-keys rotations receipts ${ID} --json | jq '.receipts[0].payload | fromjson'`,
  ]).action(async (id: string) => {
    const receipts = await withKeyring(app, async (keyring) => allReceipts(keyring, (await detail(keyring, id)).id));
    terminal.result({ receipts }, () => receiptLines(receipts));
  });
}

interface PaceOptions {
  readonly polite?: boolean;
  readonly fullSpeed?: boolean;
  /** False: without. */
  readonly maxRate?: number | false;
}

function paceChange({ polite, fullSpeed, maxRate }: PaceOptions): PaceChange | undefined {
  const rate = typeof maxRate === 'number' ? maxRate : maxRate === false ? null : undefined;
  if (polite !== true && fullSpeed !== true && rate === undefined) return undefined;
  return {
    ...(polite === true ? { pace: 'polite' } : fullSpeed === true ? { pace: 'full' } : {}),
    ...(rate === undefined ? {} : { maxRate: rate }),
  };
}

async function list(app: App, { limit, before }: Options): Promise<void> {
  const rotations = await withKeyring(app, (keyring) =>
    keyring.rotations.list({ limit, ...(before === undefined ? {} : { before }) }),
  );
  app.terminal.result({ rotations }, () => {
    if (rotations.length === 0) return 'There were no rotations yet: `mh-keys rotate --all` starts one.';
    return rotationTable(app.terminal, rotations);
  });
  const last = rotations.at(-1);
  if (last !== undefined && rotations.length === limit) {
    app.terminal.say(`Older ones: mh-keys rotations --before ${last.id}`);
  }
}

async function show(app: App, id: string): Promise<void> {
  const rotation = await withKeyring(app, (keyring) => detail(keyring, id));
  app.terminal.result({ rotation }, () => rotationView(app.terminal, rotation));
}

/** They are to be kept: all of them, however many projects there were. */
async function allReceipts(keyring: Keyring, rotationId: string): Promise<Receipt[]> {
  const all: Receipt[] = [];
  for (;;) {
    const last = all.at(-1);
    const page = await keyring.rotations.receipts(rotationId, last === undefined ? {} : { after: projectOf(last) });
    if (page.length === 0) return all;
    all.push(...page);
  }
}

function projectOf({ payload }: Receipt): string {
  return (JSON.parse(payload) as { readonly project: { readonly id: string } }).project.id;
}

/** One document a line: each can be kept, and verified, by itself. */
function receiptLines(receipts: readonly Receipt[]): string {
  if (receipts.length === 0) return 'No project of this rotation is finalized.';
  return receipts.map((receipt) => JSON.stringify(receipt)).join('\n');
}
