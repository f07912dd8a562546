/**
 * Years of an installation, lived by the database's own clock: real policies, real looks, real rotations of real rows. The clock
 * goes from one moment at which something may happen to the next; what must be true is asked at each.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Keyring, PolicyChange, Rotation } from '@meshhook/keyring';
import { onTestFinished } from 'vitest';
import { seededRandom } from '../../../keyring/test/engine/support/random.ts';
import { connectionLost, interceptDatabase } from '../../../keyring/test/engine/support/intercept.ts';
import { startInstallation, type Installation } from '../../../keyring/test/engine/support/installation.ts';
import {
  codeOf,
  detailOf,
  expectValues,
  makeProject,
  type KnownProject,
} from '../../../keyring/test/engine/support/world.ts';
import { keepSchedule, type Kept } from '../../src/due.ts';
import { takeClock } from './clock.ts';
import { shown, type Shown } from './wall-clock.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Somebody's project in these years. */
export interface Resident {
  readonly name: string;
  /** Undefined: the default. */
  readonly policy?: PolicyChange;
  readonly zone: string;
  /** May it begin when its zone's clocks show this? Said again, without anything of the schedule's. */
  readonly mayBegin: (at: Shown) => boolean;
  /** How much later than its promise it may be, because its quiet hours open too seldom. */
  readonly seldomMs?: number;
  /** Changes of its policy, by hand. */
  readonly changes?: readonly { readonly at: number; readonly change: PolicyChange }[];
}

export interface LifeOptions {
  readonly seed: number;
  readonly from: number;
  readonly until: number;
  /** What every project without a policy of its own goes by. */
  readonly byDefault: PolicyChange;
  readonly residents: readonly Resident[];
  /** Moments that are looked at from up close: every half hour, two hours before and after. */
  readonly closely: readonly number[];
  /** Times at which nobody is there. */
  readonly outages: number;
  /** Times at which the clock is wrong by up to three hours, and put right. */
  readonly jumps: number;
  /** One of so many rotations fails. */
  readonly failing: number;
}

/** What happened, in numbers: a test says how much of it there must have been for it to have proved anything. */
export interface Lived {
  looks: number;
  rotations: number;
  moved: number;
  failed: number;
  killed: number;
  late: number;
  overdue: number;
  destroyed: number;
  outages: number;
  jumps: number;
  together: number;
}

interface Life extends Resident {
  readonly project: KnownProject;
  ageMs: number;
  enabled: boolean;
  /** Of the version that encrypts. */
  keyId: string;
  madeAt: number;
  /** When the version's rotation was said to begin, when the version was made; undefined since that was changed by hand. */
  planned: number | undefined;
  /** When it is said to begin now. */
  next: number;
  /** Dates that were said for it before the version was made, the next first. */
  foretold: number[];
  /** Something came between, since the version was made: nobody was there, a rotation failed, somebody changed the policy. */
  disturbed: boolean;
  overdue: boolean;
}

class Untrue extends Error {}

export async function live(options: LifeOptions): Promise<Lived> {
  const installation = await startInstallation();
  onTestFinished(() => installation.end());
  return liveIn(installation, options);
}

async function liveIn(installation: Installation, options: LifeOptions): Promise<Lived> {
  const random = seededRandom(options.seed);
  const lived: Lived = {
    ...{ looks: 0, rotations: 0, moved: 0, failed: 0, killed: 0, late: 0, overdue: 0, destroyed: 0 },
    ...{ outages: 0, jumps: 0, together: 0 },
  };
  const clock = await takeClock(installation, options.from);
  let now = options.from;
  const turnTo = async (instant: number): Promise<void> => {
    now = instant;
    await clock.set(instant);
  };
  const said = (instant: number | undefined): string =>
    instant === undefined ? 'never' : new Date(instant).toISOString();
  const must = (holds: boolean, claim: () => string): void => {
    if (!holds) throw new Untrue(`${claim()} (seed ${String(options.seed)}, ${said(now)})`);
  };

  const keyring = await installation.open();
  const tickers: readonly Keyring[] = [keyring, await installation.open()];
  const general = await keyring.policies.show();
  await keyring.policies.set(options.byDefault, { revision: general.revision });
  const lives: Life[] = [];
  for (const resident of options.residents) {
    const project = await makeProject(installation, keyring, { secrets: 2 });
    if (resident.policy !== undefined)
      await keyring.policies.set(resident.policy, { projectId: project.id, revision: 0 });
    const life: Life = {
      ...{ ...resident, project, ageMs: 0, enabled: true, keyId: '', madeAt: 0, planned: undefined, next: Infinity },
      ...{ foretold: [], disturbed: false, overdue: false },
    };
    lives.push(life);
    await settle(life);
  }

  /** Reads what the installation says of a project whose version is new. */
  async function settle(life: Life): Promise<void> {
    const versions = await keyring.keys.list({ projectId: life.project.id });
    const active = versions.find((version) => version.active);
    life.keyId = active?.id ?? '';
    life.madeAt = active?.createdAt.getTime() ?? NaN;
    life.disturbed = false;
    life.overdue = false;
    await ask(life);
    life.planned = life.next === Infinity ? undefined : life.next;
  }

  /** The next five dates, as every face of the installation says them. */
  async function ask(life: Life): Promise<void> {
    const { policy, dates } = await keyring.policies.next({ projectId: life.project.id });
    [life.ageMs, life.enabled] = [policy.rotateAfterMs, policy.enabled];
    const [first = Infinity, ...later] = dates.map((date) => date.getTime());
    life.next = first;
    life.foretold = later;
    must(first >= now, () => `${life.name} is said to begin at ${said(first)}, which is over`);
    must(policy.enabled === (first !== Infinity), () => `${life.name} is on and has no date, or off and has one`);
  }

  /** One look, by one or two processes at once; what becomes of it is what was foretold. */
  async function look(at: number): Promise<void> {
    await turnTo(at);
    lived.looks += 1;
    const kept = await Promise.all(
      tickers.slice(0, 1 + random(2)).map((ticker) => keepSchedule(ticker, random(2) === 0 ? 0 : MINUTE / 2)),
    );
    for (const life of lives) {
      if (at <= life.next + 2 * MINUTE) continue;
      // Somebody's rotation took its time, and nobody looked: its quiet hours may be over.
      life.disturbed = true;
      await ask(life);
    }
    const due = lives.filter((life) => life.next <= at);
    const asked = kept.filter(({ rotationId }) => rotationId !== undefined);
    must(asked.length === (due.length === 0 ? 0 : 1), () => {
      const names = due.map(({ name, next }) => `${name} ${said(next)}`).join(', ');
      return `${String(asked.length)} rotations were asked for, and due were: ${names || 'none'}`;
    });
    checkOverdue(kept, at);
    lived.destroyed += kept.reduce((sum, { destroyed }) => sum + destroyed, 0);
    const [{ rotationId = '' } = {}] = asked;
    if (due.length > 0) await rotate(rotationId, due, at);
  }

  function checkOverdue(kept: readonly Kept[], at: number): void {
    const became = lives.filter((life) => life.enabled && !life.overdue && life.madeAt + life.ageMs + HOUR <= at);
    const told = kept.reduce((sum, { overdue }) => sum + overdue, 0);
    must(
      told === became.length,
      () => `${String(told)} became overdue, not ${became.map(({ name }) => name).join(', ')}`,
    );
    for (const life of became) life.overdue = true;
    lived.overdue += told;
  }

  async function rotate(id: string, due: readonly Life[], at: number): Promise<void> {
    const { projectDetails, ...rotation } = await detailOf(keyring, id);
    const ids = (of: readonly string[]): string[] => [...of].sort();
    must(
      isDeepStrictEqual(
        ids(projectDetails.map(({ projectId }) => projectId)),
        ids(due.map(({ project }) => project.id)),
      ),
      () => `The rotation is not of ${due.map(({ name }) => name).join(', ')}`,
    );
    if (due.length > 1) lived.together += 1;
    for (const life of due) checkBeginning(life, at);
    await checkLateness(rotation, due, at);
    lived.rotations += 1;
    if (options.failing > 0 && random(options.failing) === 0) return failed(id, due);
    // Whoever drives it comes seconds later; now and then it dies, and another one comes hours later.
    await turnTo(at + random(90_000));
    if (random(12) === 0) {
      lived.killed += 1;
      await dies(id, 12 + random(25));
      await turnTo(now + random(2 * HOUR));
    }
    await completed(id, due, at);
  }

  function checkBeginning(life: Life, at: number): void {
    const { name, zone, planned, disturbed, madeAt, ageMs, seldomMs = 0 } = life;
    must(life.mayBegin(shown(zone, at)), () => `${name} begins outside its quiet hours`);
    must(
      at - madeAt >= 12 * HOUR,
      () => `${name} begins when its version is ${String((at - madeAt) / HOUR)} hours old`,
    );
    must(
      disturbed || at <= madeAt + ageMs + seldomMs + MINUTE,
      () => `${name} begins after ${said(madeAt + ageMs)}, its promise`,
    );
    must(disturbed || (planned ?? Infinity) + 2 * MINUTE > at, () => `${name} was said to begin at ${said(planned)}`);
  }

  /** It says for when it was planned, as that was foretold, and the trail by how much it is late, if it is. */
  async function checkLateness(
    rotation: Pick<Rotation, 'id' | 'plannedFor'>,
    due: readonly Life[],
    at: number,
  ): Promise<void> {
    const plannedFor = rotation.plannedFor?.getTime() ?? NaN;
    const first = Math.min(...due.map(({ planned }) => planned ?? Infinity));
    if (due.every(({ planned }) => planned !== undefined)) {
      must(plannedFor === first, () => `It says that it was planned for ${said(plannedFor)}, not for ${said(first)}`);
    }
    const [entry] = await installation.sql<{ details: Record<string, unknown> }>(
      `select details from keyring.audit_log where action = 'rotation.requested' and subject = $1`,
      [`rotation:${rotation.id}`],
    );
    const late = at - plannedFor;
    const expected = late > 5 * MINUTE ? Math.round(late / 1000) : undefined;
    must(entry?.details['lateSeconds'] === expected, () => `It is late by ${String(late)} ms, and does not say so`);
    if (expected !== undefined) lived.late += 1;
  }

  async function completed(id: string, due: readonly Life[], at: number): Promise<void> {
    const { state } = await keyring.rotations.run(id);
    must(state === 'completed', () => `A rotation is ${state}`);
    for (const life of due) {
      const [foretold] = life.foretold;
      const before = life.keyId;
      const asForetold = !life.disturbed && now - at < 2 * MINUTE;
      await settle(life);
      must(life.keyId !== before, () => `${life.name} has no new version`);
      lived.moved += 1;
      // The second date of five, said long before: dates are of full hours, and a version is made some moments after its own.
      if (asForetold && foretold !== undefined && life.planned !== undefined) {
        must(
          Math.abs(life.planned - foretold) <= HOUR,
          () => `${life.name} had been foretold for ${said(foretold)}, and now for ${said(life.planned)}`,
        );
      }
    }
  }

  async function failed(id: string, due: readonly Life[]): Promise<void> {
    await dies(id, ({ text }) => text.includes('advisory_xact_lock(keyring.project_lock'));
    await installation.behindTheFence(
      `update keyring.encryption_keys k set state = 'destroyed', wrapped_key = null, destroyed_at = now()
       from keyring.rotation_projects g where g.rotation_id = $1 and k.id = g.target_key_id`,
      [id],
    );
    const { state } = await keyring.rotations.run(id);
    must(state === 'failed', () => `A rotation without its new version is ${state}`);
    lived.failed += 1;
    for (const life of due) {
      life.disturbed = true;
      await ask(life);
      must(life.next >= now + HOUR, () => `${life.name} failed, and is said to be tried again at ${said(life.next)}`);
    }
  }

  /** Drives it until some statement, which is not sent any more: the process is dead. */
  async function dies(id: string, before: number | ((statement: { readonly text: string }) => boolean)): Promise<void> {
    const death = new AbortController();
    let left = before;
    const dying = await installation.open({
      wrap: (database) =>
        interceptDatabase(database, async ({ statement, send, cut }) => {
          if (!(typeof left === 'number' ? --left < 0 : left(statement))) return send();
          death.abort();
          cut();
          throw connectionLost();
        }),
    });
    await codeOf(dying.rotations.run(id, { signal: death.signal }));
    await installation.sql('update keyring.rotations set runner_until = null where id = $1', [id]);
  }

  const outages = Array.from({ length: options.outages }, () => {
    const begins = options.from + random(Math.floor((options.until - options.from) / MINUTE)) * MINUTE;
    return { begins, ends: begins + 6 * HOUR + random(20 * 24) * HOUR };
  }).sort((a, b) => a.begins - b.begins);
  const jumps = Array.from(
    { length: options.jumps },
    () => options.from + random(Math.floor((options.until - options.from) / MINUTE)) * MINUTE,
  ).sort((a, b) => a - b);
  const closely = options.closely
    .flatMap((moment) => Array.from({ length: 8 }, (_, n) => moment + (n - 4) * 30 * MINUTE))
    .sort((a, b) => a - b);
  const changes = lives
    .flatMap((life) => (life.changes ?? []).map(({ at, change }) => ({ at, change, life })))
    .sort((a, b) => a.at - b.at);

  let lastLook = options.from;
  const lookNow = async (at: number): Promise<void> => {
    const due = Math.max(at, lastLook + MINUTE);
    await look(due);
    lastLook = due;
  };
  for (;;) {
    const next = Math.min(
      ...lives.map((life) => life.next),
      ...[outages[0]?.begins, jumps[0], closely[0], changes[0]?.at].map((at) => at ?? Infinity),
    );
    if (next >= options.until) break;
    if (outages[0] !== undefined && outages[0].begins <= next) {
      const { ends } = outages.shift() ?? { ends: now };
      lived.outages += 1;
      await turnTo(Math.max(now, ends));
      for (const life of lives) {
        const missed = life.next < now;
        await ask(life);
        life.disturbed ||= missed;
      }
      while ((closely[0] ?? Infinity) < now) closely.shift();
      await lookNow(now);
    } else if (changes[0] !== undefined && changes[0].at <= next) {
      const { at, change, life } = changes.shift() ?? { at: now, change: {}, life: lives[0] as Life };
      await turnTo(Math.max(now, at));
      const { revision } = await keyring.policies.show(life.project.id);
      await keyring.policies.set(change, { projectId: life.project.id, revision });
      await ask(life);
      [life.disturbed, life.planned] = [true, undefined];
      await lookNow(now);
    } else if (jumps[0] !== undefined && jumps[0] <= next) {
      jumps.shift();
      lived.jumps += 1;
      // Some hours ahead, which rotates what comes in them; back again, and a little further; and right.
      const right = Math.max(now, next);
      lastLook = 0;
      await lookNow(right + random(3 * 60) * MINUTE);
      for (const at of [right - random(60) * MINUTE, right + MINUTE]) {
        lastLook = 0;
        // To whom the clock is turned back, dates are as far away as it shows.
        await turnTo(at);
        for (const life of lives) {
          const before = life.next;
          await ask(life);
          life.disturbed ||= life.next !== before;
        }
        await lookNow(at);
      }
      lastLook = now;
    } else if (closely[0] !== undefined && closely[0] <= next) {
      await lookNow(closely.shift() ?? now);
    } else {
      // A minute too early nothing begins; within the minute it does.
      if (next - MINUTE >= lastLook + MINUTE) await lookNow(next - MINUTE);
      await lookNow(Math.max(next, now) + random(MINUTE));
    }
  }

  for (const life of lives) await expectValues(installation, keyring, life.project);
  const twice = await installation.sql(
    `select source_key_id from keyring.rotation_projects where state = 'completed' group by 1 having count(*) > 1`,
  );
  must(twice.length === 0, () => 'A version was rotated twice');
  const unplanned = await installation.sql(
    `select id from keyring.rotations where trigger <> 'schedule' or planned_for is null or state not in ('completed', 'failed')`,
  );
  must(unplanned.length === 0, () => 'There is a rotation that nobody planned, or that did not end');
  return lived;
}
