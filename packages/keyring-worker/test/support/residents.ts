import type { PolicyChange, Weekday } from '@meshhook/keyring';
import type { Resident } from './life.ts';

const DAY_MS = 86_400_000;
const everyDay: readonly Weekday[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const off = (reason: string): PolicyChange => ({ enabled: false, reason });
const on: PolicyChange = { enabled: true };

/**
 * Who lives in an installation of these years: quiet hours over midnight, in the hours that clocks skip and show twice, in zones
 * that are off by half an hour and by a quarter. When each may begin is said once more, by what clocks on a wall show; an hour that
 * is shown twice is in its quiet hours both times.
 */
export function residents(
  from: number,
  /** Twice as often. From when to when there is a rotation every night; none: all the time. */
  { often, nightlyDays }: { readonly often: boolean; readonly nightlyDays: readonly [string, string][] },
): Resident[] {
  const days = (count: number): number => (often ? count / 2 : count) * DAY_MS;
  const at = (day: string): number => Date.parse(`${day}T12:00:00Z`);
  const nightly = nightlyDays.flatMap(([begins, ends]) => [
    { at: at(begins), change: on },
    { at: at(ends), change: off('a night of it is like another') },
  ]);
  return [
    {
      name: 'weekends in Berlin',
      zone: 'Europe/Berlin',
      policy: {
        rotateAfterMs: 90 * DAY_MS,
        quietHours: { zone: 'Europe/Berlin', windows: [{ days: ['sat', 'sun'], from: '22:00', to: '06:00' }] },
      },
      mayBegin: ({ weekday, time }) =>
        (time >= '22:00' && ['sat', 'sun'].includes(weekday)) || (time < '06:00' && ['sun', 'mon'].includes(weekday)),
    },
    {
      name: 'nights in New York',
      zone: 'America/New_York',
      policy: {
        ...{ rotateAfterMs: days(60), jitterMs: 0 },
        quietHours: { zone: 'America/New_York', windows: [{ days: everyDay, from: '01:30', to: '03:30' }] },
      },
      mayBegin: ({ time }) => time >= '01:00' && time < '03:30',
    },
    {
      name: 'nights on Lord Howe, whose clocks are changed by half an hour',
      zone: 'Australia/Lord_Howe',
      policy: {
        rotateAfterMs: days(28),
        quietHours: { zone: 'Australia/Lord_Howe', windows: [{ days: everyDay, from: '01:45', to: '02:45' }] },
      },
      mayBegin: ({ time }) => time >= '01:30' && time < '02:45',
    },
    {
      name: 'early in Kathmandu, whose clocks are off by a quarter',
      zone: 'Asia/Kathmandu',
      policy: {
        rotateAfterMs: 60 * DAY_MS,
        retentionMs: 7 * DAY_MS,
        quietHours: {
          zone: 'Asia/Kathmandu',
          windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '00:00', to: '05:00' }],
        },
      },
      mayBegin: ({ weekday, time }) => time < '05:00' && !['sat', 'sun'].includes(weekday),
    },
    {
      name: 'Saturdays in Apia, by cron',
      zone: 'Pacific/Apia',
      policy: {
        rotateAfterMs: days(90),
        quietHours: { zone: 'Pacific/Apia', cron: '0 3 * * sat', openForMinutes: 120 },
      },
      mayBegin: ({ weekday, time }) => weekday === 'sat' && time >= '03:00' && time < '05:00',
    },
    {
      name: 'in the hour that Berlin skips and shows twice, by cron',
      zone: 'Europe/Berlin',
      policy: {
        ...{ rotateAfterMs: days(60), retentionMs: 0 },
        quietHours: { zone: 'Europe/Berlin', cron: '30 2 * * sun', openForMinutes: 60 },
      },
      mayBegin: ({ weekday, time }) => weekday === 'sun' && time >= '02:00' && time < '04:30',
    },
    {
      name: 'the first of a month, by cron',
      zone: 'Europe/Berlin',
      policy: {
        rotateAfterMs: 60 * DAY_MS,
        quietHours: { zone: 'Europe/Berlin', cron: '15 1 1 * *', openForMinutes: 300 },
      },
      mayBegin: ({ day, time }) => day === 1 && time >= '01:15' && time < '06:15',
      // A month and the next one, where the second has 31 days.
      seldomMs: 2 * DAY_MS,
    },
    {
      name: 'every night in New York',
      zone: 'America/New_York',
      policy: {
        ...{ rotateAfterMs: DAY_MS, jitterMs: 0, retentionMs: 2 * DAY_MS },
        quietHours: { zone: 'America/New_York', cron: '0 2 * * *', openForMinutes: 60 },
        ...(nightly.length > 0 ? off('from another day on') : {}),
      },
      mayBegin: ({ time }) => time >= '01:00' && time < '04:00',
      // The night that is an hour longer.
      seldomMs: 3_600_000,
      changes: nightly.filter(({ at: when }) => when > from),
    },
    { name: 'never', zone: 'UTC', policy: off('frozen'), mayBegin: () => false },
    ...['one', 'two', 'three'].map((name) => ({
      name: `by the default, ${name}`,
      zone: 'UTC',
      mayBegin: () => true,
    })),
  ];
}
