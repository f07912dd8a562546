import { byteaArray } from '../db/binary-array.ts';
import type { Queryable } from '../db/port.ts';
import type { ChainedEntry } from './chain.ts';

export interface CheckpointRow {
  readonly id: string;
  readonly size: string;
  readonly floor_id: string;
  readonly note: string;
  readonly mark_id: string | null;
  readonly mark_xid: string | null;
  readonly signed_at: Date;
}

/** Where the chain stands, as seen by who holds it. */
export interface ChainEnd {
  readonly place: number;
  /** Undefined: nothing has a place yet, or everything that had was archived. */
  readonly hash: Buffer | undefined;
  /** The highest id of an entry that has its place. */
  readonly highest: string;
  readonly checkpoint: CheckpointRow | undefined;
  readonly archive: { readonly through: number; readonly note: string } | undefined;
  /** This transaction's own id, and the oldest one that is not over. */
  readonly xid: string;
  readonly oldest_xid: string;
}

/** The columns of an entry as the chain takes them. Times that are no 64 bits of microseconds are the ends of those: U2. */
export const chainedColumns = (entry: string): string =>
  `${entry}.id::text, greatest(least(extract(epoch from ${entry}.at) * 1000000, 9223372036854775807), ` +
  `-9223372036854775808)::bigint::text as at_us, ${entry}.actor, ` +
  `${entry}.principal_kind, ${entry}.source_address, ${entry}.action, ${entry}.outcome, ${entry}.project_id::text, ` +
  `${entry}.subject, ${entry}.reason, ${entry}.details::text`;

export async function selectInstallation(database: Queryable): Promise<string> {
  const { rows } = await database.query<{ id: string }>({ text: 'select id from keyring.installation' });
  return rows[0]?.id ?? '';
}

/** Is there an entry above the floor, or a floor that may rise? Reads only, so that an idle trail costs next to nothing. */
export async function hasWork(database: Queryable): Promise<boolean> {
  const { rows } = await database.query<{ work: boolean }>({
    text: `select c.mark_id is not null
             or exists (select from keyring.audit_log l where l.id > coalesce(c.floor_id, 0)) as work
           from (select) one left join lateral (
             select floor_id, mark_id from keyring.audit_checkpoints order by id desc limit 1) c on true`,
  });
  return rows[0]?.work ?? false;
}

/** The highest id that was handed out to an entry which can be seen. */
export async function selectLastEntry(database: Queryable): Promise<string> {
  const { rows } = await database.query<{ id: string }>({
    text: `select coalesce(max(l.id), 0)::text as id from keyring.audit_log l`,
  });
  return rows[0]?.id ?? '0';
}

/** False when somebody else seals. Holds it until the transaction ends. */
export async function holdSealer(tx: Queryable): Promise<boolean> {
  const { rowCount } = await tx.query({ text: 'select from keyring.audit_sealer for update skip locked' });
  return rowCount === 1;
}

export async function selectChainEnd(tx: Queryable): Promise<ChainEnd> {
  const { rows } = await tx.query<{
    place: string | null;
    hash: Buffer | null;
    highest: string | null;
    through: string | null;
    archive_note: string | null;
    xid: string;
    oldest_xid: string;
  }>({
    text: `select s.place::text, s.hash, (select max(h.entry_id) from keyring.audit_seals h)::text as highest,
             a.through::text, a.note as archive_note, pg_current_xact_id()::text as xid,
             pg_snapshot_xmin(pg_current_snapshot())::text as oldest_xid
           from (select) one
           left join lateral (select place, hash from keyring.audit_seals order by place desc limit 1) s on true
           left join lateral (select through, note from keyring.audit_archives order by through desc limit 1) a on true`,
  });
  const [row] = rows;
  if (row === undefined) throw new Error('a row was expected');
  const through = Number(row.through ?? 0);
  return {
    place: Math.max(Number(row.place ?? 0), through),
    hash: row.hash ?? undefined,
    highest: row.highest ?? '0',
    checkpoint: await selectLastCheckpoint(tx),
    archive: row.archive_note === null ? undefined : { through, note: row.archive_note },
    xid: row.xid,
    oldest_xid: row.oldest_xid,
  };
}

export async function selectLastCheckpoint(database: Queryable): Promise<CheckpointRow | undefined> {
  const { rows } = await database.query<CheckpointRow>({
    // Qualified: a bare `id` would be the text, of which 9 comes after 10.
    text: `select c.id::text, c.size::text, c.floor_id::text, c.note, c.mark_id::text, c.mark_xid::text, c.signed_at
           from keyring.audit_checkpoints c order by c.id desc limit 1`,
  });
  return rows[0];
}

/** When the oldest checkpoint that is there was signed. */
export async function selectFirstSignedAt(database: Queryable): Promise<Date | undefined> {
  const { rows } = await database.query<{ signed_at: Date }>({
    text: 'select c.signed_at from keyring.audit_checkpoints c order by c.id limit 1',
  });
  return rows[0]?.signed_at;
}

/** Entries without a place whose id is above `after`, by id. */
export async function selectUnsealed(
  database: Queryable,
  { after, limit }: { after: string; limit: number },
): Promise<ChainedEntry[]> {
  const { rows } = await database.query<ChainedEntry>({
    text: `select ${chainedColumns('l')}
           from keyring.audit_log l
           where l.id > $1 and not exists (select from keyring.audit_seals s where s.entry_id = l.id)
           order by l.id limit $2`,
    values: [after, limit],
  });
  return rows;
}

export interface Seal {
  readonly place: number;
  readonly entryId: string;
  readonly hash: Buffer;
}

export async function insertSeals(tx: Queryable, seals: readonly Seal[]): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_seals (place, entry_id, hash)
           select n.place, n.entry_id, n.hash from unnest($1::bigint[], $2::bigint[], $3::bytea[]) as n (place, entry_id, hash)`,
    values: [
      seals.map(({ place }) => place),
      seals.map(({ entryId }) => entryId),
      byteaArray(seals.map(({ hash }) => hash)),
    ],
  });
}

export async function insertCheckpoint(
  tx: Queryable,
  checkpoint: {
    readonly size: number;
    readonly floor: string;
    readonly note: string;
    readonly signingKeyId: string;
    readonly mark: Mark | undefined;
  },
): Promise<void> {
  await tx.query({
    text: `insert into keyring.audit_checkpoints (size, floor_id, note, signing_key_id, mark_id, mark_xid)
           values ($1, $2, $3, $4, $5, $6::xid8)`,
    values: [
      checkpoint.size,
      checkpoint.floor,
      checkpoint.note,
      checkpoint.signingKeyId,
      checkpoint.mark?.id ?? null,
      checkpoint.mark?.xid ?? null,
    ],
  });
}

/** The next floor, once every transaction up to `xid` is over. */
export interface Mark {
  readonly id: string;
  readonly xid: string;
}

/** How many entries have no place, above the floor, and since when. */
export async function selectUnsealedCount(
  database: Queryable,
  floor: string,
): Promise<{ entries: number; oldestAt: Date | undefined; now: Date }> {
  const { rows } = await database.query<{ entries: string; oldest_at: Date | null; now: Date }>({
    text: `select count(*)::text as entries, min(l.at) as oldest_at, clock_timestamp() as now from keyring.audit_log l
           where l.id > $1 and not exists (select from keyring.audit_seals s where s.entry_id = l.id)`,
    values: [floor],
  });
  const [row] = rows;
  return { entries: Number(row?.entries ?? 0), oldestAt: row?.oldest_at ?? undefined, now: row?.now ?? new Date() };
}
