import { expect, test } from 'vitest';
import { phaseCounts } from '../src/lib/rotation.ts';

const passed = (projects: Parameters<typeof phaseCounts>[0]): string[] =>
  phaseCounts(projects).phases.flatMap((phase) => (phase.passed ? [phase.name] : []));

test('a phase is passed when every project is beyond it', () => {
  expect(passed({ total: 1, requested: 1 })).toEqual([]);
  expect(passed({ total: 1, sweeping: 1 })).toEqual(['requested', 'staged']);
  expect(passed({ total: 1, completed: 1 })).toEqual(['requested', 'staged', 'sweeping', 'verifying']);
  expect(passed({ total: 3, staged: 1, completed: 2 })).toEqual(['requested']);
});

test('of a project that is blocked alone, its times say where it stopped', () => {
  const at = '2026-11-28T10:00:00Z';
  const times = { direction: 'forward', stagedAt: at, promotedAt: at, sweptAt: null, verifiedAt: null } as const;
  const told = (alone: Parameters<typeof phaseCounts>[1]): (string | undefined)[] => {
    const { phases } = phaseCounts({ total: 1, blocked: 1 }, alone);
    return [
      phases.find(({ stopped }) => stopped)?.name,
      ...phases.flatMap(({ name, passed }) => (passed ? [name] : [])),
    ];
  };
  expect(told(times)).toEqual(['sweeping', 'requested', 'staged']);
  expect(told({ ...times, sweptAt: at })).toEqual(['verifying', 'requested', 'staged', 'sweeping']);
  expect(told({ ...times, stagedAt: null, promotedAt: null })).toEqual(['requested']);
  expect(told({ ...times, direction: 'back' })).toEqual([undefined]);
});

test('a project that is blocked or turned back has passed nothing for certain', () => {
  expect(passed({ total: 2, blocked: 1, completed: 1 })).toEqual([]);
  expect(phaseCounts({ total: 2, blocked: 1, completed: 1 }).others).toEqual([{ name: 'blocked', count: 1 }]);
});
