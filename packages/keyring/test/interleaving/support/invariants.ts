import { KeyringError } from '../../../src/errors.ts';
import type { Session } from '../../database/support.ts';
import type { Checker, Violation } from './explore.ts';
import type { Moment } from './scheduler.ts';
import type { ScheduledProject } from './lane-database.ts';
import type { Effect, KeyringActor } from './actors.ts';

/** The invariants of design that a schedule can break, by the names that reports give them. */
export type Invariant =
  /** A transaction that committed left a row, which it wrote, under a version that was not primary then. */
  | 'the database is the fence'
  /** A row does not open to the value that was acknowledged last. */
  | 'never lose a value'
  /** A row names a destroyed version. */
  | 'destroyed last'
  /** Not exactly one enabled primary, or a pointer that moved otherwise than by one compare-and-set. */
  | 'one primary'
  /** A sweep changed the time of a row's update or of its value. */
  | 'a sweep is no edit'
  /** A write that began behind a waiting promote went by it. */
  | 'a fair queue'
  /** A refused transaction left a change, or a refusal was not one of those that are foreseen. */
  | 'all or nothing';

interface StoredSecret {
  readonly id: string;
  readonly name: string;
  readonly keyId: string;
  readonly envelope: string;
  readonly updatedAt: string;
  readonly writtenAt: string;
}

/** What of the database the invariants speak of. */
export interface State {
  readonly primaries: string[] | null;
  readonly secrets: readonly StoredSecret[];
  readonly keys: Readonly<Record<string, string>>;
}

const readState = {
  name: 'state of the project',
  text: `select
    (select array_agg(primary_key_id::text) from keyring.keyrings where project_id = $1) as primaries,
    (select coalesce(json_agg(json_build_object('id', id, 'name', key, 'keyId', encryption_key_id,
       'envelope', encode(value_encrypted, 'hex'), 'updatedAt', updated_at, 'writtenAt', value_written_at) order by id), '[]')
     from public.secrets where project_id = $1) as secrets,
    (select json_object_agg(id, state order by id) from keyring.encryption_keys where project_id = $1) as keys`,
};

// What may be refused to whom: a stale version, an illegal move, in use, in retention; serialization failures and deadlocks.
const foreseen: Readonly<Record<KeyringActor['role'], readonly string[]>> = {
  writer: ['MK001', '40001', '40P01', '23505'],
  sweeper: ['MK001', '40001', '40P01'],
  promoter: ['MK005', '40001', '40P01'],
  destroyer: ['MK006', 'MK008', '40001', '40P01'],
  restorer: ['MK006', '40001', '40P01'],
};

/** Looks at the database whenever a transaction is over, and compares it with what was acknowledged, in the order of commits. */
export class InvariantChecker implements Checker<Effect> {
  readonly #project: ScheduledProject;
  readonly #observer: Session;
  readonly #actors: ReadonlyMap<string, KeyringActor>;
  readonly #values: Map<string, string>;
  /** Who has written in its transaction, and so is in nobody's way in the queue any more. */
  readonly #wrote = new Set<string>();
  /** Whom a writer's first write went by, while they waited. */
  readonly #passed = new Map<string, readonly string[]>();
  #state: State;

  constructor(project: ScheduledProject, observer: Session, actors: readonly KeyringActor[], state: State) {
    this.#project = project;
    this.#observer = observer;
    this.#actors = new Map(actors.map((actor) => [actor.name, actor]));
    this.#values = new Map(project.values);
    this.#state = state;
  }

  async check(moment: Moment<Effect>): Promise<Violation[]> {
    this.#noteQueue(moment);
    if (moment.ended.size === 0) return [];
    const found: Violation[] = [];
    const before = this.#state;
    const after = (this.#state = await stateOf(this.#project, this.#observer));
    const say = (invariant: Invariant, detail: string): void => void found.push({ invariant, detail });

    const effects = new Map<string, Effect>();
    for (const [name, ending] of moment.ended) {
      const role = this.#actors.get(name)!.role;
      if ('refused' in ending) {
        if (!foreseen[role].includes(ending.refused)) {
          say('all or nothing', `${name} was refused with ${ending.refused}`);
        }
      } else if (ending.effect !== undefined) {
        effects.set(name, ending.effect);
        const passed = this.#passed.get(name);
        if (passed !== undefined) say('a fair queue', `${name} went by ${passed.join(', ')}`);
      }
    }
    if (effects.size > 1) throw new Error('two transactions committed in one step');
    const [effect] = effects.values();
    const changed = after.secrets.filter(
      (row) => before.secrets.find(({ id }) => id === row.id)?.envelope !== row.envelope,
    );
    if (effect === undefined && (changed.length > 0 || JSON.stringify(before) !== JSON.stringify(after))) {
      say('all or nothing', 'nobody committed, and something changed');
    }
    this.#checkPointer(before, after, effect, say);
    if (effect?.kind === 'put' || effect?.kind === 'restored') this.#values.set(effect.name, effect.value);
    if (effect?.kind !== 'restored') {
      for (const row of changed.filter(({ keyId }) => keyId !== after.primaries?.[0])) {
        say('the database is the fence', `${row.name} was committed under version ${this.#version(row.keyId)}`);
      }
    }
    if (effect?.kind === 'swept') {
      for (const row of changed) {
        const old = before.secrets.find(({ id }) => id === row.id);
        if (old?.updatedAt !== row.updatedAt || old.writtenAt !== row.writtenAt) {
          say('a sweep is no edit', `${row.name} was touched`);
        }
      }
    }
    if (effect?.kind === 'destroyed' && effect.keyIds.some((keyId) => after.keys[keyId] !== 'destroyed')) {
      say('destroyed last', 'an acknowledged destruction did not happen');
    }
    for (const row of after.secrets.filter(({ keyId }) => after.keys[keyId] === 'destroyed')) {
      say('destroyed last', `${row.name} names version ${this.#version(row.keyId)}, which is destroyed`);
    }
    this.#checkValues(after, say);
    return found;
  }

  outcome(): string {
    const rows = this.#state.secrets.map((row) => `${row.name}@${this.#version(row.keyId)}=${this.#open(row) ?? '?'}`);
    const keys = Object.entries(this.#state.keys).map(([id, state]) => `${this.#version(id)} ${state}`);
    return [`primary ${this.#version(this.#state.primaries?.[0] ?? '')}`, ...rows.sort(), ...keys.sort()].join(', ');
  }

  /** A first write takes a place in the queue, if it is let in at all: what counts is one that goes on to commit. */
  #noteQueue({ actor, kind, waits, stillWaiting }: Moment<Effect>): void {
    if (this.#actors.get(actor)!.role !== 'writer' || kind !== 'write' || this.#wrote.has(actor)) return;
    this.#wrote.add(actor);
    const passed = stillWaiting.filter((name) => this.#actors.get(name)!.role === 'promoter');
    if (!waits && passed.length > 0) this.#passed.set(actor, passed);
  }

  #checkPointer(
    before: State,
    after: State,
    effect: Effect | undefined,
    say: (invariant: Invariant, detail: string) => void,
  ): void {
    const [from, to] = [before.primaries?.[0], after.primaries?.[0]];
    if (after.primaries?.length !== 1 || after.keys[to!] !== 'enabled') {
      say('one primary', `the primaries are ${JSON.stringify(after.primaries)}`);
    }
    const expected = effect?.kind === 'moved' ? effect : { from, to: from };
    if (from !== expected.from || to !== expected.to) {
      say('one primary', 'the pointer moved otherwise than acknowledged');
    }
  }

  #checkValues({ secrets }: State, say: (invariant: Invariant, detail: string) => void): void {
    for (const [name, value] of this.#values) {
      const row = secrets.find((one) => one.name === name);
      const found = row && this.#open(row);
      if (found !== value) say('never lose a value', `${name} is "${found ?? 'gone'}" instead of "${value}"`);
    }
    if (secrets.length !== this.#values.size) say('all or nothing', 'there are rows that nobody acknowledged');
  }

  #open(row: StoredSecret): string | undefined {
    try {
      return this.#project.open(row.id, row.keyId, Buffer.from(row.envelope, 'hex'));
    } catch (error) {
      if (error instanceof KeyringError) return undefined;
      throw error;
    }
  }

  #version(keyId: string): string {
    return String(this.#project.version(keyId));
  }
}

export async function stateOf({ projectId }: ScheduledProject, observer: Session): Promise<State> {
  const { rows } = await observer.client.query<{
    primaries: string[] | null;
    secrets: StoredSecret[];
    keys: State['keys'];
  }>({ ...readState, values: [projectId] });
  return rows[0]!;
}
