import { randomUUID } from 'node:crypto';
import {
  errorCodes,
  KeyringError,
  type Database,
  type ErrorCode,
  type WorkResult,
  type WorkUnit,
} from '@meshhook/keyring';
import type { PgBoss } from 'pg-boss';
import { bossOver, SCHEMA } from './boss.ts';
import { Nap } from './nap.ts';
import { DEAD_AFTER_MS } from './workers.ts';

/** The queue that the migration made in pg-boss's tables. */
export const QUEUE = 'units';

// How soon a driver sees what others did: at first, and while nothing happens.
const FIRST_LOOK_MS = 20;
const LAST_LOOK_MS = 250;
// A unit has up to 500 ids: this keeps a statement below two megabytes.
const JOBS_PER_INSERT = 100;
// Jobs that nobody collected: their driver died, and no other one came. How long one takes says nothing: a polite unit may go on
// for days.
const KEPT_ENDED_S = 600;
const KEPT_WAITING_S = 86_400;

/** How a job ended. `interrupted` is the code of one that its worker gave back. */
export type Outcome =
  | { readonly kind: 'done'; readonly result: WorkResult }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode;
      readonly message: string;
      readonly remedy?: string | undefined;
    }
  /** Its worker fell silent, or somebody deleted it. */
  | { readonly kind: 'lost' };

export interface Claimed {
  readonly id: string;
  readonly unit: WorkUnit;
}

export interface ToSend {
  readonly unit: WorkUnit;
  /** Larger ones are claimed first. */
  readonly priority: number;
}

export interface Sent {
  readonly id: string;
  readonly outcome: Promise<Outcome>;
}

interface Waiting {
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Units as jobs of pg-boss. One job is one try: pg-boss is told to retry nothing, because who drives the rotation sees what
 * came of a job and sends another. Needs no session: every statement stands alone.
 */
export class Jobs {
  readonly #database: Database;
  readonly #boss: PgBoss;
  readonly #active = new Set<string>();
  readonly #sent = new Map<string, Waiting>();
  readonly #nap = new Nap();
  readonly #closed = new AbortController();
  #watching: Promise<void> | undefined;

  constructor(database: Database, onError: (error: unknown) => void) {
    this.#database = database;
    this.#boss = bossOver(database, onError);
  }

  /** @throws KeyringError while the database does not answer; Error when the schema is not the one pg-boss wants. */
  async open(): Promise<void> {
    await this.#boss.start();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#watching;
    await this.#boss.stop({ graceful: false, close: false });
  }

  // ── for whoever drives ──

  /** Sends units, a job each, in as few statements as they fit in. */
  async send(units: readonly ToSend[]): Promise<Sent[]> {
    const jobs = units.map(({ unit, priority }) => {
      return { id: randomUUID(), data: { ...unit }, singletonKey: unit.rotationId, priority };
    });
    for (let from = 0; from < jobs.length; from += JOBS_PER_INSERT) {
      await this.#boss.insert(QUEUE, jobs.slice(from, from + JOBS_PER_INSERT));
    }
    const sent = jobs.map(({ id }) => {
      const { promise: outcome, resolve, reject } = Promise.withResolvers<Outcome>();
      this.#sent.set(id, { resolve, reject });
      return { id, outcome };
    });
    if (this.#sent.size > 0) this.#watching ??= this.#watch();
    this.#nap.wake();
    return sent;
  }

  /** Takes jobs back, those too that somebody is doing: what comes of them is nobody's question any more. */
  async takeBack(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#sent.delete(id);
    await this.#remove(ids);
  }

  /** Takes back what former drives of a rotation left behind. */
  async clear(rotationId: string): Promise<void> {
    await this.#database.query({
      text: `delete from ${SCHEMA}.job_common where name = $1 and singleton_key = $2 and not id = any ($3::uuid[])`,
      values: [QUEUE, rotationId, [...this.#sent.keys()]],
    });
  }

  /** One query for all that were sent, until none is left. */
  async #watch(): Promise<void> {
    let everyMs = FIRST_LOOK_MS;
    while (this.#sent.size > 0 && !this.#closed.signal.aborted) {
      await this.#nap.for(everyMs, this.#closed.signal);
      try {
        const ended = await this.#look([...this.#sent.keys()]);
        everyMs = ended.length > 0 ? FIRST_LOOK_MS : Math.min(everyMs * 1.5, LAST_LOOK_MS);
        for (const { id, outcome } of ended) this.#settle(id, outcome);
        await this.#remove(ended.map(({ id }) => id)).catch(() => undefined);
      } catch (error) {
        // Whoever drives waits for the database as it does for its own statements, and sends them anew.
        for (const [id, { reject }] of this.#sent) {
          this.#sent.delete(id);
          reject(error);
        }
      }
    }
    // Now, and not when somebody hears of it: what is sent meanwhile would be watched by nobody.
    this.#watching = undefined;
  }

  async #look(ids: readonly string[]): Promise<{ id: string; outcome: Outcome }[]> {
    const { rows } = await this.#database.query<{ id: string; state: string | null; output: unknown }>({
      text: `select s.id, j.state, j.output
             from unnest($2::uuid[]) s (id) left join ${SCHEMA}.job_common j on j.name = $1 and j.id = s.id
             where j.id is null or j.state in ('completed', 'failed', 'cancelled')
               or j.state = 'active' and j.heartbeat_on < now() - make_interval(secs => $3::double precision / 1000)`,
      values: [QUEUE, ids, DEAD_AFTER_MS],
    });
    return rows.map(({ id, state, output }) => ({ id, outcome: toOutcome(state, output) }));
  }

  #settle(id: string, outcome: Outcome): boolean {
    const waiting = this.#sent.get(id);
    this.#sent.delete(id);
    waiting?.resolve(outcome);
    return waiting !== undefined;
  }

  async #remove(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#boss.deleteJob(QUEUE, [...ids]);
  }

  // ── for whoever does the work ──

  async claim(most: number): Promise<Claimed[]> {
    const jobs = await this.#boss.fetch<WorkUnit>(QUEUE, { batchSize: most });
    for (const { id } of jobs) this.#active.add(id);
    return jobs.map(({ id, data }) => ({ id, unit: data }));
  }

  /** Says that the jobs that were claimed here are still being done. */
  async touch(): Promise<void> {
    if (this.#active.size > 0) await this.#boss.touch(QUEUE, [...this.#active]);
  }

  async complete(id: string, result: WorkResult): Promise<void> {
    this.#active.delete(id);
    // Of a rotation that this process drives: it hears of it now, and nobody else has to.
    if (this.#settle(id, { kind: 'done', result })) await this.#remove([id]);
    else await this.#boss.complete(QUEUE, id, result);
  }

  async fail(id: string, error: unknown): Promise<void> {
    this.#active.delete(id);
    await this.#boss.fail(QUEUE, id, toFailure(error));
  }

  // ── for whoever comes by ──

  async sweep(): Promise<void> {
    await this.#database.query({
      text: `delete from ${SCHEMA}.job_common
             where name = $1 and (
               completed_on < now() - make_interval(secs => $2)
               or state = 'active' and heartbeat_on < now() - make_interval(secs => $2)
               or state = 'created' and created_on < now() - make_interval(secs => $3))`,
      values: [QUEUE, KEPT_ENDED_S, KEPT_WAITING_S],
    });
  }
}

/** What of a failure may be stored: an error that is not ours could hold anything. */
function toFailure(error: unknown): { code: ErrorCode; message: string; remedy?: string | undefined } {
  if (error instanceof KeyringError) return { code: error.code, message: error.message, remedy: error.remedy };
  return { code: 'internal', message: 'A worker failed unexpectedly; its own log says how.' };
}

function toOutcome(state: string | null, output: unknown): Outcome {
  if (state === 'completed') return { kind: 'done', result: output as WorkResult };
  if (state !== 'failed') return { kind: 'lost' };
  const { code, message, remedy } = (output ?? {}) as { code?: unknown; message?: unknown; remedy?: unknown };
  return {
    kind: 'failed',
    code: errorCodes.find((known) => known === code) ?? 'internal',
    message: typeof message === 'string' ? message : 'A worker failed.',
    remedy: typeof remedy === 'string' ? remedy : undefined,
  };
}
