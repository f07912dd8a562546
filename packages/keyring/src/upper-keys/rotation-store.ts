import type { BlockingKey, UpperRotationsPage, WrappingRotationState } from '../api-upper-keys.ts';
import type { Queryable } from '../db/port.ts';
import { requireUuid } from '../validate.ts';

/** A rotation of a root or a wrapping key, as its row says. */
export interface UpperRotation {
  readonly id: string;
  readonly kind: 'root' | 'wrapping';
  readonly state: WrappingRotationState;
  readonly direction: 'forward' | 'back';
  readonly leaked: boolean;
  readonly fromRoot: NamedRoot | undefined;
  readonly toRoot: NamedRoot | undefined;
  readonly fromKey: NamedKey | undefined;
  readonly toKey: NamedKey | undefined;
  readonly requestedBy: string;
  readonly reason: string | undefined;
  readonly requestedAt: Date;
  readonly preparedAt: Date | undefined;
  readonly promotedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  readonly keys: { readonly total: number | undefined; readonly moved: number; readonly verified: number };
  readonly forced: readonly string[];
  readonly blockedBy: readonly BlockingKey[];
  readonly errorCode: string | undefined;
  readonly errorDetail: string | undefined;
}

export interface NamedRoot {
  readonly id: string;
  readonly uri: string;
  readonly fingerprint: string;
}

export interface NamedKey {
  readonly id: string;
  readonly version: number;
}

interface Row {
  readonly id: string;
  readonly kind: UpperRotation['kind'];
  readonly state: WrappingRotationState;
  readonly direction: UpperRotation['direction'];
  readonly leaked: boolean;
  readonly from_root: NamedRoot | null;
  readonly to_root: NamedRoot | null;
  readonly from_key: NamedKey | null;
  readonly to_key: NamedKey | null;
  readonly requested_by: string;
  readonly reason: string | null;
  readonly requested_at: Date;
  readonly prepared_at: Date | null;
  readonly promoted_at: Date | null;
  readonly finished_at: Date | null;
  readonly keys_total: string | null;
  readonly keys_moved: string;
  readonly keys_verified: string;
  readonly forced: string[];
  readonly blocked_by: BlockingKey[];
  readonly error_code: string | null;
  readonly error_detail: string | null;
}

const root = (alias: string): string =>
  `case when ${alias}.id is not null then jsonb_build_object('id', ${alias}.id, 'uri', ${alias}.uri, 'fingerprint', ${alias}.fingerprint) end`;
const key = (alias: string): string =>
  `case when ${alias}.id is not null then jsonb_build_object('id', ${alias}.id, 'version', ${alias}.version) end`;

const select = `
  select u.id, u.kind, u.state, u.direction, u.leaked, ${root('fr')} as from_root, ${root('tr')} as to_root,
    ${key('fk')} as from_key, ${key('tk')} as to_key, u.requested_by, u.reason, u.requested_at, u.prepared_at, u.promoted_at,
    u.finished_at, u.keys_total, u.keys_moved, u.keys_verified, u.forced, u.blocked_by, u.error_code, u.error_detail
  from keyring.upper_rotations u
  left join keyring.root_keys fr on fr.id = u.from_root_key_id
  left join keyring.root_keys tr on tr.id = u.to_root_key_id
  left join keyring.wrapping_keys fk on fk.id = u.from_wrapping_key_id
  left join keyring.wrapping_keys tk on tk.id = u.to_wrapping_key_id`;

const toRotation = (row: Row): UpperRotation => ({
  id: row.id,
  kind: row.kind,
  state: row.state,
  direction: row.direction,
  leaked: row.leaked,
  fromRoot: row.from_root ?? undefined,
  toRoot: row.to_root ?? undefined,
  fromKey: row.from_key ?? undefined,
  toKey: row.to_key ?? undefined,
  requestedBy: row.requested_by,
  reason: row.reason ?? undefined,
  requestedAt: row.requested_at,
  preparedAt: row.prepared_at ?? undefined,
  promotedAt: row.promoted_at ?? undefined,
  finishedAt: row.finished_at ?? undefined,
  keys: {
    total: row.keys_total === null ? undefined : Number(row.keys_total),
    moved: Number(row.keys_moved),
    verified: Number(row.keys_verified),
  },
  forced: row.forced,
  blockedBy: row.blocked_by,
  errorCode: row.error_code ?? undefined,
  errorDetail: row.error_detail ?? undefined,
});

export async function selectUpperRotation(database: Queryable, id: string): Promise<UpperRotation | undefined> {
  const { rows } = await database.query<Row>({ text: `${select} where u.id = $1`, values: [id] });
  return rows[0] && toRotation(rows[0]);
}

export async function selectOpenUpperRotation(database: Queryable): Promise<UpperRotation | undefined> {
  const { rows } = await database.query<Row>({ text: `${select} where u.finished_at is null` });
  return rows[0] && toRotation(rows[0]);
}

export async function selectUpperRotations(
  database: Queryable,
  { kind, limit = 50, before }: { kind: UpperRotation['kind'] } & UpperRotationsPage,
): Promise<UpperRotation[]> {
  if (before !== undefined) requireUuid('rotation id', before);
  const { rows } = await database.query<Row>({
    text: `${select}
           where u.kind = $1 and ($3::uuid is null or (u.requested_at, u.id) < (
             select b.requested_at, b.id from keyring.upper_rotations b where b.id = $3 and b.kind = $1))
           order by u.requested_at desc, u.id desc limit $2`,
    values: [kind, Math.min(Math.max(limit, 1), 500), before ?? null],
  });
  return rows.map(toRotation);
}

/** Where it stands, held until the transaction ends: every step begins with it. False when it stands elsewhere by now. */
export async function lockUpperRotation(tx: Queryable, at: Pick<UpperRotation, 'id' | 'state'>): Promise<boolean> {
  const { rows } = await tx.query<{ state: string }>({
    text: 'select state from keyring.upper_rotations where id = $1 for no key update',
    values: [at.id],
  });
  return rows[0]?.state === at.state;
}

export interface MoveOptions {
  readonly errorCode?: string;
  readonly errorDetail?: string;
  readonly blockedBy?: readonly BlockingKey[];
  readonly keysTotal?: number;
  readonly keysVerified?: number;
}

/** Takes a rotation from where it stood to another state. False when it stands elsewhere by now. */
export async function moveUpperRotation(
  tx: Queryable,
  at: Pick<UpperRotation, 'id' | 'state'>,
  to: WrappingRotationState,
  { errorCode, errorDetail, blockedBy = [], keysTotal, keysVerified }: MoveOptions = {},
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.upper_rotations set state = $3,
             direction = case when $3 = 'rolling_back' then 'back' else direction end,
             prepared_at = case when $3 = 'prepared' then clock_timestamp() else prepared_at end,
             promoted_at = case when $3 = 'rewrapping' then coalesce(promoted_at, clock_timestamp()) else promoted_at end,
             rewrapped_at = case when $3 = 'verifying' then clock_timestamp() else rewrapped_at end,
             verified_at = case when $3 in ('completed', 'rolled_back') then clock_timestamp() else verified_at end,
             finished_at = case when $3 in ('completed', 'rolled_back', 'canceled', 'failed') then clock_timestamp() end,
             error_code = $4, error_detail = $5, blocked_by = $6,
             keys_total = coalesce($7, keys_total), keys_verified = coalesce($8, keys_verified)
           where id = $1 and state = $2`,
    values: [
      at.id,
      at.state,
      to,
      errorCode ?? null,
      errorDetail ?? null,
      JSON.stringify(blockedBy),
      keysTotal ?? null,
      keysVerified ?? null,
    ],
  });
  return rowCount === 1;
}

export async function noteKeysMoved(tx: Queryable, id: string, moved: number): Promise<void> {
  await tx.query({
    text: 'update keyring.upper_rotations set keys_moved = keys_moved + $2 where id = $1',
    values: [id, moved],
  });
}

/** False when it was forced past this one before, or is over: what it waited for has come. */
export async function noteForced(tx: Queryable, id: string, instanceId: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.upper_rotations set forced = array_append(forced, $2)
           where id = $1 and finished_at is null and not ($2 = any (forced))`,
    values: [id, instanceId],
  });
  return rowCount === 1;
}
