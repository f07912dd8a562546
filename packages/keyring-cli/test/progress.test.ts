import type { Rotation } from '@meshhook/keyring';
import { expect, test } from 'vitest';
import { phaseOf, progressLine, rotationProgress } from '../src/terminal/rotation-progress.ts';
import { fakeTerminal } from './support/fake-terminal.ts';

function rotation(moved: number, projects: Rotation['projects'], state: Rotation['state'] = 'running'): Rotation {
  return {
    id: '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11',
    scope: 'projects',
    trigger: 'manual',
    state,
    requestedBy: 'cli:ada@laptop',
    reason: undefined,
    requestedAt: new Date(0),
    startedAt: new Date(0),
    finishedAt: undefined,
    plannedFor: undefined,
    durationMs: 0,
    runner: undefined,
    pace: 'polite',
    maxRate: undefined,
    projects,
    rows: { total: 10_000, moved, verified: 0, quarantined: 0 },
  };
}

test('the bar shows phase, rows, projects, rate and what is left', () => {
  const line = progressLine(rotation(5_000, { total: 3, completed: 1, sweeping: 2 }), { moved: 4_000, ms: 2_000 }, 10);
  expect(line).toBe('sweeping   █████░░░░░  5,000/10,000 rows  1/3 projects  2,000/s  2.5 s left');
});

test('no rate is told before there is one', () => {
  const line = progressLine(rotation(0, { total: 1, sweeping: 1 }), { moved: 0, ms: 60_000 }, 4);
  expect(line).toBe('sweeping   ░░░░  0/10,000 rows');
  expect(progressLine(rotation(500, { total: 1, sweeping: 1 }), { moved: 500, ms: 100 }, 4)).not.toContain('/s');
});

test('the phase is that of the project that has the longest way to go', () => {
  expect(phaseOf(rotation(0, { total: 2, requested: 1, sweeping: 1 }))).toBe('sweeping');
  expect(phaseOf(rotation(0, { total: 2, completed: 1, verifying: 1 }))).toBe('verifying');
  expect(phaseOf(rotation(0, { total: 1, requested: 1 }))).toBe('staging');
  expect(phaseOf(rotation(0, { total: 1, rolling_back: 1 }, 'rolling_back'))).toBe('rolling back');
});

test('off a terminal there is a line when the phase changes, and one every five seconds', () => {
  const { terminal, written } = fakeTerminal();
  let now = 0;
  const show = rotationProgress(terminal, () => now);
  for (now = 0; now <= 12_000; now += 400) show(rotation(now / 2, { total: 1, sweeping: 1 }));
  show(rotation(10_000, { total: 1, verifying: 1 }));
  show(rotation(10_000, { total: 1, verifying: 1 }));
  expect(written.stderr.trimEnd().split('\n')).toEqual([
    'sweeping: 0/10,000 rows',
    'sweeping: 2,600/10,000 rows',
    'sweeping: 5,200/10,000 rows',
    'verifying: 10,000/10,000 rows',
  ]);
});
