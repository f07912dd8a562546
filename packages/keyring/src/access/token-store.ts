import type { AccessToken, GrantableRole, ProjectIds } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import type { Permission } from './roles.ts';

interface TokenRow {
  readonly id: string;
  readonly name: string;
  readonly role: GrantableRole | null;
  readonly permissions: Permission[] | null;
  readonly project_ids: string[] | null;
  readonly person: string;
  readonly created_by: string;
  readonly created_at: Date;
  readonly expires_at: Date;
  readonly last_used_at: Date | null;
  readonly revoked_at: Date | null;
  readonly state: AccessToken['state'];
}

const columns = `t.id, t.name, t.role, t.permissions, t.project_ids, t.person, t.created_by, t.created_at, t.expires_at,
  t.last_used_at, t.revoked_at,
  case when t.revoked_at is not null then 'revoked' when t.expires_at <= clock_timestamp() then 'expired' else 'active' end as state`;

export async function insertToken(
  tx: Queryable,
  token: {
    readonly name: string;
    readonly digest: Buffer;
    readonly role: GrantableRole | undefined;
    readonly permissions: readonly Permission[] | undefined;
    readonly projects: ProjectIds;
    readonly person: string;
    readonly createdBy: string;
    readonly days: number;
  },
): Promise<AccessToken> {
  const { rows } = await tx.query<TokenRow>({
    text: `insert into keyring.api_tokens as t (name, digest, role, permissions, project_ids, person, created_by, expires_at)
           values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(days => $8))
           returning ${columns}`,
    values: [
      token.name,
      token.digest,
      token.role ?? null,
      token.permissions ?? null,
      token.projects === 'all' ? null : token.projects,
      token.person,
      token.createdBy,
      token.days,
    ],
  });
  const [made] = rows.map(toToken);
  if (made === undefined) throw new Error('insert returned no row');
  return made;
}

export async function selectTokens(
  database: Queryable,
  { limit, before, among }: { limit: number; before: string | undefined; among: ProjectIds },
): Promise<AccessToken[]> {
  const { rows } = await database.query<TokenRow>({
    text: `select ${columns} from keyring.api_tokens t
           where ($2::uuid is null or (t.created_at, t.id) < (
               select b.created_at, b.id from keyring.api_tokens b
               where b.id = $2 and ($3::uuid[] is null or b.project_ids <@ $3)))
             and ($3::uuid[] is null or t.project_ids <@ $3)
           order by t.created_at desc, t.id desc limit $1`,
    values: [limit, before ?? null, among === 'all' ? null : among],
  });
  return rows.map(toToken);
}

export async function selectToken(database: Queryable, id: string): Promise<AccessToken | undefined> {
  const { rows } = await database.query<TokenRow>({
    text: `select ${columns} from keyring.api_tokens t where t.id = $1`,
    values: [id],
  });
  return rows[0] && toToken(rows[0]);
}

/** By an index on a digest of random bits: how long it takes says nothing of a token. */
export async function selectTokenByDigest(database: Queryable, digest: Buffer): Promise<AccessToken | undefined> {
  const { rows } = await database.query<TokenRow>({
    text: `select ${columns} from keyring.api_tokens t where t.digest = $1`,
    values: [digest],
    name: 'access_token_by_digest',
  });
  return rows[0] && toToken(rows[0]);
}

export async function updateTokenUse(database: Queryable, id: string): Promise<void> {
  await database.query({
    text: `update keyring.api_tokens set last_used_at = clock_timestamp()
           where id = $1 and revoked_at is null
             and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 minute')`,
    values: [id],
  });
}

/** False when it was revoked before. */
export async function updateTokenRevoked(tx: Queryable, id: string, revokedBy: string): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.api_tokens set revoked_at = clock_timestamp(), revoked_by = $2
           where id = $1 and revoked_at is null`,
    values: [id, revokedBy],
  });
  return rowCount === 1;
}

function toToken(row: TokenRow): AccessToken {
  return {
    id: row.id,
    name: row.name,
    role: row.role ?? undefined,
    permissions: row.permissions ?? undefined,
    projects: row.project_ids ?? 'all',
    person: row.person,
    createdBy: row.created_by,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at ?? undefined,
    revokedAt: row.revoked_at ?? undefined,
    state: row.state,
  };
}
