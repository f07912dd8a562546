import type { Queryable } from '@meshhook/keyring';

/** A worker that has not said so for this long is taken for dead. */
export const DEAD_AFTER_MS = 5_000;
const FORGOTTEN_AFTER_S = 3_600;

/** A unit that a worker does now. */
export interface WorkerUnit {
  readonly rotationId: string;
  readonly projects: number;
  readonly since: Date;
}

/** A worker process, alive or lately dead. */
export interface WorkerEntry {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  /** Of the program. */
  readonly version: string;
  /** Units it does at once. */
  readonly concurrency: number;
  readonly startedAt: Date;
  readonly seenAt: Date;
  readonly alive: boolean;
  readonly units: readonly WorkerUnit[];
  /** Ids of rotations whose units it hands out. */
  readonly driving: readonly string[];
}

export interface Doing {
  readonly units: readonly WorkerUnit[];
  readonly driving: readonly string[];
}

export interface Self {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly concurrency: number;
}

/** Says that this worker is alive and what it does; gives how many others are. */
export async function seen(database: Queryable, self: Self, doing: Doing): Promise<number> {
  const { rows } = await database.query<{ others: number }>({
    text: `with me as (
             insert into keyring.workers (id, host, pid, version, concurrency, doing) values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update set seen_at = now(), doing = excluded.doing
           )
           select count(*)::int as others from keyring.workers
           where id <> $1 and seen_at > now() - make_interval(secs => $7::double precision / 1000)`,
    values: [self.id, self.host, self.pid, self.version, self.concurrency, JSON.stringify(doing), DEAD_AFTER_MS],
  });
  return rows[0]?.others ?? 0;
}

export async function anyAlive(database: Queryable): Promise<boolean> {
  const { rows } = await database.query<{ any_alive: boolean }>({
    text: `select exists (
             select from keyring.workers where seen_at > now() - make_interval(secs => $1::double precision / 1000)
           ) as any_alive`,
    values: [DEAD_AFTER_MS],
  });
  return rows[0]?.any_alive ?? false;
}

export async function left(database: Queryable, id: string): Promise<void> {
  await database.query({ text: 'delete from keyring.workers where id = $1', values: [id] });
}

export async function forgetDead(database: Queryable): Promise<void> {
  await database.query({
    text: `delete from keyring.workers where seen_at < now() - make_interval(secs => $1)`,
    values: [FORGOTTEN_AFTER_S],
  });
}

interface WorkerRow {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly concurrency: number;
  readonly started_at: Date;
  readonly seen_at: Date;
  readonly alive: boolean;
  readonly doing: {
    readonly units: readonly { readonly rotationId: string; readonly projects: number; readonly since: string }[];
    readonly driving: readonly string[];
  };
}

/** The live first, then those that died within the hour; up to 1,000. */
export async function listWorkers(database: Queryable): Promise<WorkerEntry[]> {
  const { rows } = await database.query<WorkerRow>({
    text: `select id, host, pid, version, concurrency, started_at, seen_at,
             seen_at > now() - make_interval(secs => $1::double precision / 1000) as alive, doing
           from keyring.workers order by alive desc, started_at, id limit 1000`,
    values: [DEAD_AFTER_MS],
  });
  return rows.map(({ started_at: startedAt, seen_at: seenAt, doing, ...row }) => ({
    ...row,
    startedAt,
    seenAt,
    units: doing.units.map(({ since, ...unit }) => ({ ...unit, since: new Date(since) })),
    driving: doing.driving,
  }));
}
