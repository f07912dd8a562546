import { KeyringError, type Rotation } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Driving, type DrivingOptions } from '../src/driving.ts';

// When it drives what; that a drive does what it should, the other tests show on real PostgreSQL.

const completed = { state: 'completed', projects: { total: 1 }, rows: { moved: 1, quarantined: 0 } } as Rotation;
let lines: string[];
let close: () => Promise<void>;
const log = { info: (line: string) => lines.push(line), error: (line: string) => lines.push(`! ${line}`) };

function start(
  { waiting, run }: { waiting: () => Promise<string[]>; run: DrivingOptions['rotations']['run'] },
  options: Partial<DrivingOptions> = {},
  emergencies: readonly string[] = [],
): Driving {
  const stop = new AbortController();
  const driving = new Driving({
    rotations: {
      run,
      waiting: async ({ trigger } = {}) =>
        trigger === undefined ? [...emergencies, ...(await waiting())] : [...emergencies],
    },
    log,
    signal: stop.signal,
    everyMs: 1_000,
    atOnce: 4,
    longestBackoffMs: 60_000,
    // No unit is ever handed out here.
    jobs: { send: () => Promise.resolve([]), takeBack: () => Promise.resolve(), clear: () => Promise.resolve() },
    hands: { free: 0, do: () => Promise.reject(new Error('no hands')), onFree: () => () => undefined },
    others: () => 0,
    partRows: 1_000,
    onSent: () => undefined,
    ...options,
  });
  const looping = driving.loop();
  close = () => {
    stop.abort();
    return looping;
  };
  return driving;
}

beforeEach(() => {
  lines = [];
  vi.useFakeTimers();
});
afterEach(async () => {
  await close();
  vi.useRealTimers();
});

it('drives what waits at the start, each once, and what is asked for at once', async () => {
  const waiting = ['a', 'b'];
  const ran: string[] = [];
  const run = (id: string) => {
    ran.push(id);
    waiting.splice(waiting.indexOf(id), 1);
    return Promise.resolve(completed);
  };
  const driving = start({ waiting: () => Promise.resolve([...waiting]), run });
  await vi.advanceTimersByTimeAsync(0);
  expect(ran).toEqual(['a', 'b']);
  waiting.push('c');
  driving.wake();
  await vi.advanceTimersByTimeAsync(0);
  expect(ran).toEqual(['a', 'b', 'c']);
});

it('a rotation that fails is tried again, later each time, and holds up no other', async () => {
  let tries = 0;
  const ran: string[] = [];
  const run = (id: string) => {
    if (id === 'bad') {
      if (++tries < 4) return Promise.reject(new KeyringError('database_refused', 'No.'));
    }
    ran.push(id);
    return Promise.resolve(completed);
  };
  const waiting = () => Promise.resolve(['bad', 'good'].filter((id) => !ran.includes(id)));
  start({ waiting, run });
  await vi.advanceTimersByTimeAsync(10);
  expect(ran).toEqual(['good']);
  await vi.advanceTimersByTimeAsync(6_000);
  expect(tries).toBe(3);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(ran).toEqual(['good', 'bad']);
  expect(lines.filter((line) => line.startsWith('!'))).toEqual([
    '! rotation bad: No. (database_refused) Tried again in 1 s.',
    '! rotation bad: No. (database_refused) Tried again in 2 s.',
    '! rotation bad: No. (database_refused) Tried again in 4 s.',
  ]);
});

it('an outage of the database is survived, and told once', async () => {
  let up = false;
  const ran: string[] = [];
  const waiting = () => {
    if (!up) return Promise.reject(new KeyringError('database_unreachable', 'Gone.'));
    return Promise.resolve(ran.length === 0 ? ['a'] : []);
  };
  const run = (id: string) => {
    ran.push(id);
    return Promise.resolve(completed);
  };
  start({ waiting, run }, { longestBackoffMs: 8_000 });
  await vi.advanceTimersByTimeAsync(600_000);
  expect(lines).toEqual(['! The worker cannot look for rotations: Gone. (database_unreachable)']);
  up = true;
  await vi.advanceTimersByTimeAsync(8_000);
  expect(ran).toEqual(['a']);
  expect(lines[1]).toBe('The worker looks for rotations again.');
});

it('a few at once and no more, so that a large one does not hold up the small ones', async () => {
  const ids = ['large', 'b', 'c', 'd', 'e'];
  const finished = new Set<string>();
  let now = 0;
  let most = 0;
  const run = async (id: string, { signal }: { signal?: AbortSignal } = {}) => {
    most = Math.max(most, ++now);
    await new Promise<void>((resolve) => {
      signal?.addEventListener('abort', () => {
        resolve();
      });
      if (id !== 'large') setTimeout(resolve, 100);
    });
    now--;
    finished.add(id);
    return completed;
  };
  const waiting = () => Promise.resolve(ids.filter((id) => !finished.has(id)));
  start({ waiting, run }, { atOnce: 2 });
  await vi.advanceTimersByTimeAsync(1_000);
  expect([...finished]).toEqual(['b', 'c', 'd', 'e']);
  expect(most).toBe(2);
});

it('an emergency is driven at once, beyond what is driven at once', async () => {
  const ran: string[] = [];
  const run = async (id: string, { signal }: { signal?: AbortSignal } = {}) => {
    ran.push(id);
    await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    throw new KeyringError('interrupted', id);
  };
  const emergencies: string[] = [];
  const driving = start({ waiting: () => Promise.resolve(['a', 'b', 'c']), run }, { atOnce: 2 }, emergencies);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(ran).toEqual(['a', 'b']);
  emergencies.push('leaked', 'leaked, too');
  driving.wake();
  await vi.advanceTimersByTimeAsync(0);
  expect(ran).toEqual(['a', 'b', 'leaked', 'leaked, too']);
});

it('closing interrupts what runs and waits until it has stopped', async () => {
  let stopped = false;
  const run = async (id: string, { signal }: { signal?: AbortSignal } = {}) => {
    await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    stopped = true;
    throw new KeyringError('interrupted', id);
  };
  start({ waiting: () => Promise.resolve(['a']), run });
  await vi.advanceTimersByTimeAsync(0);
  await close();
  expect(stopped).toBe(true);
  expect(lines).toEqual([]);
});
