import {
  KeyringError,
  parseDuration,
  type Keyring,
  type OverdueVersion,
  type PolicyChange,
  type PolicyDates,
  type QuietHours,
  type RotationPolicy,
  type Weekday,
} from '@meshhook/keyring';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { asLeaf, leaf, wholeNumber } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { age, count, instant, line, plural } from '../terminal/text.ts';

interface Scope {
  readonly project?: string;
}

interface SetOptions extends Scope {
  readonly every?: number;
  readonly spread?: number | 'default';
  readonly quiet?: readonly string[];
  readonly cron?: string;
  readonly openFor: number;
  readonly zone?: string;
  readonly anyTime?: boolean;
  readonly keep?: number;
  readonly destroy?: boolean;
  readonly maxEncryptions?: number;
  readonly on?: boolean;
  readonly off?: boolean;
  readonly reason?: string;
  readonly dryRun?: boolean;
}

export function registerSchedule(program: Command, app: App): void {
  const schedule = program.command('schedule').description('when keys are rotated by themselves');

  leaf(schedule, 'show', 'the policy of a project or the default, and the next five dates', [
    'mh-keys schedule show',
    'mh-keys schedule show --project acme --json',
  ])
    .option('--project <project>', 'name or id; without it, the default of all projects')
    .action((scope: Scope) => show(app, scope));

  const set = leaf(schedule, 'set', 'changes it, says the next five dates, and leaves the rest of it as it is', [
    'mh-keys schedule set --every 90d',
    "mh-keys schedule set --every '12 weeks' --quiet 'sat,sun 22:00-06:00' --zone Europe/Berlin",
    "mh-keys schedule set --project acme --every 30d --cron '0 3 * * sat' --open-for 2h",
    "mh-keys schedule set --project acme --off --reason 'frozen until the audit is over'",
    'mh-keys schedule set --every 30d --dry-run',
  ]);
  set
    .option('--project <project>', 'name or id; without it, the default of all projects')
    .option('--every <span>', 'rotate before a version is so old, 24 hours at least: 90d, 12 weeks, 36 hours', span)
    .option(
      '--spread <span>',
      'begin up to so much earlier, each project at its own place; `default`: a tenth, 7d at most',
      spread,
    )
    .option('--quiet <hours>', 'begin only then, as `sat,sun 22:00-06:00`; more than once for more', collect)
    .addOption(new Option('--cron <expression>', 'or from each time of five fields of cron').conflicts('quiet'))
    .addOption(new Option('--open-for <span>', 'how long from then').argParser(span).default(3_600_000, '1h'))
    .option('--zone <zone>', 'whose clocks: an IANA time zone, as Europe/Berlin (default: as before, or UTC)')
    .addOption(new Option('--any-time', 'no quiet hours').conflicts(['quiet', 'cron', 'zone']))
    .option('--keep <span>', 'how long old versions are kept for restored backups', span)
    .option('--destroy', 'destroy old versions after that')
    .option('--no-destroy', 'leave that to people')
    .option('--max-encryptions <n>', 'rotate, too, after so many', wholeNumber(1, 2 ** 32))
    .option('--on', 'rotate by it')
    .addOption(new Option('--off', 'do not; wants --reason').conflicts('on'))
    .option('--reason <text>', 'why, for the record')
    .option('--dry-run', 'say what would come of it, and change nothing')
    .action(async (options: SetOptions) => {
      if (Object.keys(options).every((name) => ['project', 'openFor', 'json', 'dryRun', 'reason'].includes(name))) {
        set.error('error: say what: --every, --spread, --quiet, --cron, --any-time, --keep, --destroy, --on, --off, …');
        return;
      }
      await change(app, options);
    });

  leaf(schedule, 'unset', 'a project goes by the default again', ['mh-keys schedule unset --project acme'])
    .requiredOption('--project <project>', 'name or id')
    .option('--reason <text>', 'why, for the record')
    .action((options: { project: string; reason?: string }) => unset(app, options));

  asLeaf(schedule.command('overdue'), 'projects whose key is older than their policy allows, and why', [
    'mh-keys schedule overdue',
    "mh-keys schedule overdue --json | jq '.total'",
  ])
    .option('--limit <n>', 'how many, the oldest first', wholeNumber(1, 1_000_000), 100)
    .action(({ limit }: { limit: number }) => overdue(app, limit));
}

async function show(app: App, { project }: Scope): Promise<void> {
  const { next, name } = await withKeyring(app, async (keyring) => {
    const found = await resolve(keyring, project);
    return { next: await keyring.policies.next({ projectId: found?.id }), name: found?.name };
  });
  app.terminal.result(asJson(next), () => inWords(next, name));
}

async function change(app: App, options: SetOptions): Promise<void> {
  const { next, name } = await withKeyring(app, async (keyring) => {
    const found = await resolve(keyring, options.project);
    const projectId = found?.id;
    const before = await keyring.policies.show(projectId);
    const wanted = changeOf(options, before);
    if (options.dryRun === true)
      return { next: await keyring.policies.next({ projectId, change: wanted }), name: found?.name };
    await keyring.policies.set(wanted, { projectId, revision: before.revision });
    return { next: await keyring.policies.next({ projectId }), name: found?.name };
  });
  app.terminal.result(asJson(next), () => {
    const said = inWords(next, name);
    return options.dryRun === true ? `${said}\nNothing was changed: this is what would be.` : said;
  });
}

async function unset(app: App, { project, reason }: { project: string; reason?: string }): Promise<void> {
  const { next, name } = await withKeyring(app, async (keyring) => {
    const { id, name: found } = await keyring.projects.resolve(project);
    const { revision } = await keyring.policies.show(id);
    await keyring.policies.unset(id, { revision, ...(reason === undefined ? {} : { reason }) });
    return { next: await keyring.policies.next({ projectId: id }), name: found };
  });
  app.terminal.result(asJson(next), () => inWords(next, name));
}

const AT_ONCE = 10_000;

async function overdue(app: App, limit: number): Promise<void> {
  const found = await withKeyring(app, async ({ policies }) => {
    let { total, projects, next } = await policies.overdue({ limit: Math.min(limit, AT_ONCE) });
    while (next !== undefined && projects.length < limit) {
      const more = await policies.overdue({ limit: Math.min(limit - projects.length, AT_ONCE), after: next });
      ({ total, next } = more);
      projects = [...projects, ...more.projects];
    }
    return { total, projects };
  });
  app.terminal.result(found, () => {
    if (found.total === 0) return 'Nothing is overdue.';
    const shown = table(found.projects, columns(Date.now()), (title) => app.terminal.style('bold', title));
    const more = found.total > found.projects.length ? `\n${count(found.total)} in all.` : '';
    return `${shown}${more}\nWhat to do: docs/runbooks/keys-are-overdue.md`;
  });
}

async function resolve(keyring: Keyring, project: string | undefined) {
  return project === undefined ? undefined : keyring.projects.resolve(project);
}

function changeOf(options: SetOptions, before: RotationPolicy): PolicyChange {
  const { every, keep, destroy, maxEncryptions, reason } = options;
  const quiet = quietHoursOf(options, before);
  return {
    ...(every === undefined ? {} : { rotateAfterMs: every }),
    ...(options.spread === undefined ? {} : { jitterMs: options.spread === 'default' ? null : options.spread }),
    ...(quiet === undefined ? {} : { quietHours: quiet }),
    ...(keep === undefined ? {} : { retentionMs: keep }),
    ...(destroy === undefined ? {} : { destroyAfterRetention: destroy }),
    ...(maxEncryptions === undefined ? {} : { maxEncryptions }),
    ...(options.on === true ? { enabled: true } : options.off === true ? { enabled: false } : {}),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Undefined: as before. */
function quietHoursOf(options: SetOptions, before: RotationPolicy): QuietHours | null | undefined {
  if (options.anyTime === true) return null;
  const zone = options.zone ?? before.quietHours?.zone ?? 'UTC';
  if (options.cron !== undefined) return { zone, cron: options.cron, openForMinutes: options.openFor / 60_000 };
  if (options.quiet !== undefined) return { zone, windows: options.quiet.map(window) };
  if (options.zone === undefined) return undefined;
  if (before.quietHours !== undefined) return { ...before.quietHours, zone };
  throw new KeyringError('invalid_argument', 'A time zone alone says nothing.', {
    remedy: 'Say when, too: --quiet or --cron.',
  });
}

/** `sat,sun 22:00-06:00`, `mon-fri 01:00-05:00`, `daily 22:00-06:00`. */
function window(text: string): { days: Weekday[]; from: string; to: string } {
  const [, days = '', from = '', to = ''] = /^\s*([a-z,-]+)\s+([\d:]+)\s*-\s*([\d:]+)\s*$/i.exec(text) ?? [];
  if (to === '') {
    throw new KeyringError('invalid_argument', `"${text.slice(0, 60)}" is no quiet hours.`, {
      remedy: 'Write them as `sat,sun 22:00-06:00`, `mon-fri 01:00-05:00` or `daily 22:00-06:00`.',
    });
  }
  return { days: days.toLowerCase().split(',').flatMap(daysOf), from, to };
}

const week: readonly Weekday[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];

function daysOf(text: string): Weekday[] {
  if (text === 'daily') return [...week];
  const [from = '', to = from] = text.split('-');
  const [first, last] = [from, to].map((day) => week.findIndex((known) => day.slice(0, 3) === known));
  // The library says which day there is not.
  if (first === undefined || last === undefined || first < 0 || last < 0) return [text as Weekday];
  return first <= last ? week.slice(first, last + 1) : [...week.slice(first), ...week.slice(0, last + 1)];
}

function asJson({ policy, dates, of, promisedAt }: PolicyDates): object {
  return { policy, dates, of, promisedAt };
}

function inWords({ policy, dates, of, promisedAt }: PolicyDates, name: string | undefined): string {
  const whose =
    name === undefined ? 'By default' : policy.revision === 0 ? line`${name}, by the default` : line`${name}`;
  const zone = policy.quietHours?.zone ?? 'UTC';
  const kept = policy.destroyAfterRetention ? 'destroyed after that' : 'then destroyed by hand';
  const lines = [
    line`${whose}: ${policy.inWords}.`,
    line`Old versions are kept for ${plural(Math.round(policy.retentionMs / 86_400_000), 'day')}, and ${kept}.`,
  ];
  if (policy.enabled && policy.reason !== undefined) lines.push(line`Reason: ${policy.reason}`);
  if (!policy.enabled) return lines.join('\n');
  if (dates.length === 0) return [...lines, 'It will not be rotated: these quiet hours do not open again.'].join('\n');
  const whoseDates = {
    project: 'Next',
    'first project': 'Next, for the project that comes first',
    'new version': 'Next, for a version made now',
  };
  lines.push(`${whoseDates[of]}:`, ...dates.map((date) => `  ${local(date, zone)}`));
  const [first] = dates;
  if (first !== undefined && first > promisedAt) {
    lines.push(
      `That is later than ${instant(promisedAt)}, when its age is reached: quiet hours do not open in time, or it is overdue.`,
    );
  }
  return lines.join('\n');
}

/** `2026-12-05 22:00 Europe/Berlin (2026-12-05 21:00:00Z)`. */
function local(date: Date, zone: string): string {
  if (zone === 'UTC') return instant(date);
  const shown = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'short' }).format(
    date,
  );
  return line`${shown} ${zone} (${instant(date)})`;
}

function columns(now: number): readonly Column<OverdueVersion>[] {
  return [
    { title: 'PROJECT', value: ({ projectName }) => projectName },
    { title: 'OVERDUE FOR', value: ({ promisedAt }) => (promisedAt ? age(now - promisedAt.getTime()) : 'use') },
    {
      title: 'WHY',
      value: ({ cause, errorCode }) => causes[cause] + (errorCode === undefined ? '' : ` (${errorCode})`),
    },
    { title: 'ROTATION', value: ({ rotationId }) => rotationId ?? '-' },
    { title: 'NEXT TRY', value: ({ retryAt }) => instant(retryAt) },
  ];
}

const causes: Readonly<Record<OverdueVersion['cause'], string>> = {
  running: 'its rotation is running',
  blocked: 'its rotation is blocked',
  paused: 'its rotation is paused',
  failed: 'its rotation failed',
  given_up: 'its rotation was canceled or turned back',
  waiting: 'quiet hours',
  not_requested: 'nobody asked for it: is a worker alive?',
};

function span(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    const { message, remedy = '' } = error as KeyringError;
    throw new InvalidArgumentError(`${message} ${remedy}`);
  }
}

function spread(text: string): number | 'default' {
  return text === 'default' ? text : span(text);
}

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
