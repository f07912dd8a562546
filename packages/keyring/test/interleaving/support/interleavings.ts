import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { rewrite } from '../../database/support.ts';
import { explore, type ExploreOptions, type Findings, type Lane } from './explore.ts';
import { InvariantChecker, stateOf, type State } from './invariants.ts';
import { LaneDatabase, type StartingPoint } from './lane-database.ts';
import type { MakeActor, Effect } from './actors.ts';

// Each runs schedules of its own, in a database of its own: predicate locks of one would refuse transactions of the other.
const LANES = 2;

export interface Interleavings {
  /** Runs these actors in every order, from the same start, and checks each. */
  runAll(start: StartingPoint, makers: readonly MakeActor[], options?: ExploreOptions): Promise<Findings>;
  /** Replaces a function of the database by what `edit` makes of its source, until the test is over. */
  rewrite(name: string, edit: (source: string) => string): Promise<void>;
  readonly databases: readonly LaneDatabase[];
}

/** The databases of a test file. */
export function useInterleavings(): Interleavings {
  const databases: LaneDatabase[] = [];
  const originals = new Map<string, string>();
  beforeAll(async () => {
    databases.push(...(await Promise.all(Array.from({ length: LANES }, () => LaneDatabase.open()))));
  });
  afterEach(async () => {
    for (const { observer } of databases) for (const source of originals.values()) await observer.run(source);
    originals.clear();
  });
  afterAll(async () => {
    await Promise.all(databases.map((database) => database.close()));
  });
  return {
    databases,
    async runAll(start, makers, options) {
      const lanes = await Promise.all(databases.map((database) => makeLane(database, start, makers)));
      return explore(lanes, options);
    },
    async rewrite(name, edit) {
      const source = await databases[0]!.observer.value<string>('select pg_get_functiondef($1::regproc)', [name]);
      if (!originals.has(name)) originals.set(name, source);
      for (const { observer } of databases) await rewrite(observer, name, edit);
    },
  };
}

async function makeLane(
  database: LaneDatabase,
  start: StartingPoint,
  makers: readonly MakeActor[],
): Promise<Lane<Effect>> {
  const project = await database.project(start);
  const actors = makers.map((make) => make(project));
  let untouched: State | undefined;
  const backends = await Promise.all(actors.map(({ login }, index) => database.backend(index, login)));
  return {
    observer: database.observer,
    actors: () => actors,
    backends: async () => backends,
    async reset() {
      await project.reset();
      untouched ??= await stateOf(project, database.observer);
      return new InvariantChecker(project, database.observer, actors, untouched);
    },
  };
}

/** One line for the output of a run: how many orders there were, and what became of them. */
export function summary(what: string, { schedules, cut, waits, refusals, ends }: Findings): string {
  const refused = [...refusals].map(([state, times]) => `${String(times)} × ${state}`).join(', ');
  return (
    `${what}: ${String(schedules)} schedules, ${String(cut)} cut, ${String(ends.size)} different ends, ` +
    `${String(waits)} waits, refused: ${refused === '' ? 'none' : refused}`
  );
}

/** No schedule broke an invariant; the first that did is told. */
export function expectSound({ violations }: Findings): void {
  expect(Object.fromEntries(violations)).toEqual({});
}
