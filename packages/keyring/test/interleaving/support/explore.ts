import { Schedule, type Actor, type Ending, type Moment, type Backend } from './scheduler.ts';
import { commute } from './statements.ts';
import type { Session } from '../../database/support.ts';

/** What is wrong, by the name of the invariant. */
export interface Violation {
  readonly invariant: string;
  readonly detail: string;
}

/** Watches one schedule. */
export interface Checker<Effect> {
  check(moment: Moment<Effect>): Promise<readonly Violation[]>;
  /** In a word or two, how the database looks at the end: for comparing sets of outcomes. */
  outcome(): string;
}

/** A database in which one schedule runs at a time. */
export interface Lane<Effect> {
  readonly observer: Session;
  /** Puts the database back to how it was, and gives a checker for the next schedule. */
  reset(): Promise<Checker<Effect>>;
  actors(): readonly Actor<Effect>[];
  backends(): Promise<readonly Backend[]>;
}

export interface Findings {
  /** Run to their ends. */
  schedules: number;
  /** Given up, because the rest is run in another order that comes to the same. */
  cut: number;
  /** Statements that waited for a lock. */
  waits: number;
  /** Refusals by SQLSTATE. */
  readonly refusals: Map<string, number>;
  /** Different ends: what became of each actor, and how the database looks. */
  readonly ends: Set<string>;
  /** By invariant: in how many schedules, and the first of them in the order of choices, whichever lane came upon one first. */
  readonly violations: Map<string, { schedules: number; first: string; choices: string }>;
}

export interface ExploreOptions {
  /** Default true. */
  readonly reduce?: boolean;
  /** What is added to. Default: nothing yet. */
  readonly findings?: Findings;
}

export function newFindings(): Findings {
  return { schedules: 0, cut: 0, waits: 0, refusals: new Map(), ends: new Set(), violations: new Map() };
}

interface Branch {
  readonly prefix: readonly number[];
  /** Whose next steps need not be tried at the last choice of the prefix. */
  readonly asleep: ReadonlySet<number>;
}

/**
 * Runs the actors in every order there is. With `reduce`, in one of each set of orders that differ only in the places of steps
 * that commute.
 */
export async function explore<Effect>(
  lanes: readonly Lane<Effect>[],
  { reduce = true, findings = newFindings() }: ExploreOptions = {},
): Promise<Findings> {
  const open: Branch[] = [{ prefix: [], asleep: new Set() }];
  const busy = new Set<Promise<void>>();
  const free = [...lanes];
  try {
    while (open.length > 0 || busy.size > 0) {
      const branch = free.length > 0 ? open.pop() : undefined;
      if (branch === undefined) {
        await Promise.race(busy);
        continue;
      }
      const lane = free.pop()!;
      const running = runSteadily(lane, branch, reduce, open, findings).finally(() => {
        busy.delete(running);
        free.push(lane);
      });
      busy.add(running);
    }
  } finally {
    await Promise.allSettled(busy);
  }
  return findings;
}

/** A replay that did not go as the run did whose choices it repeats. */
class Strayed extends Error {}

// A serialization failure may be a false one, by where rows and index entries happen to lie on their pages.
const MOST_TRIES = 10;

/** Runs a branch, again where serializable transactions kept it from being replayed: nothing is noted of a replay. */
async function runSteadily<Effect>(...[lane, ...rest]: Parameters<typeof runOne<Effect>>): Promise<void> {
  const tries = lane.actors().some(({ isolation }) => isolation === 'serializable') ? MOST_TRIES : 1;
  for (let attempt = 1; ; attempt++) {
    try {
      return await runOne(lane, ...rest);
    } catch (error) {
      if (!(error instanceof Strayed) || attempt === tries) throw error;
    }
  }
}

/** Replays the prefix, goes on from there, and leaves the choices it did not take among the open branches. */
async function runOne<Effect>(
  lane: Lane<Effect>,
  { prefix, asleep }: Branch,
  reduce: boolean,
  open: Branch[],
  findings: Findings,
): Promise<void> {
  const checker = await lane.reset();
  const actors = lane.actors();
  const schedule = new Schedule(actors, await lane.backends(), lane.observer);
  const choices: number[] = [];
  const moments: Moment<Effect>[] = [];
  const violations: Violation[] = [];
  let sleeping: ReadonlySet<number> = new Set();
  let cut = false;
  try {
    await schedule.start();
    for (let ready = schedule.ready(); ready.size > 0; ready = schedule.ready()) {
      let choice = prefix[choices.length];
      if (choice === undefined) {
        const awake = [...ready.keys()].filter((index) => !sleeping.has(index));
        choice = awake[0];
        if (choice === undefined) {
          cut = true;
          break;
        }
        awake.slice(1).forEach((other, rank) => {
          const earlier = reduce ? [...sleeping, ...awake.slice(0, rank + 1)] : [];
          open.push({ prefix: [...choices, other], asleep: new Set(earlier) });
        });
      } else {
        if (choices.length === prefix.length - 1) sleeping = asleep;
        if (![choice, ...sleeping].every((index) => ready.has(index))) {
          throw new Strayed(`a replay went another way: ${tell(moments)}`);
        }
      }
      const chosen = ready.get(choice)!;
      sleeping = new Set([...sleeping].filter((index) => index !== choice && commute(ready.get(index)!, chosen)));
      choices.push(choice);
      const moment = await schedule.step(choice);
      moments.push(moment);
      violations.push(...(await checker.check(moment)));
    }
  } finally {
    await schedule.close();
  }
  const endings = schedule.endings();
  if (cut) findings.cut += 1;
  else {
    findings.schedules += 1;
    for (const [name, ending] of endings) {
      if (ending === undefined) throw new Error(`${name} never ended: ${tell(moments)}`);
      if ('refused' in ending) count(findings.refusals, ending.refused);
    }
    findings.ends.add(
      [...[...endings].map(([name, ending]) => `${name}: ${say(ending)}`), checker.outcome()].join('; '),
    );
  }
  findings.waits += moments.filter(({ waits }) => waits).length;
  const path = choices.join('.');
  for (const { invariant, detail } of firstOfEach(violations)) {
    const told = { schedules: 1, first: `${detail}: ${tell(moments)}`, choices: path };
    const known = findings.violations.get(invariant);
    if (known === undefined) findings.violations.set(invariant, told);
    else if (known.choices > path) findings.violations.set(invariant, { ...told, schedules: known.schedules + 1 });
    else known.schedules += 1;
  }
}

function firstOfEach(violations: readonly Violation[]): Violation[] {
  return [...new Map(violations.toReversed().map((violation) => [violation.invariant, violation])).values()];
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

function say<Effect>(ending: Ending<Effect> | undefined): string {
  if (ending === undefined) return 'never ended';
  if ('refused' in ending) return ending.refused;
  return ending.effect === undefined ? 'nothing to do' : 'done';
}

/** A schedule, to be read: who did what, and what came of it. */
export function tell<Effect>(moments: readonly Moment<Effect>[]): string {
  return moments
    .map(({ actor, label, waits, ended }) => {
      const over = [...ended].flatMap(([name, ending]) => ('refused' in ending ? [`${name}: ${ending.refused}`] : []));
      const notes = [...(waits ? ['waits'] : []), ...over].join(', ');
      return `${actor} ${label}${notes === '' ? '' : ` (${notes})`}`;
    })
    .join(' → ');
}
