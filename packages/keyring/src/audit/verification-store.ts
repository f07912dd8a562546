import type { AuditLook, AuditProblem, AuditScope, AuditVerified } from '../api.ts';
import type { Queryable } from '../db/port.ts';

/** The process that verifies, and how long one may have been silent before others take over from it. */
export interface Verifying {
  readonly scope: AuditScope;
  readonly instanceId: string;
  readonly silentAfterMs: number;
}

/** What is under way, in the hands of who claimed it. */
export interface Claim {
  /** When it was begun, by whoever did: the database's time, exactly. */
  readonly begunAt: string;
  /** The note of the checkpoint up to which all was verified. */
  readonly position: string | undefined;
  /** A finding stands. */
  readonly isBroken: boolean;
}

/**
 * Takes what is under way and nobody alive is at, or begins what was not done for `everyMs`. A moment in the future counts for nothing. What
 * is new is looked at only on top of a whole verification that found nothing.
 */
export async function claimVerification(
  database: Queryable,
  { scope, instanceId, silentAfterMs }: Verifying,
  everyMs: number,
): Promise<Claim | undefined> {
  const { rows } = await database.query<{ begun_at: string; position: string | null; is_broken: boolean }>({
    text: `update keyring.audit_verifications v set verifier = $2, begun_at = coalesce(v.begun_at, now()),
             begun_after = case when v.begun_at is not null then v.begun_after end,
             position = case when v.begun_at is not null or v.scope = 'recent' then v.position end
           where v.scope = $1
             and (v.verifier is null or v.verifier = $2 or not exists (
               select from keyring.instances i
               where i.id = v.verifier and i.seen_at > now() - make_interval(secs => $4::double precision / 1000)))
             and (v.begun_at is not null or v.verified_at is null or v.verified_at > now()
               or v.verified_at <= now() - make_interval(secs => $3::double precision / 1000))
             and (v.scope = 'whole' or exists (
               select from keyring.audit_verifications w
               where w.scope = 'whole' and w.verified_at is not null and w.problem is null))
           returning v.begun_at::text, v.position, v.problem is not null as is_broken`,
    values: [scope, instanceId, everyMs, silentAfterMs],
  });
  const [row] = rows;
  return row && { begunAt: row.begun_at, position: row.position ?? undefined, isBroken: row.is_broken };
}

/** Notes how far it is. False: it is another's by now, or a finding has ended it. */
export async function notePosition(
  database: Queryable,
  { scope, instanceId }: Verifying,
  { begunAt }: Claim,
  { after, position }: { readonly after: number; readonly position: string },
): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `update keyring.audit_verifications set position = $4, begun_after = coalesce(begun_after, $5)
           where scope = $1 and verifier = $2 and begun_at = $3::timestamptz`,
    values: [scope, instanceId, begunAt, position, after],
  });
  return rowCount === 1;
}

/** Lets go of it: whoever is next goes on where it is. */
export async function releaseVerification(database: Queryable, { scope, instanceId }: Verifying): Promise<void> {
  await database.query({
    text: 'update keyring.audit_verifications set verifier = null where scope = $1 and verifier = $2',
    values: [scope, instanceId],
  });
}

/** How it ended. */
export interface Ended {
  readonly by: string;
  readonly after: number;
  readonly through: number;
  readonly position: string | undefined;
  readonly given: AuditLook['given'];
}

// What is missing at the end shows only in what knows of more: without that, nothing was found, and nothing is taken back.
const standsWithout = (given: string): string => `(problem ->> 'kind' in ('truncated', 'forked') and ${given} is null)`;

/** Ends what is under way, with nothing found. Gives the place before its first; undefined: it is another's by now. */
export async function endVerification(
  tx: Queryable,
  { scope, instanceId }: Verifying,
  { begunAt }: Claim,
  { by, after, through, position, given }: Ended,
): Promise<number | undefined> {
  const { rows } = await tx.query<{ verified_after: string }>({
    text: `update keyring.audit_verifications set verifier = null, begun_at = null, begun_after = null, position = $4,
             verified_at = now(), verified_by = $5, verified_after = coalesce(begun_after, $6), verified_through = $7, given = $8::text,
             problem = case when ${standsWithout('$8::text')} then problem end
           where scope = $1 and verifier = $2 and begun_at = $3::timestamptz returning verified_after::text`,
    values: [scope, instanceId, begunAt, position ?? null, by, after, through, given ?? null],
  });
  return rows[0] && Number(rows[0].verified_after);
}

/**
 * Notes a verification of all of it that nothing had been noted of before. A finding ends what is under way: that may have been past
 * the place already. One that stands is taken back only by a look that began after it, and knows as much.
 */
export async function noteWhole(
  tx: Queryable,
  { by, after, through, given }: Ended,
  { at, problem }: { readonly at: string; readonly problem: AuditProblem | undefined },
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.audit_verifications set verified_at = now(), verified_by = $1, verified_after = $2, verified_through = $3,
             given = $4::text, problem = $5::jsonb, verifier = case when $5::jsonb is null then verifier end,
             begun_at = case when $5::jsonb is null then begun_at end,
             begun_after = case when $5::jsonb is null then begun_after end
           where scope = 'whole' and ($5::jsonb is not null or problem is null
             or verified_at < $6::timestamptz and not ${standsWithout('$4::text')})`,
    values: [by, after, through, given ?? null, problem === undefined ? null : JSON.stringify(problem), at],
  });
  return rowCount === 1;
}

/** What is new begins behind what was verified last. It does not go back: of a chain that was cut off since, it may be all that knows. */
export async function beginRecentAt(tx: Queryable, position: string | undefined): Promise<void> {
  await tx.query({
    text: `update keyring.audit_verifications set position = $1
           where scope = 'recent'
             and coalesce(substring(position from '^[^\\n]*\\n([0-9]{1,15})\\n')::bigint, 0) <= $2::bigint`,
    values: [position ?? null, sizeOf(position ?? '')],
  });
}

/** Gives up what is under way of the new: its beginning may be what was found to be broken. */
export async function endRecent(tx: Queryable): Promise<void> {
  await tx.query({
    text: `update keyring.audit_verifications set verifier = null, begun_at = null, begun_after = null where scope = 'recent'`,
  });
}

interface Row {
  readonly scope: AuditScope;
  readonly begun_at: Date | null;
  readonly position: string | null;
  readonly verified_at: Date | null;
  readonly verified_by: string | null;
  readonly verified_after: string | null;
  readonly verified_through: string | null;
  readonly given: 'matches' | 'archived' | null;
  readonly problem: AuditProblem | null;
}

export async function selectVerified(database: Queryable): Promise<AuditVerified> {
  const { rows } = await database.query<Row>({
    text: `select v.scope, v.begun_at, v.position, v.verified_at, v.verified_by, v.verified_after::text, v.verified_through::text,
             v.given, v.problem from keyring.audit_verifications v`,
  });
  const whole = rows.find(({ scope }) => scope === 'whole');
  const recent = rows.find(({ scope }) => scope === 'recent');
  const begunAt = whole?.begun_at ?? undefined;
  return {
    whole: whole && lookOf(whole),
    recent: recent && lookOf(recent),
    underWay: begunAt && { begunAt, through: sizeOf(whole?.position ?? '') },
  };
}

function lookOf(row: Row): AuditLook | undefined {
  if (row.verified_at === null) return undefined;
  const { place, after, entryId, ...problem } = row.problem ?? {};
  return {
    at: row.verified_at,
    by: row.verified_by ?? '',
    after: Number(row.verified_after ?? 0),
    through: Number(row.verified_through ?? 0),
    given: row.given ?? undefined,
    // JSON leaves out what is undefined.
    problem: row.problem === null ? undefined : ({ ...problem, place, after, entryId } as AuditProblem),
  };
}

function sizeOf(note: string): number {
  return Number(note.split('\n')[1] ?? 0);
}
