import type { Isolation } from '../../database/support.ts';
import {
  creator,
  destroyer,
  emergency,
  promoter,
  restorer,
  rollback,
  setDestroyer,
  sweeper,
  writer,
  type MakeActor,
} from './actors.ts';
import type { starts } from './starts.ts';

type Start = keyof typeof starts;

/**
 * Who can meet in each situation: the writers, under an isolation level of their own, and the keyring's own, whose sweepers
 * have a transaction or send their statements as they ship.
 */
export function actorsOf(
  start: Start,
  isolation: Isolation,
  transaction: 'one' | 'none' = 'one',
): { writers: MakeActor[]; others: MakeActor[] } {
  const w = (secret: string, name: string, believes?: number): MakeActor =>
    writer(secret, { name, isolation, ...(believes === undefined ? {} : { believes }) });
  const sweeps = (to: number, secrets: readonly string[], name = 'sweeper'): MakeActor =>
    sweeper(to, secrets, { name, transaction });
  const writers = {
    staged: [w('a', 'writer'), w('a', 'writer with a cache', 1), creator('c', { isolation, believes: 1 })],
    sweeping: [
      w('a', 'writer'),
      w('a', 'writer with an old cache', 1),
      w('b', 'writer with a cache', 2),
      creator('c', { isolation, believes: 2 }),
    ],
    retired: [w('a', 'writer'), w('a', 'writer with an old cache', 1)],
    destructible: [creator('c', { isolation, believes: 2 }), creator('d', { isolation, believes: 1 })],
  };
  const others = {
    staged: [
      sweeps(2, ['a', 'b']),
      promoter(1, 2, { step: true }),
      promoter(1, 3, { name: 'rival promoter' }),
      destroyer(3),
    ],
    sweeping: [
      sweeps(2, ['a', 'b']),
      sweeps(2, ['b', 'a'], 'second sweeper'),
      sweeps(1, ['a', 'b'], 'sweeper back'),
      emergency(2, 3),
      rollback(2, 1),
      destroyer(3),
    ],
    retired: [sweeps(2, ['a', 'b']), promoter(2, 3), destroyer(1), setDestroyer(1, 3)],
    destructible: [promoter(2, 3), destroyer(1), setDestroyer(1, 3), restorer('a', 1)],
  };
  return { writers: writers[start], others: others[start] };
}

/** Every choice of `size` of them; with `needed`, only those that hold at least one of these. */
export function choices<T>(of: readonly T[], size: number, needed: readonly T[] = of): T[][] {
  const pick = (from: number, left: number): T[][] =>
    left === 0
      ? [[]]
      : of.slice(from).flatMap((one, index) => pick(from + index + 1, left - 1).map((rest) => [one, ...rest]));
  return pick(0, size).filter((chosen) => chosen.some((one) => needed.includes(one)));
}
