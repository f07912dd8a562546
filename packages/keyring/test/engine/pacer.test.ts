import { describe, expect, test } from 'vitest';
import { Pacer, type Pacing } from '../../src/rotation/pacer.ts';

/** Whatever is ready goes on. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A pacer with a clock that moves only when somebody sleeps, works or reads. */
function world(pacing: Partial<Pacing> = {}) {
  const state = { now: 0, calmReadMs: 1, besideReadMs: 1, working: false, batchMs: 10, slept: 0 };
  const started: { at: number; rows: number }[] = [];
  const pacer = new Pacer(
    {
      now: () => state.now,
      sleep: async (ms, signal) => {
        // A read beside a batch is begun some way into it: that wait is the batch's own time.
        if (signal.aborted || state.working) return;
        state.now += ms;
        state.slept += ms;
      },
      probe: async () => (state.working ? state.besideReadMs : state.calmReadMs),
    },
    { pace: 'polite', maxRate: undefined, ...pacing },
  );
  const never = new AbortController().signal;
  const batch = (rows = pacer.batchSize(500), signal = never): Promise<void> =>
    pacer.batch(
      rows,
      'sweep',
      async () => {
        started.push({ at: state.now, rows });
        state.working = true;
        await turn();
        state.now += state.batchMs;
        state.working = false;
      },
      signal,
    );
  const batches = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done++) await batch();
  };
  /** Past what is free. */
  const pastTheBeginning = async (): Promise<void> => {
    while (pacer.report.batches === 0) await batch(100);
  };
  return { state, started, pacer, batch, batches, pastTheBeginning };
}

/** A pacer whose sleeps end by an abort only. */
function sleepless(pacing: Pacing) {
  const asleep: number[] = [];
  const pacer = new Pacer(
    {
      now: () => 0,
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          asleep.push(ms);
          signal.addEventListener('abort', () => resolve(), { once: true });
        }),
      probe: async () => 1,
    },
    pacing,
  );
  return { pacer, asleep };
}

describe('politely', () => {
  test('a small rotation passes at once, without a rest and without a read', async () => {
    const { pacer, batches, state } = world();
    await batches(5);
    expect(state.slept).toBe(0);
    expect(pacer.report).toMatchObject({ batches: 0, rests: 0, probes: 0 });
  });

  test('many slow rows use up the beginning by their time', async () => {
    const { pacer, batch, state } = world();
    state.batchMs = 400;
    for (let done = 0; done < 5; done++) await batch(1);
    expect(pacer.report.batches).toBe(2);
  });

  test('batches take half of the time while nothing gets slower', async () => {
    const { pacer, batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    await batches(100);
    const from = state.now;
    await batches(100);
    expect((100 * state.batchMs) / (state.now - from)).toBeCloseTo(0.5, 1);
    expect(pacer.report).toMatchObject({ share: 0.5, backOffs: 0, batchSize: 100 });
  });

  test('no two batches are under way at once', async () => {
    const { batch, pastTheBeginning, started, state } = world();
    await pastTheBeginning();
    const before = started.length;
    await Promise.all(Array.from({ length: 6 }, () => batch(50)));
    const times = started.slice(before).map(({ at }) => at);
    for (const [n, at] of times.entries()) if (n > 0) expect(at - (times[n - 1] ?? 0)).toBeGreaterThan(state.batchMs);
  });

  test('when reads beside batches get slower it backs off, with a bound, and recovers when that is over', async () => {
    const { pacer, batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    await batches(100);
    state.besideReadMs = 3;
    await batches(20);
    const soon = pacer.report;
    expect(soon.backOffs).toBeGreaterThan(0);
    expect(soon.share).toBeLessThan(0.5);
    expect(soon.batchSize).toBeLessThan(100);
    await batches(300);
    expect(pacer.report).toMatchObject({ share: 0.008, batchSize: 50 });
    state.besideReadMs = 1;
    await batches(20);
    expect(pacer.report.share).toBeGreaterThan(0.008);
    expect(pacer.report.share).toBeLessThan(0.5);
    await batches(1_000);
    expect(pacer.report).toMatchObject({ share: 0.5, batchSize: 100 });
  });

  test('it recovers in more steps than it backed off in', async () => {
    const { pacer, batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    await batches(100);
    state.besideReadMs = 4;
    await batches(300);
    state.besideReadMs = 1;
    await batches(1_000);
    const { share, recoveries } = pacer.report;
    expect(share).toBe(0.5);
    const needed = Math.ceil(Math.log(0.008 / 0.5) / Math.log(0.7));
    expect(recoveries).toBeGreaterThan(2 * needed);
  });

  test('when batches get slower than their like it backs off', async () => {
    const { pacer, batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    await batches(100);
    state.batchMs = 60;
    await batches(20);
    expect(pacer.report.backOffs).toBeGreaterThan(0);
  });

  test('when reads in the pauses get slower than they were, whoever it is that slows them, it backs off', async () => {
    const { pacer, batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    await batches(100);
    state.calmReadMs = state.besideReadMs = 6;
    await batches(50);
    expect(pacer.report.backOffs).toBeGreaterThan(0);
  });

  test('a batch that took minutes buys a rest of half a second', async () => {
    const { batches, pastTheBeginning, state } = world();
    await pastTheBeginning();
    state.batchMs = 300_000;
    await batches(1);
    state.slept = 0;
    await batches(1);
    expect(state.slept).toBeLessThanOrEqual(500);
  });

  test('a batch that fails lets the next one in', async () => {
    const { pacer, batch, pastTheBeginning } = world();
    await pastTheBeginning();
    const failing = pacer.batch(1, 'sweep', () => Promise.reject(new Error('lost')), new AbortController().signal);
    await expect(failing).rejects.toThrow('lost');
    await batch();
  });
});

describe('a cap', () => {
  test.each(['polite', 'full'] as const)('is kept in every second, from the first row: %s', async (pace) => {
    const { pacer, batches, started } = world({ pace, maxRate: 200 });
    expect(pacer.batchSize(500)).toBe(50);
    await batches(60);
    for (const [n, { at }] of started.entries()) {
      const inSecond = started.slice(n).filter((one) => one.at < at + 1_000);
      expect(inSecond.reduce((sum, one) => sum + one.rows, 0)).toBeLessThanOrEqual(200);
    }
  });

  test('does not make batches of no row', () => {
    expect(world({ maxRate: 1 }).pacer.batchSize(500)).toBe(1);
  });

  test('that is lifted owes nothing any more', async () => {
    const { pacer, batches, state } = world({ pace: 'full', maxRate: 1 });
    await batches(3);
    pacer.change({ pace: 'full', maxRate: 1_000_000 });
    state.slept = 0;
    await batches(1);
    expect(state.slept).toBe(0);
  });
});

test('at full speed everything passes at once, as large as it comes', async () => {
  const { pacer } = sleepless({ pace: 'full', maxRate: undefined });
  let underWay = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    most = Math.max(most, ++underWay);
    await turn();
    underWay -= 1;
  };
  const never = new AbortController().signal;
  await Promise.all(Array.from({ length: 5 }, () => pacer.batch(500, 'sweep', work, never)));
  expect(most).toBe(5);
  expect(pacer.batchSize(500)).toBe(500);
  expect(pacer.report).toMatchObject({ batches: 0, rests: 0, probes: 0 });
});

describe('whoever rests', () => {
  const capped: Pacing = { pace: 'full', maxRate: 1 };
  const noWork = async (): Promise<void> => undefined;

  test('stops at once when told to, and so do those behind', async () => {
    const { pacer, asleep } = sleepless(capped);
    const stop = new AbortController();
    await pacer.batch(100, 'sweep', noWork, stop.signal);
    let worked = 0;
    const waiting = [1, 2].map(() => pacer.batch(1, 'sweep', async () => void (worked += 1), stop.signal));
    const outcomes = Promise.allSettled(waiting);
    await turn();
    expect(asleep).toEqual([100_000]);
    stop.abort();
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(worked).toBe(0);
  });

  test('does not hold up one behind that is told to stop', async () => {
    const { pacer } = sleepless(capped);
    const first = new AbortController();
    const second = new AbortController();
    await pacer.batch(100, 'sweep', noWork, first.signal);
    const resting = pacer.batch(1, 'sweep', noWork, first.signal);
    const behind = pacer.batch(1, 'sweep', noWork, second.signal);
    const outcomes = Promise.allSettled([resting, behind]);
    await turn();
    second.abort();
    await expect(behind).rejects.toThrow();
    first.abort();
    await outcomes;
  });

  test('goes on at once when the pace changes', async () => {
    const { pacer, asleep } = sleepless(capped);
    const never = new AbortController().signal;
    await pacer.batch(100, 'sweep', noWork, never);
    const resting = Promise.all([1, 2, 3].map(() => pacer.batch(1, 'sweep', noWork, never)));
    await turn();
    pacer.change({ pace: 'full', maxRate: undefined });
    await resting;
    expect(asleep).toHaveLength(1);
  });
});
