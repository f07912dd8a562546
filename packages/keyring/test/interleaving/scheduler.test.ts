import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { longTest } from '../../../../test/support/long.ts';
import type { Queryable } from '../../src/db/port.ts';
import { destroyer, emergency, promoter, rollback, sweeper, writer, type MakeActor } from './support/actors.ts';
import { explore, type Lane } from './support/explore.ts';
import { summary, useInterleavings } from './support/interleavings.ts';
import { LaneDatabase, type StartingPoint } from './support/lane-database.ts';
import type { Actor } from './support/scheduler.ts';
import { starts } from './support/starts.ts';

let database: LaneDatabase;
beforeAll(async () => {
  database = await LaneDatabase.open();
  await database.observer.run('create table public.pages (id int primary key, text text not null)');
  await database.observer.run('grant select, update on public.pages to keyring_service');
});
afterAll(() => database.close());

/** Someone whose transaction is these statements. */
function actor(name: string, texts: readonly string[], isolation: Actor<string>['isolation'] = 'read committed') {
  return {
    name,
    isolation,
    async run(tx: Queryable) {
      await tx.query({ text: `begin isolation level ${isolation}` });
      for (const text of texts) await tx.query({ text });
      await tx.query({ text: 'commit' });
      return name;
    },
  };
}

function lane(...actors: Actor<string>[]): Lane<string> {
  const { observer } = database;
  return {
    observer,
    actors: () => actors,
    backends: () => Promise.all(actors.map((_, index) => database.backend(index, 'service'))),
    async reset() {
      await observer.run(`delete from public.pages`);
      await observer.run(`insert into public.pages values (1, '-'), (2, '-'), (3, '-')`);
      let pages = '';
      return {
        async check() {
          pages = await observer.value<string>(`select string_agg(text, ' ' order by id) from public.pages`);
          return [];
        },
        outcome: () => pages,
      };
    },
  };
}

const write = (id: number, text: string): string => `update public.pages set text = '${text}' where id = ${String(id)}`;
const read = (id: number): string => `select text from public.pages where id = ${String(id)}`;

describe('every order', () => {
  test('of two transactions of 3 steps is 20, and of three of 2 steps is 90', async () => {
    const two = [actor('x', [write(1, 'x'), write(1, 'x')]), actor('y', [write(2, 'y'), write(2, 'y')])];
    expect((await explore([lane(...two)], { reduce: false })).schedules).toBe(20);
    const three = ['x', 'y', 'z'].map((name, index) => actor(name, [write(index + 1, name)]));
    expect((await explore([lane(...three)], { reduce: false })).schedules).toBe(90);
  });

  test('of those that read and write, as far as anybody can tell, is fewer', async () => {
    const readers = [actor('x', [read(1), read(2)]), actor('y', [read(1), read(3)])];
    const all = await explore([lane(...readers)], { reduce: false });
    const reduced = await explore([lane(...readers)]);
    expect(all.schedules).toBe(20);
    expect(reduced.schedules).toBeLessThan(10);
    expect(reduced.ends).toEqual(all.ends);
  });
});

test('a statement that waits for a row is left waiting, and goes on when the row is free', async () => {
  const found = await explore([lane(actor('x', [write(1, 'x')]), actor('y', [write(1, 'y')]))]);
  // Behind one another in either order; at once, with either of them waiting.
  expect(found).toMatchObject({ schedules: 4, waits: 2 });
  expect(found.ends).toEqual(new Set(['x: done; y: done; x - -', 'x: done; y: done; y - -']));
});

test('a deadlock ends one of the two, and the other goes on', async () => {
  const found = await explore([
    lane(actor('x', [write(1, 'x'), write(2, 'x')]), actor('y', [write(2, 'y'), write(1, 'y')])),
  ]);
  expect([...found.refusals.keys()]).toEqual(['40P01']);
  const inTurn = ['x: done; y: done; x x -', 'x: done; y: done; y y -'];
  const victims = ['x: 40P01; y: done; y y -', 'x: done; y: 40P01; x x -'];
  // Which of them PostgreSQL ends, it chooses: whose deadlock_timeout is noticed first.
  const chosen = victims.filter((end) => found.ends.has(end));
  expect(chosen).not.toEqual([]);
  expect(found.ends).toEqual(new Set([...inTurn, ...chosen]));
});

test('write skew comes about under repeatable read, and not under serializable', async () => {
  const each = (isolation: Actor<string>['isolation']) => [
    actor('x', [read(1), read(2), write(1, 'x')], isolation),
    actor('y', [read(1), read(2), write(2, 'y')], isolation),
  ];
  const repeatable = await explore([lane(...each('repeatable read'))]);
  expect(repeatable.refusals.size).toBe(0);
  const serializable = await explore([lane(...each('serializable'))]);
  expect(serializable.refusals.get('40001')).toBeGreaterThan(0);
  const skewed = 'x: done; y: 40001; x - -';
  expect(serializable.ends).toContain(skewed);
});

test('a transaction that fails leaves its connection fit for the next schedule', async () => {
  const found = await explore([lane(actor('x', [write(1, 'x'), 'select 1 / 0']), actor('y', [write(1, 'y')]))]);
  expect(found.ends).toEqual(new Set(['x: 22012; y: done; y - -']));
});

test('what goes wrong in an actor itself fails the run, and is not taken for an outcome', async () => {
  const broken: Actor<string> = {
    name: 'x',
    isolation: 'read committed',
    run: () => Promise.reject(new TypeError(`no such thing ${randomUUID()}`)),
  };
  await expect(explore([lane(broken)])).rejects.toThrow('no such thing');
});

test('who updates a table in `keyring` changes nothing elsewhere: the reduction counts on it', async () => {
  const { observer } = database;
  const functions = await observer.run<{ name: string; source: string; triggered: boolean }>(
    `select p.proname as name, p.prosrc as source, exists (
       select from pg_trigger t join pg_class c on c.oid = t.tgrelid
       where t.tgfoid = p.oid and c.relnamespace = p.pronamespace and not t.tgisinternal) as triggered
     from pg_proc p where p.pronamespace = 'keyring'::regnamespace`,
  );
  // Those that triggers run, and those that they call.
  const reached = new Set(functions.filter(({ triggered }) => triggered));
  for (const { source } of reached) {
    for (const one of functions) if (source.includes(`keyring.${one.name}(`)) reached.add(one);
  }
  const changed = [...reached].flatMap(({ source }) =>
    [
      ...source.matchAll(
        /(?<!for |key |return query )\b(?:insert into|update|delete from|merge into|execute) ([\w.]+)/g,
      ),
    ].map(([, table]) => table),
  );
  expect(changed).toContain('keyring.encryption_keys');
  // MeshHook's own log, where it exists, is only inserted into, and no actor here reads it: it is not there.
  expect(changed.filter((table) => !table?.startsWith('keyring.'))).toEqual([]);
  const cascades = await observer.run(
    `select conrelid::regclass, conname from pg_constraint
     where contype = 'f' and confupdtype not in ('a', 'r')
       and confrelid in (select oid from pg_class where relnamespace = 'keyring'::regnamespace)`,
  );
  expect(cascades).toEqual([]);
});

describe('the orders that the reduction leaves out end as others do', () => {
  const interleavings = useInterleavings();
  const stale = writer('a', { believes: 1, isolation: 'repeatable read' });
  const { staged, sweeping } = starts;
  const groups: Record<string, readonly [StartingPoint, ...MakeActor[]]> = {
    'writer, promoter': [staged, writer('a'), promoter(1, 2, { step: true })],
    'writer with a snapshot, promoter': [staged, stale, promoter(1, 2, { step: true })],
    'sweeper, promoter': [staged, sweeper(2, ['a', 'b']), promoter(1, 2, { step: true })],
    'writer, sweeper': [sweeping, writer('a'), sweeper(2, ['a', 'b'])],
    'writer with a snapshot of two reads, promoter': [
      staged,
      writer('a', { isolation: 'repeatable read' }),
      promoter(1, 2, { step: true }),
    ],
    'serializable writer, promoter': [
      staged,
      writer('a', { isolation: 'serializable' }),
      promoter(1, 2, { step: true }),
    ],
    'serializable writer, emergency': [sweeping, writer('b', { isolation: 'serializable' }), emergency(2, 3)],
    'sweeper without a transaction, rollback': [
      sweeping,
      sweeper(1, ['a', 'b'], { transaction: 'none' }),
      rollback(2, 1),
    ],
  };
  const large: typeof groups = {
    'writer, sweeper, destroyer': [sweeping, writer('a', { believes: 2 }), sweeper(2, ['a']), destroyer(3)],
    'serializable writers, sweeper without a transaction': [
      sweeping,
      writer('a', { name: 'one', believes: 2, isolation: 'serializable' }),
      writer('b', { name: 'other', believes: 2, isolation: 'serializable' }),
      sweeper(2, ['a'], { transaction: 'none' }),
    ],
    'writer, sweeper, rollback': [sweeping, writer('b', { believes: 2 }), sweeper(1, ['b']), rollback(2, 1)],
  };
  const compare = async (group: string): Promise<void> => {
    const [start, ...makers] = (groups[group] ?? large[group])!;
    const all = await interleavings.runAll(start, makers, { reduce: false });
    const reduced = await interleavings.runAll(start, makers);
    console.log(`${summary(group, reduced)}; without reduction ${String(all.schedules)} schedules`);
    expect(reduced.ends).toEqual(all.ends);
    expect(reduced.schedules).toBeLessThan(all.schedules);
  };
  test.each(Object.keys(groups))('%s', compare);
  for (const group of Object.keys(large)) longTest(group, () => compare(group));
});
