import type { Audit } from '../api.ts';
import type { DatabaseFacts, EndedRotations, FleetFacts, Monitoring } from '../api-monitoring.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import type { Distribution, Tally } from '../tally.ts';
import { SILENT_AFTER_MS } from '../upper-keys/instance-store.ts';
import { report } from './report.ts';
import { selectAround, selectEnded, selectFleet, selectOpen, selectOpenProjects, type EndedCount } from './store.ts';

export interface MonitoringOptions {
  readonly factsMaxAgeMs: number;
  readonly version: string;
  readonly now: () => Date;
}

// As packages/keyring-worker has it: whoever watches knows no worker.
const WORKER_SILENT_AFTER_MS = 5_000;
const FLEET_AGES = 12;
const GIVE_UP_AFTER_MS = 5_000;

/** How things stand, for those who watch: a look for everybody who asks, none of which lasts long. */
export function monitoring(
  database: Database,
  audit: Pick<Audit, 'health'>,
  tally: Tally,
  { factsMaxAgeMs, version, now }: MonitoringOptions,
): Monitoring {
  const history = new History();
  let failedLooks = 0;
  let foundBroken = false;
  const look = <T>(read: (tx: Queryable) => Promise<T>): Promise<T | undefined> =>
    transaction(database, async (tx) => {
      await tx.query({
        text: `set local statement_timeout = ${String(GIVE_UP_AFTER_MS)}; set local jit = off; set transaction read only`,
      });
      return read(tx);
    }).catch(() => {
      failedLooks += 1;
      return undefined;
    });

  const lately = new Kept(factsMaxAgeMs, () =>
    look(async (tx): Promise<DatabaseFacts> => {
      const { open, undriven, oldestOpenSeconds } = await selectOpen(tx);
      const { projects, moved, verified, remaining } = await selectOpenProjects(tx);
      const before = await history.read(tx);
      return {
        ...(await selectAround(tx, { worker: WORKER_SILENT_AFTER_MS, instance: SILENT_AFTER_MS })),
        ended: before.ended,
        open,
        undriven,
        oldestOpenSeconds,
        openProjects: projects,
        secrets: {
          moved: history.atLeast('moved', before.moved + moved),
          verified: history.atLeast('verified', before.verified + verified),
          remaining,
        },
      };
    }),
  );
  let seen: { readonly facts: Omit<FleetFacts, 'ageSeconds'>; readonly at: number } | undefined;
  const fleet = new Kept(factsMaxAgeMs * FLEET_AGES, async () => {
    const facts = await look(selectFleet);
    if (facts !== undefined) seen = { facts, at: performance.now() };
    return facts;
  });

  const trail = new Kept(factsMaxAgeMs, () =>
    audit.health().catch(() => {
      failedLooks += 1;
      return undefined;
    }),
  );

  return {
    report: (options) => report(database, now, options),
    async facts() {
      // One after the other: whoever watches takes one connection.
      const databaseFacts = await lately.get();
      if (databaseFacts !== undefined) await fleet.get();
      const auditFacts = databaseFacts && (await trail.get());
      const { cacheHits, cacheMisses, fenceRefusals, checkpointUnkept, schemes } = tally;
      // It stands while nobody can look.
      if (auditFacts !== undefined) foundBroken = auditFacts.verified.whole?.problem !== undefined;
      const auditBroken = foundBroken || tally.auditBrokenFor.size > 0;
      return {
        process: {
          ...{ version, cacheHits, cacheMisses, fenceRefusals, auditBroken, checkpointUnkept },
          ...{ rootKeys: schemes, failedLooks },
        },
        database: databaseFacts,
        audit: auditFacts,
        fleet: seen && { ...seen.facts, ageSeconds: (performance.now() - seen.at) / 1_000 },
      };
    },
  };
}

/** What was read is good for a while; whoever asks while it is being read waits for that. What could not be read is asked for anew. */
class Kept<T> {
  readonly #maxAgeMs: number;
  readonly #read: () => Promise<T | undefined>;
  #value: T | undefined;
  #readAt = -Infinity;
  #flight: Promise<T | undefined> | undefined;

  constructor(maxAgeMs: number, read: () => Promise<T | undefined>) {
    this.#maxAgeMs = maxAgeMs;
    this.#read = read;
  }

  async get(): Promise<T | undefined> {
    if (this.#value !== undefined && performance.now() - this.#readAt < this.#maxAgeMs) return this.#value;
    this.#flight ??= this.#read().finally(() => {
      this.#flight = undefined;
    });
    this.#value = await this.#flight;
    this.#readAt = performance.now();
    return this.#value;
  }
}

/** Ended rotations, counted once: the history is read whole by the first look, later ones read what ended since. */
class History {
  readonly #settled = new Map<string, EndedCount>();
  readonly #highest = { moved: 0, verified: 0 };
  #until = '-infinity';

  async read(tx: Queryable): Promise<{ ended: EndedRotations[]; moved: number; verified: number }> {
    const { counts, settledUntil } = await selectEnded(tx, this.#until);
    for (const count of counts) if (count.settled) add(this.#settled, count);
    // Nobody may have ended one since; then the next look begins where this one did.
    if (settledUntil !== undefined) this.#until = settledUntil;
    const all = new Map(this.#settled);
    for (const count of counts) if (!count.settled) add(all, count);
    const list = [...all.values()];
    return {
      ended: list.map(({ kind, trigger, outcome, seconds }) => ({ kind, trigger, outcome, seconds })),
      moved: list.reduce((sum, count) => sum + count.moved, 0),
      verified: list.reduce((sum, count) => sum + count.verified, 0),
    };
  }

  /** A counter that fell would be taken for one that began anew, and counted twice. */
  atLeast(which: 'moved' | 'verified', n: number): number {
    return (this.#highest[which] = Math.max(this.#highest[which], n));
  }
}

function add(to: Map<string, EndedCount>, count: EndedCount): void {
  const key = `${count.kind} ${count.trigger} ${count.outcome}`;
  const before = to.get(key);
  if (before === undefined) {
    to.set(key, count);
    return;
  }
  to.set(key, {
    ...count,
    moved: before.moved + count.moved,
    verified: before.verified + count.verified,
    seconds: sum(before.seconds, count.seconds),
  });
}

function sum(a: Distribution, b: Distribution): Distribution {
  return {
    bounds: a.bounds,
    counts: a.counts.map((count, at) => count + (b.counts[at] ?? 0)),
    count: a.count + b.count,
    sum: a.sum + b.sum,
  };
}
