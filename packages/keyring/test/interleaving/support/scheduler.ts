/**
 * Runs transactions against each other, one statement at a time, in an order that the caller chooses.
 *
 * Each actor is code that sends statements through a `Queryable`, on a connection of its own to a real PostgreSQL. A
 * statement goes out only when it is the actor's turn. Then everything is left to come to rest: every actor has its next
 * statement ready, has ended, or waits for a lock. That it waits is read from PostgreSQL (`pg_blocking_pids`, and a holder
 * that is one of the actors), never guessed from the time that passed: the short pauses here only space the questions. A
 * waiting statement needs no second turn: the step that lets it go carries it along. Deadlocks are left to PostgreSQL to
 * find; a ring of waiting actors is not rest. An actor whose statement fails has ended; its locks are gone by then, so its
 * `rollback` is no step.
 *
 * `explore.ts` tries the orders. What is no step of its own: `begin`, `set`, a `set_config` under read committed, the entry in
 * the audit log. They see nothing of the others and take no lock that the others want, so they go out with what precedes
 * them. With a reduction, plain reads also commute with each other, with statements of others that commit nothing, which they
 * cannot see, and with commits that change nothing they could find: because they look at other tables, or at a snapshot that
 * is taken already. Between two serializable transactions only reads do, since a read leaves a predicate lock. Of orders that
 * differ only in that, one is run (sleep sets: Godefroid, Partial-Order Methods for the Verification of Concurrent Systems,
 * 1996, chapter 5).
 *
 * Limits. The grain is the statement: what two statements do to each other while both run is PostgreSQL's own affair, and
 * seen only where one of them waits. Of two that are let go by the same step, which goes first is PostgreSQL's choice, as the
 * victim of a deadlock is. Crashes, lost connections and timeouts are the business of other tests.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, Queryable, Result, Statement } from '../../../src/db/port.ts';
import { sqlState } from '../../../src/db/failures.ts';
import type { Session } from '../../database/support.ts';
import { labelOf, Past, type Step, type StepKind } from './statements.ts';

/** Somebody with one transaction to make. */
export interface Actor<Effect> {
  readonly name: string;
  readonly isolation: 'read committed' | 'repeatable read' | 'serializable';
  /** What it did, once it is committed; undefined when it found nothing to do and rolled back. */
  run(tx: Queryable): Promise<Effect | undefined>;
}

/** An actor's connection. */
export interface Backend {
  readonly pid: number;
  readonly connection: Connection;
}

/** How an actor ended: with its effect committed, with nothing done, or refused with an SQLSTATE. */
export type Ending<Effect> = { readonly effect: Effect | undefined } | { readonly refused: string };

/** What one step led to, when everything had come to rest again. */
export interface Moment<Effect> {
  readonly actor: string;
  readonly label: string;
  readonly kind: StepKind;
  /** Did the step itself end up waiting? */
  readonly waits: boolean;
  /** Who waited before it, and still does. */
  readonly stillWaiting: readonly string[];
  /** Whose transactions are over with this step: its own, and those it let go. */
  readonly ended: ReadonlyMap<string, Ending<Effect>>;
}

const QUESTION_EVERY_MS = 1;
const PATIENCE_MS = 120_000;

class Abandoned extends Error {}

interface Turn {
  readonly step: Step;
  readonly label: string;
  take(): void;
  abandon(): void;
}

class Participant<Effect> {
  readonly actor: Actor<Effect>;
  readonly backend: Backend;
  state: 'thinking' | 'ready' | 'sent' | 'ended' = 'thinking';
  turn: Turn | undefined;
  ending: Ending<Effect> | undefined;
  readonly past: Past;

  constructor(actor: Actor<Effect>, backend: Backend) {
    this.actor = actor;
    this.backend = backend;
    this.past = new Past(actor.isolation);
  }
}

/** One run of some actors. */
export class Schedule<Effect> {
  readonly #participants: readonly Participant<Effect>[];
  readonly #observer: Session;
  readonly #runs: Promise<void>[];
  readonly #troubles: unknown[] = [];
  #abandoned = false;
  /** Who is known to wait still: locks go when a transaction ends, and none has since it was last asked. */
  #held = new Set<Participant<Effect>>();
  #changes = 0;
  #changed = Promise.withResolvers<void>();

  constructor(actors: readonly Actor<Effect>[], backends: readonly Backend[], observer: Session) {
    this.#observer = observer;
    this.#participants = actors.map((actor, index) => new Participant(actor, backends[index]!));
    this.#runs = this.#participants.map((participant) => this.#run(participant));
  }

  /** Everybody up to their first step. */
  async start(): Promise<void> {
    await this.#rest();
  }

  /** Whose turn it can be: indices, with what they would do. */
  ready(): Map<number, Step> {
    const waiting = this.#participants.filter(({ state }) => state === 'sent');
    // Whatever lets those go who wait carries them along: what is no transaction is committed, and a predicate lock is met.
    const committing = waiting.some(({ past }) => !past.inTransaction)
      ? ({ kind: 'end', changes: 'anything' } as const)
      : {};
    const serializable = waiting.some(({ actor }) => actor.isolation === 'serializable') ? { serializable: true } : {};
    return new Map(
      this.#participants.flatMap(({ state, turn }, index) => {
        if (state !== 'ready') return [];
        const { step } = turn!;
        return [[index, step.kind === 'read' ? step : { ...step, ...committing, ...serializable }] as const];
      }),
    );
  }

  /** How those ended who have; undefined of the others. */
  endings(): Map<string, Ending<Effect> | undefined> {
    return new Map(this.#participants.map((participant) => [participant.actor.name, participant.ending]));
  }

  /** Gives one actor its turn, and waits until everything is at rest again. */
  async step(index: number): Promise<Moment<Effect>> {
    const participant = this.#participants[index]!;
    const { turn } = participant;
    if (turn === undefined) throw new Error(`it is not ${participant.actor.name}'s turn`);
    const waited = this.#participants.filter(({ state }) => state === 'sent');
    const going = this.#participants.filter(({ state }) => state !== 'ended');
    participant.turn = undefined;
    this.#held = new Set(turn.step.kind === 'end' ? [] : waited);
    this.#become(participant, 'sent');
    turn.take();
    await this.#rest();
    return {
      actor: participant.actor.name,
      label: turn.label,
      kind: turn.step.kind,
      waits: participant.state === 'sent',
      stillWaiting: waited.filter(({ state }) => state === 'sent').map(({ actor }) => actor.name),
      ended: new Map(going.flatMap(({ actor, ending }) => (ending === undefined ? [] : [[actor.name, ending]]))),
    };
  }

  /** Rolls back whatever is still open. */
  async close(): Promise<void> {
    this.#abandoned = true;
    for (const { turn } of this.#participants) turn?.abandon();
    await Promise.all(this.#runs);
  }

  async #run(participant: Participant<Effect>): Promise<void> {
    try {
      participant.ending = { effect: await participant.actor.run(this.#queryable(participant)) };
    } catch (error) {
      this.#held.clear();
      const refused = sqlState(error);
      if (refused !== undefined) participant.ending = { refused };
      else if (!(error instanceof Abandoned)) this.#troubles.push(error);
    }
    // After a refusal without a transaction, too: it is told before its locks are gone, and what follows is answered after that.
    if (participant.past.inTransaction || (participant.ending !== undefined && 'refused' in participant.ending)) {
      await participant.backend.connection.query({ text: 'rollback' });
      participant.past.note('rollback');
    }
    this.#become(participant, 'ended');
  }

  #queryable(participant: Participant<Effect>): Queryable {
    return {
      query: async <Row extends object>(statement: Statement): Promise<Result<Row>> => {
        if (this.#abandoned) throw new Abandoned();
        const { past } = participant;
        const step = past.next(statement.text);
        if (step.kind !== 'local') await this.#turnOf(participant, step, labelOf(statement.text));
        try {
          const result = await participant.backend.connection.query<Row>(statement);
          past.note(statement.text);
          return result;
        } finally {
          this.#become(participant, 'thinking');
        }
      },
    };
  }

  #turnOf(participant: Participant<Effect>, step: Step, label: string): Promise<void> {
    return new Promise((resolve, reject) => {
      participant.turn = {
        step,
        label,
        take: resolve,
        abandon: () => {
          reject(new Abandoned());
        },
      };
      this.#become(participant, 'ready');
    });
  }

  #become(participant: Participant<Effect>, state: Participant<Effect>['state']): void {
    participant.state = state;
    this.#changes += 1;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Until nobody can go on without a turn. */
  async #rest(): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      if (this.#troubles.length > 0) throw this.#troubles[0];
      if (Date.now() > deadline) throw new Error(`nothing came to rest: ${this.#describe()}`);
      const sent = this.#participants.filter(({ state }) => state === 'sent');
      if (this.#participants.some(({ state }) => state === 'thinking')) {
        await this.#changed.promise;
        continue;
      }
      if (sent.every((participant) => this.#held.has(participant))) return;
      const before = this.#changes;
      const pause = new AbortController();
      await Promise.race([
        this.#changed.promise,
        sleep(QUESTION_EVERY_MS, undefined, { signal: pause.signal }).catch(() => undefined),
      ]);
      pause.abort();
      if (this.#changes !== before) continue;
      const blockers = await this.#blockers(sent.map(({ backend }) => backend.pid));
      if (this.#changes === before && atRest(blockers)) return;
    }
  }

  /** Which of the actors each of these waits for. */
  async #blockers(pids: readonly number[]): Promise<Map<number, number[]>> {
    const rows = await this.#observer.client.query<{ pid: number; blockers: number[] }>({
      name: 'blockers',
      text: 'select pid, pg_blocking_pids(pid) as blockers from unnest($1::int[]) pid',
      values: [pids],
    });
    const ours = new Set(this.#participants.map(({ backend }) => backend.pid));
    return new Map(rows.rows.map(({ pid, blockers }) => [pid, blockers.filter((blocker) => ours.has(blocker))]));
  }

  #describe(): string {
    return this.#participants.map(({ actor, state }) => `${actor.name} ${state}`).join(', ');
  }
}

/** Does everybody here wait, and, at the end of every chain, for somebody who does not? */
function atRest(blockers: ReadonlyMap<number, readonly number[]>): boolean {
  const waitsInVain = (pid: number, path: readonly number[]): boolean =>
    path.includes(pid) || (blockers.get(pid) ?? []).some((blocker) => waitsInVain(blocker, [...path, pid]));
  return [...blockers].every(([pid, holders]) => holders.length > 0 && !waitsInVain(pid, []));
}
