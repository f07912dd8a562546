import type { Queryable } from '../db/port.ts';
import type { ChainedEntry } from './chain.ts';
import { chainedColumns } from './seal-store.ts';

/** Everything that follows sees the database as it is now. The first statement of a transaction. */
export async function seeOneSnapshot(tx: Queryable): Promise<void> {
  await tx.query({ text: 'set transaction isolation level repeatable read, read only' });
}

/** The database's own time, exactly: a snapshot's, in the transaction that takes it. */
export async function selectNow(tx: Queryable): Promise<string> {
  const { rows } = await tx.query<{ now: string }>({ text: 'select now()::text as now' });
  return rows[0]?.now ?? '';
}

/** A place, and the entry that it is of: its fields are null when that is gone. */
export type SealedRow = { readonly [Field in keyof ChainedEntry]: ChainedEntry[Field] | null } & {
  readonly place: string;
  readonly entry_id: string;
  readonly hash: Buffer;
};

/** What the chain's head was at a place, as its seal says. */
export async function selectHeadAt(database: Queryable, place: number): Promise<Buffer | undefined> {
  const { rows } = await database.query<{ hash: Buffer }>({
    text: 'select s.hash from keyring.audit_seals s where s.place = $1',
    values: [place],
  });
  return rows[0]?.hash;
}

/** Is the entry of this place there? */
export function isThere(row: SealedRow): row is SealedRow & ChainedEntry {
  return row.id !== null;
}

/** The lowest place that there is, whether it can be one or not. */
export async function selectFirstSeal(tx: Queryable): Promise<{ place: string; entry_id: string } | undefined> {
  const { rows } = await tx.query<{ place: string; entry_id: string }>({
    text: 'select s.place::text, s.entry_id::text from keyring.audit_seals s order by s.place limit 1',
  });
  return rows[0];
}

/** How many there are, counted without what a unique index says. */
export async function selectCounts(tx: Queryable): Promise<{ entries: number; seals: number }> {
  const { rows } = await tx.query<{ entries: string; seals: string }>({
    text: `select (select count(*) from keyring.audit_log)::text as entries,
             (select count(*) from keyring.audit_seals)::text as seals`,
  });
  return { entries: Number(rows[0]?.entries), seals: Number(rows[0]?.seals) };
}

/** The first place that more than one seal has. */
export async function selectDoublePlace(tx: Queryable): Promise<string | undefined> {
  const { rows } = await tx.query<{ place: string }>({
    text: 'select s.place::text from keyring.audit_seals s group by s.place having count(*) > 1 order by s.place limit 1',
  });
  return rows[0]?.place;
}

/** The first id that more than one entry has. */
export async function selectTwin(tx: Queryable): Promise<string | undefined> {
  const { rows } = await tx.query<{ id: string }>({
    text: 'select l.id::text from keyring.audit_log l group by l.id having count(*) > 1 order by l.id limit 1',
  });
  return rows[0]?.id;
}

export async function selectSealed(
  tx: Queryable,
  { after, through, limit }: { after: number; through?: number; limit: number },
): Promise<SealedRow[]> {
  const { rows } = await tx.query<SealedRow>({
    // Each entry is looked up by its id, whatever the statistics say: of a page, not of the table.
    text: `select s.place::text, s.entry_id::text, s.hash, l.*
           from (select n.place, n.entry_id, n.hash from keyring.audit_seals n
                 where n.place > $1 and n.place <= $2 order by n.place limit $3) s
           left join lateral (select ${chainedColumns('e')} from keyring.audit_log e where e.id = s.entry_id limit 1) l on true
           order by s.place`,
    values: [after, through ?? Number.MAX_SAFE_INTEGER, limit],
  });
  return rows;
}

export interface SignedRow {
  readonly id: string;
  readonly size: string;
  readonly floor_id: string;
  readonly note: string;
}

/** Checkpoints by size and then by age, after the one that is named. */
export async function selectCheckpoints(
  tx: Queryable,
  { size, id, limit }: { size: string; id: string; limit: number },
): Promise<SignedRow[]> {
  const { rows } = await tx.query<SignedRow>({
    text: `select c.id::text, c.size::text, c.floor_id::text, c.note from keyring.audit_checkpoints c
           where (c.size, c.id) > ($1::bigint, $2::bigint) order by c.size, c.id limit $3`,
    values: [size, id, limit],
  });
  return rows;
}

export async function selectArchive(tx: Queryable): Promise<{ through: string; note: string } | undefined> {
  const { rows } = await tx.query<{ through: string; note: string }>({
    text: 'select a.through::text, a.note from keyring.audit_archives a order by a.through desc limit 1',
  });
  return rows[0];
}

/** Is any entry there that has a place behind this one? */
export async function isAnyBehind(tx: Queryable, place: number): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `select from keyring.audit_seals s join keyring.audit_log l on l.id = s.entry_id where s.place > $1 limit 1`,
    values: [place],
  });
  return rowCount > 0;
}

/** The first entry above one, up to the floor, that has no place. */
export async function selectStowaway(
  tx: Queryable,
  above: string | undefined,
  floor: string,
): Promise<string | undefined> {
  const { rows } = await tx.query<{ id: string }>({
    text: `select l.id::text from keyring.audit_log l left join keyring.audit_seals s on s.entry_id = l.id
           where ($1::bigint is null or l.id > $1) and l.id <= $2 and s.entry_id is null order by l.id limit 1`,
    values: [above ?? null, floor],
  });
  return rows[0]?.id;
}

/** Entries by id, after one. */
export async function selectEntriesAfter(
  tx: Queryable,
  { after, limit }: { after: string; limit: number },
): Promise<ChainedEntry[]> {
  const { rows } = await tx.query<ChainedEntry>({
    text: `select ${chainedColumns('l')} from keyring.audit_log l where l.id > $1 order by l.id limit $2`,
    values: [after, limit],
  });
  return rows;
}
