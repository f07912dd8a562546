import type { Keyring, Rotation, RotationDetail, RotationPreview, RotationRequest } from '@meshhook/keyring';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { leaf, wholeNumber } from '../command.ts';
import { detail, drive, requireEnd } from '../drive.ts';
import { Unhealthy } from '../exit-codes.ts';
import { withKeyring, type App } from '../session.ts';
import { count, duration, plural } from '../terminal/text.ts';
import { quarantineTable, rotationSummary } from '../views.ts';

interface Options {
  readonly project?: string[];
  readonly all?: boolean;
  readonly due?: boolean;
  readonly olderThan?: Date;
  readonly reason?: string;
  readonly dryRun?: boolean;
  readonly wait: boolean;
  readonly fullSpeed?: boolean;
  readonly maxRate?: number;
  /** True without an id: all that are open. */
  readonly resume?: string | true;
}

/** Rows a second, as the library takes them. */
export const MOST_RATE = 1_000_000;

export function registerRotate(program: Command, app: App): void {
  const rotate = leaf(program, 'rotate', 'moves every secret of projects to a new key version, and proves it', [
    'mh-keys rotate --project acme',
    "mh-keys rotate --project acme --project globex --reason 'quarterly'",
    'mh-keys rotate --all --json',
    'mh-keys rotate --due                # what its policy wants rotated, by age or by use',
    'mh-keys rotate --older-than 60d',
    'mh-keys rotate --all --dry-run      # opens every row that would move, and changes nothing',
    'mh-keys rotate --all --full-speed   # without politeness: nobody is using the service now',
    'mh-keys rotate --resume             # goes on with whatever is waiting, paused or blocked',
  ]);
  rotate
    .option('--project <project...>', 'name or id; may be given again')
    .addOption(new Option('--all', 'every project that has a key').conflicts('project'))
    .addOption(new Option('--due', 'projects whose policy wants it').conflicts(['project', 'all']))
    .addOption(
      new Option('--older-than <days>', 'projects whose key is older, as 90d')
        .argParser(madeBefore)
        .conflicts(['project', 'all', 'due']),
    )
    .option('--reason <text>', 'why, for the audit log')
    .option('--full-speed', 'as fast as it goes; without it, ordinary reads and writes go first')
    .option('--max-rate <n>', 'rows a second at most, for each process that works on it', wholeNumber(1, MOST_RATE))
    .option('--dry-run', 'only try to open every row that would move')
    .option('--no-wait', 'ask for it and leave; a running server or worker, or --resume, does it')
    .addOption(
      new Option('--resume [rotation]', 'go on with one rotation, or with all that are open').conflicts([
        ...['project', 'all', 'due', 'olderThan', 'reason', 'dryRun', 'fullSpeed', 'maxRate'],
      ]),
    )
    .action(async (options: Options) => {
      if (options.resume !== undefined) {
        await withKeyring(app, (keyring) => resume(app, keyring, options.resume), { minds: 'signal' });
        return;
      }
      const { project, all, due, olderThan } = options;
      if (project === undefined && all !== true && due !== true && olderThan === undefined) {
        rotate.error('error: say what to rotate: --project <project>, --all, --due, --older-than <days>, or --resume');
      }
      if (options.dryRun === true) {
        await withKeyring(app, (keyring) => dryRun(app, keyring, options), { minds: 'signal' });
      } else {
        await withKeyring(app, (keyring) => run(app, keyring, options), { minds: 'signal' });
      }
    });
}

async function ask(keyring: Keyring, options: Options): Promise<RotationRequest> {
  const { reason, fullSpeed, maxRate } = options;
  return {
    projects: await scope(keyring, options),
    ...(reason === undefined ? {} : { reason }),
    ...(fullSpeed === true ? { pace: 'full' } : {}),
    ...(maxRate === undefined ? {} : { maxRate }),
  };
}

async function scope(keyring: Keyring, { project, due, olderThan }: Options): Promise<RotationRequest['projects']> {
  if (due === true) return { due };
  if (olderThan !== undefined) return { madeBefore: olderThan };
  if (project === undefined) return 'all';
  const ids = new Set<string>();
  for (const name of project) ids.add((await keyring.projects.resolve(name)).id);
  return [...ids];
}

function madeBefore(text: string): Date {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  if (days === undefined) throw new InvalidArgumentError('Write a number of days, as 90d.');
  return new Date(Date.now() - Number(days) * 86_400_000);
}

async function run(app: App, keyring: Keyring, options: Options): Promise<void> {
  const { terminal } = app;
  const request = await ask(keyring, options);
  app.signal.throwIfAborted();
  const { id } = await keyring.rotations.request(request);
  if (!options.wait) {
    const rotation = await detail(keyring, id);
    const how = `A running server or worker does it, or \`mh-keys rotate --resume ${id}\`.`;
    terminal.result({ rotation }, () => `Asked for the rotation ${id}. ${how}`);
    return;
  }
  const rotation = await drive(app, keyring, id);
  terminal.result({ rotation }, () => rotationSummary(terminal, rotation));
  requireEnd(rotation, 'completed');
}

async function dryRun({ terminal, signal }: App, keyring: Keyring, options: Options): Promise<void> {
  let found: RotationPreview;
  try {
    found = await keyring.rotations.preview(await ask(keyring, options), {
      signal,
      onProgress: ({ rows, total }) => {
        terminal.status(`${count(rows)} of ${plural(total, 'row')} opened`);
      },
    });
  } finally {
    terminal.clearStatus();
  }
  const { projects, rows, unreadable, unreadableRows, estimate } = found;
  terminal.result({ preview: found }, () => {
    const lines = [`Would move ${plural(rows, 'row')} of ${plural(projects, 'project')}. Nothing was changed.`];
    if (estimate !== undefined) {
      const rate = count(Math.round(estimate.rowsPerSecond));
      lines.push(
        `At full speed it would take about ${duration(estimate.seconds * 1000)}: ${rate} rows a second, by a sample of ${count(estimate.sampled)}.`,
      );
    }
    if (unreadable.length > 0) lines.push('', quarantineTable(terminal, unreadable));
    return lines.join('\n');
  });
  if (unreadableRows > 0) {
    throw new Unhealthy(
      `${plural(unreadableRows, 'row does not', 'rows do not')} open, and would block the rotation.`,
      'Mend them first: docs/runbooks/a-row-does-not-open.md.',
      { unreadable: unreadableRows },
    );
  }
}

async function resume(app: App, keyring: Keyring, which: Options['resume']): Promise<void> {
  const { terminal } = app;
  const ids = typeof which === 'string' ? [which] : await openRotations(keyring);
  const rotations: RotationDetail[] = [];
  for (const id of ids) rotations.push(await resumeOne(app, keyring, id));
  terminal.result({ rotations }, () => {
    if (rotations.length === 0) return 'No rotation is waiting, paused or blocked.';
    return rotations.map((rotation) => rotationSummary(terminal, rotation)).join('\n\n');
  });
  for (const rotation of rotations) requireResumedEnd(rotation);
}

/** Paused or blocked, it is set going; then it is driven. */
export async function resumeOne(app: App, keyring: Keyring, id: string): Promise<RotationDetail> {
  const { id: known, state } = await detail(keyring, id);
  if (state === 'paused' || state === 'blocked') await keyring.rotations.resume(known);
  return drive(app, keyring, known);
}

/** A rotation that was on its way back ends there. */
export function requireResumedEnd(rotation: RotationDetail): void {
  const back = rotation.projectDetails.some(({ direction }) => direction === 'back');
  requireEnd(rotation, back || rotation.state === 'canceled' ? 'rolled_back' : 'completed');
}

async function openRotations(keyring: Keyring): Promise<string[]> {
  const stopped: ReadonlySet<Rotation['state']> = new Set(['paused', 'blocked']);
  const listed = await keyring.rotations.list({ limit: 500 });
  const waiting = await keyring.rotations.waiting();
  const standing = listed.filter(({ state }) => stopped.has(state)).map(({ id }) => id);
  return [...new Set([...waiting, ...standing.toReversed()])];
}
