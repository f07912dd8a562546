import { describe, expect, test } from 'vitest';
import type { Isolation } from '../database/support.ts';
import {
  creator,
  destroyer,
  promoter,
  restorer,
  rollback,
  setDestroyer,
  setDestroyerOf,
  sweeper,
  writer,
  type MakeActor,
} from './support/actors.ts';
import type { Findings } from './support/explore.ts';
import type { StartingPoint } from './support/lane-database.ts';
import { expectSound, summary, useInterleavings } from './support/interleavings.ts';
import { starts } from './support/starts.ts';

// One rule is taken away at a time, and the run over all orders has to catch it, by the name of the invariant that it breaks.
const interleavings = useInterleavings();
const fence = 'keyring.fence_secrets__value';
const queue = /perform pg_catalog\.pg_advisory_xact_lock_shared\([^;]*;/;

async function run(what: string, start: StartingPoint, ...actors: MakeActor[]): Promise<Findings> {
  const findings = await interleavings.runAll(start, actors);
  console.log(summary(what, findings));
  for (const [invariant, { schedules, first }] of findings.violations) {
    console.log(`  ${invariant}: broken in ${String(schedules)} schedules, the first: ${first}`);
  }
  return findings;
}

const broken = ({ violations }: Findings): string[] => [...violations.keys()].sort();

describe('a fence', () => {
  const againstAPromote = (what: string, isolation: Isolation): Promise<Findings> =>
    run(
      `${what}, ${isolation}`,
      starts.staged,
      writer('a', { isolation, believes: 1 }),
      promoter(1, 2, { step: true }),
    );

  // "The advisory lock alone is unsound under repeatable read": the snapshot is older than the lock.
  test('without `for share` is caught under repeatable read and serializable; read committed alone would not show it', async () => {
    await interleavings.rewrite(fence, (source) => source.replace(/ for share;/, ';'));
    const without = 'fence without for share';
    expect(broken(await againstAPromote(without, 'repeatable read'))).toEqual(['the database is the fence']);
    expect(broken(await againstAPromote(without, 'serializable'))).toEqual(['the database is the fence']);
    expectSound(await againstAPromote(without, 'read committed'));
  });

  // "Locking only the violating rows is unsound even under read committed."
  test('that locks only where the version differs is caught under read committed', async () => {
    await interleavings.rewrite(fence, (source) =>
      source
        .replace(queue, '')
        .replace(/ for share;/, ' and k.primary_key_id <> new.encryption_key_id for share;')
        .replace('if primary_id is distinct from new.encryption_key_id then', 'if primary_id is not null then'),
    );
    const found = await againstAPromote('fence that locks only violating rows', 'read committed');
    expect(broken(found)).toEqual(['the database is the fence']);
  });

  test('that compares and locks nothing is caught under every isolation level', async () => {
    await interleavings.rewrite(fence, (source) => source.replace(queue, '').replace(/ for share;/, ';'));
    const nothing = 'fence that locks nothing';
    for (const isolation of ['read committed', 'repeatable read', 'serializable'] as const) {
      expect(broken(await againstAPromote(nothing, isolation))).toEqual(['the database is the fence']);
    }
  });

  // "Without the advisory lock a promote starved": sound, but nobody has to wait for the promote that waits for others.
  test('without the advisory lock lets a late writer go by a waiting promote, and does no other harm', async () => {
    const crowd = [creator('c'), creator('d'), promoter(1, 2, { step: true })] as const;
    expectSound(await run('the fence as it is', starts.staged, ...crowd));

    await interleavings.rewrite(fence, (source) => source.replace(queue, ''));
    const found = await run('fence without the advisory lock', starts.staged, ...crowd);
    expect(broken(found)).toEqual(['a fair queue']);
    expect(found.violations.get('a fair queue')?.first).toMatch(
      /^creator of (\w) went by promoter:.*promoter update keyring\.keyrings \(waits\) → creator of \1 insert public\.secrets →/,
    );
  });
});

describe('a sweep', () => {
  const move = 'keyring.move_secrets__value';
  const sweepBack = sweeper(1, ['b'], { name: 'sweeper back' });
  // An edit moves the row: by its address, the function would look where it no longer is, whatever it compares.
  const findsByRowId = (): Promise<void> =>
    interleavings.rewrite(move, (source) => source.replace('r.ctid = b.place and r.id = b.row_id', 'r.id = b.row_id'));
  /** Replaces what the function compares the stored ciphertext with. */
  const compares = (what: string): Promise<void> =>
    interleavings.rewrite(move, (source) => source.replace('r.value_encrypted = b.old_envelope', what));
  const comparesIds = (): Promise<void> => compares('r.encryption_key_id = keyring.envelope_key_id(b.old_envelope)');

  // "Compare-and-set on the bytes that were read (not only on the key id: versions come back)."
  test('that compares key ids loses an edit when a rollback brings the old version back', async () => {
    const actors = [writer('b', { believes: 2 }), rollback(2, 1), sweepBack] as const;
    expectSound(await run('sweep that compares bytes, rollback', starts.sweeping, ...actors));
    await findsByRowId();
    expectSound(await run('sweep that compares bytes by row id, rollback', starts.sweeping, ...actors));
    await comparesIds();
    const found = await run('sweep that compares ids, rollback', starts.sweeping, ...actors);
    expect(broken(found)).toEqual(['never lose a value']);
  });

  test('and loses one between its reading and a promote', async () => {
    const actors = [writer('a', { believes: 1 }), promoter(1, 2, { step: true }), sweeper(2, ['a'])] as const;
    expectSound(await run('sweep that compares bytes, promote', starts.staged, ...actors));
    await findsByRowId();
    await comparesIds();
    const found = await run('sweep that compares ids, promote', starts.staged, ...actors);
    expect(broken(found)).toEqual(['never lose a value']);
  });

  test('that compares nothing at all loses an edit to a writer alone', async () => {
    await findsByRowId();
    await compares('true');
    const found = await run('sweep that compares nothing', starts.sweeping, writer('a'), sweeper(2, ['a']));
    expect(broken(found)).toContain('never lose a value');
  });

  test('that sets the time of the value is caught touching it', async () => {
    for (const { observer } of interleavings.databases) {
      await observer.run('grant update (value_written_at) on public.secrets to keyring_mover');
    }
    await interleavings.rewrite(move, (source) =>
      source.replace('set value_encrypted = ', 'set value_written_at = now(), value_encrypted = '),
    );
    const found = await run('sweep that touches', starts.sweeping, writer('a'), sweeper(2, ['a']));
    expect(broken(found)).toEqual(['a sweep is no edit']);
  });
});

describe('the fence of a batch', () => {
  const locks = 'keyring.lock_primaries';
  const againstAPromote = (what: string, isolation: Isolation): Promise<Findings> =>
    run(`${what}, ${isolation}`, starts.sweeping, sweeper(2, ['a'], { isolation }), promoter(2, 3));

  test('holds under every isolation level', async () => {
    for (const isolation of ['read committed', 'repeatable read', 'serializable'] as const) {
      expectSound(await againstAPromote('batch as it is', isolation));
    }
  });

  test('without `for share` is caught under repeatable read and serializable', async () => {
    await interleavings.rewrite(locks, (source) => source.replace(' for share skip locked', ''));
    const without = 'batch without for share';
    expect(broken(await againstAPromote(without, 'repeatable read'))).toEqual(['the database is the fence']);
    expect(broken(await againstAPromote(without, 'serializable'))).toEqual(['the database is the fence']);
    expectSound(await againstAPromote(without, 'read committed'));
  });

  test('that locks nothing is caught under read committed', async () => {
    await interleavings.rewrite(locks, (source) =>
      source
        .replace(' for share skip locked', '')
        .replace('where pg_catalog.pg_try_advisory_xact_lock_shared(p.lock)', ''),
    );
    const found = await againstAPromote('batch that locks nothing', 'read committed');
    expect(broken(found)).toEqual(['the database is the fence']);
  });

  test('that does not compare lets a batch under another version in', async () => {
    await interleavings.rewrite('keyring.move_secrets__value', (source) =>
      source.replace('keyring.envelope_key_id(f.new_envelope) = p.id', 'true'),
    );
    const found = await run('batch that is not compared', starts.sweeping, sweeper(1, ['b']), writer('a'));
    expect(broken(found)).toContain('never lose a value');
  });
});

describe('a destroy', () => {
  const restored = [destroyer(1), restorer('a', 1)] as const;

  // "A foreign key's `key share` does not conflict with an `update … set state = 'destroyed'`."
  test('that does not take the key row for update misses a row in flight', async () => {
    expectSound(await run('destroy as it is', starts.destructible, ...restored));

    await interleavings.rewrite('keyring.guard_encryption_key', (source) =>
      source.replace(/perform from keyring\.encryption_keys k where k\.id = old\.id for update;/, ''),
    );
    const found = await run('destroy without for update', starts.destructible, ...restored);
    expect(broken(found)).toEqual(['destroyed last']);
  });

  // A set locks before the guard does: without waiting, and what it could not lock it leaves.
  test('of a set holds by its own lock where the guard takes none, and by the guard where it takes none itself', async () => {
    const withSet = [setDestroyer(1, 3), restorer('a', 1)] as const;
    expectSound(await run('destroy of a set as it is', starts.destructible, ...withSet));
    const unlocked = setDestroyerOf((text) => text.replace(' for update skip locked', ''), 1, 3);
    expectSound(await run('set without for update', starts.destructible, unlocked, restorer('a', 1)));

    await interleavings.rewrite('keyring.guard_encryption_key', (source) =>
      source.replace(/perform from keyring\.encryption_keys k where k\.id = old\.id for update;/, ''),
    );
    expectSound(await run('set, guard without for update', starts.destructible, ...withSet));
    const found = await run('neither for update', starts.destructible, unlocked, restorer('a', 1));
    expect(broken(found)).toEqual(['destroyed last']);
  });

  test('meets a restore whose door only looks at the version: the row goes in under one that is destroyed', async () => {
    await interleavings.rewrite('keyring.refuse_stale', (source) => source.replace(' for key share', ''));
    const found = await run('door that takes no lock', starts.destructible, ...restored);
    expect(broken(found)).toEqual(['destroyed last']);
    expect(found.violations.get('destroyed last')?.first).toMatch(
      /^a names version 1, which is destroyed:.*destroyer update keyring\.encryption_keys → restorer .*\(waits\) → destroyer commit/,
    );
  });
});

describe('a promote', () => {
  test('whose pointer is set without comparing loses the race and wins all the same', async () => {
    const blind = (text: string): string => text.replace(' and primary_key_id = $2', ' and $2::uuid is not null');
    const rival = promoter(1, 3, { name: 'rival promoter', edit: blind });
    const found = await run('promote without compare-and-set', starts.staged, promoter(1, 2, { step: true }), rival);
    expect(broken(found)).toEqual(['one primary']);
  });
});
