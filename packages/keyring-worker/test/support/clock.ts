import type { Installation } from '../../../keyring/test/engine/support/installation.ts';

/** The clock of a whole database, in a test's hands. It stands still until it is set. */
export interface Clock {
  /** Turns it to an instant: forwards or backwards. */
  set(instant: number): Promise<void>;
}

/**
 * Takes the clock of a test's database: `now()` and `clock_timestamp()` themselves, for whoever calls them. So everything is as it
 * ships, defaults of columns, views and functions included, and nothing in it knows of an injected clock. Before anybody
 * connects: statements that are planned already go on by the real one.
 *
 * PostgreSQL calls its own functions by number, past what `create or replace` puts there; the planner, though, writes a function
 * of one expression out where it is called, and these are such.
 * @throws Error when it does not, for then all that follows would prove nothing.
 */
export async function takeClock({ sql, asOwner }: Installation, instant: number): Promise<Clock> {
  await sql('create schema test_clock');
  await sql('grant usage on schema test_clock to public');
  await sql('create table test_clock.clock (shows timestamptz not null)');
  await sql('grant select on test_clock.clock to public');
  await sql('insert into test_clock.clock values (to_timestamp($1::double precision / 1000))', [instant]);
  await sql(`create function test_clock.shows() returns timestamptz language sql stable parallel safe
             as 'select c.shows from test_clock.clock c'`);
  await sql(`create or replace function pg_catalog.now() returns timestamptz language sql stable parallel safe
             as 'select test_clock.shows()'`);
  await sql(`create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile parallel safe
             as 'select test_clock.shows()'`);
  const set = async (to: number): Promise<void> => {
    await sql('update test_clock.clock set shows = to_timestamp($1::double precision / 1000)', [to]);
  };
  await asOwner(
    'create table public.clock_test (by_default timestamptz default now(), by_query timestamptz, by_code timestamptz)',
    'grant insert, select on public.clock_test to public',
    `create function public.clock_test() returns timestamptz language plpgsql set search_path = ''
       as $$ declare at timestamptz := clock_timestamp(); begin return at; end $$`,
  );
  for (const probe of [instant + 1_000, instant]) {
    await set(probe);
    await sql('insert into public.clock_test (by_query, by_code) values (now(), public.clock_test())');
    const [row] = await sql<Record<string, Date>>('delete from public.clock_test returning *');
    for (const [where, seen] of Object.entries(row ?? {})) {
      if (seen.getTime() !== probe) throw new Error(`The clock is not the test's: ${where} is ${seen.toISOString()}`);
    }
  }
  await asOwner('drop table public.clock_test', 'drop function public.clock_test()');
  return { set };
}
