import type { shapes } from '@meshhook/keyring-http';
import { scaleUtc } from 'd3-scale';
import { day } from './format.ts';

/** The life of a key version as bars on a line of time. Pure; positions are percentages of the width. */

export type Phase =
  'staged' | 'active' | 'planned' | 'decrypts' | 'retention' | 'compromised' | 'suspended' | 'destroyed';

export interface Bar {
  readonly phase: Phase;
  readonly x: number;
  readonly width: number;
}

export interface Axis {
  readonly ticks: readonly { readonly x: number; readonly text: string }[];
  readonly now: number;
  readonly position: (at: string) => number;
}

const DAY = 24 * 60 * 60 * 1000;
const TICKS = 5;

/** From the first key that is shown to the last date that is known of any, and a little on both sides. */
export function axisOf(keys: readonly shapes.Key[], now: string): Axis {
  const times = keys.flatMap(({ createdAt, retentionUntil, nextDueAt }) =>
    [createdAt, retentionUntil, nextDueAt].flatMap((at) => (at === null ? [] : [Date.parse(at)])),
  );
  const present = Date.parse(now);
  const from = Math.min(present - DAY, ...times);
  const to = Math.max(present + DAY, ...times);
  const margin = (to - from) * 0.02;
  const scale = scaleUtc()
    .domain([from - margin, to + margin])
    .range([0, 100]);
  const format = scale.tickFormat(TICKS);
  return {
    ticks: scale.ticks(TICKS).map((tick) => ({ x: scale(tick), text: format(tick) })),
    now: scale(present),
    position: (at) => scale(Date.parse(at)),
  };
}

export function barsOf(key: shapes.Key, axis: Axis, now: string): Bar[] {
  const bars: Bar[] = [];
  const add = (phase: Phase, from: string, to: string): void => {
    if (to > from) bars.push({ phase, x: axis.position(from), width: axis.position(to) - axis.position(from) });
  };
  const before = (at: string | null): string => (at === null || at > now ? now : at);
  add('staged', key.createdAt, before(key.activatedAt));
  if (key.activatedAt === null) return bars;
  add('active', key.activatedAt, before(key.deactivatedAt));
  if (key.active && key.nextDueAt !== null) add('planned', now, key.nextDueAt);
  if (key.deactivatedAt !== null) {
    const after = key.status === 'compromised' || key.status === 'suspended' ? key.status : 'decrypts';
    add(after, key.deactivatedAt, before(key.destroyedAt));
    if (key.destroyedAt !== null) add('destroyed', key.destroyedAt, now);
    else if (key.retentionUntil !== null) add('retention', now, key.retentionUntil);
  }
  return bars;
}

/** The same in words. */
export function lifeOf(key: shapes.Key): string {
  const parts = [`made ${day(key.createdAt)}`];
  if (key.activatedAt !== null) parts.push(`encrypts from ${day(key.activatedAt)}`);
  if (key.deactivatedAt !== null) parts.push(`only decrypts from ${day(key.deactivatedAt)}`);
  if (key.destroyedAt !== null) parts.push(`destroyed ${day(key.destroyedAt)}`);
  else if (key.retentionUntil !== null) parts.push(`kept until ${day(key.retentionUntil)}`);
  if (key.active && key.nextDueAt !== null) parts.push(`due ${day(key.nextDueAt)}`);
  return `Version ${key.version}: ${parts.join(', ')}`;
}
