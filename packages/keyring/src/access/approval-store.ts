import type { ApprovableAct, Approval, TwoPersonRule } from '../api.ts';
import type { Queryable } from '../db/port.ts';

interface ApprovalRow {
  readonly id: string;
  readonly action: Approval['action'];
  readonly subject: string;
  readonly project_id: string | null;
  readonly reason: string | null;
  readonly state: Approval['state'];
  readonly requested_by: string;
  readonly requester: string;
  readonly requested_at: Date;
  readonly expires_at: Date;
  readonly decided_by: string | null;
  readonly decided_at: Date | null;
  readonly consumed_at: Date | null;
}

const columns = `a.id, a.action, a.subject, a.project_id, a.reason,
  case when a.state in ('pending', 'approved') and a.expires_at <= clock_timestamp() then 'expired' else a.state end as state,
  a.requested_by, a.requester, a.requested_at, a.expires_at, a.decided_by, a.decided_at, a.consumed_at`;

const isOpen = `a.state in ('pending', 'approved') and a.expires_at > clock_timestamp()`;

/** Who acts: the actor's name, and the person behind it. */
export interface Who {
  readonly name: string;
  readonly person: string;
}

/** Requests of this person for this that ran out, to make room for another. */
export async function closeExpired(tx: Queryable, { action, subject }: ApprovableAct, { person }: Who): Promise<void> {
  await tx.query({
    text: `update keyring.approvals set state = 'rejected'
           where action = $1 and subject = $2 and requester = $3 and state in ('pending', 'approved')
             and expires_at <= clock_timestamp()`,
    values: [action, subject, person],
  });
}

/** `waived`: done and over with the transaction. Undefined when there is such an open request. */
export async function insertApproval(
  tx: Queryable,
  state: 'pending' | 'waived',
  { action, subject, projectId, reason }: ApprovableAct,
  { name, person }: Who,
): Promise<Approval | undefined> {
  const { rows } = await tx.query<ApprovalRow>({
    text: `insert into keyring.approvals as a (action, subject, project_id, reason, state, requested_by, requester)
           values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning ${columns}`,
    values: [action, subject, projectId ?? null, reason ?? null, state, name, person],
  });
  return rows[0] && toApproval(rows[0]);
}

export async function selectOpenApproval(
  database: Queryable,
  { action, subject }: ApprovableAct,
  { person }: Who,
): Promise<Approval | undefined> {
  const { rows } = await database.query<ApprovalRow>({
    text: `select ${columns} from keyring.approvals a
           where a.action = $1 and a.subject = $2 and a.requester = $3 and a.state in ('pending', 'approved')`,
    values: [action, subject, person],
  });
  return rows[0] && toApproval(rows[0]);
}

export async function selectApproval(database: Queryable, id: string): Promise<Approval | undefined> {
  const { rows } = await database.query<ApprovalRow>({
    text: `select ${columns} from keyring.approvals a where a.id = $1`,
    values: [id],
  });
  return rows[0] && toApproval(rows[0]);
}

export async function selectApprovals(
  database: Queryable,
  { limit, open, before }: { limit: number; open: boolean; before: string | undefined },
): Promise<Approval[]> {
  const { rows } = await database.query<ApprovalRow>({
    text: `select ${columns} from keyring.approvals a
           where (not $2 or ${isOpen})
             and ($3::uuid is null or (a.requested_at, a.id) < (
               select b.requested_at, b.id from keyring.approvals b where b.id = $3))
           order by a.requested_at desc, a.id desc limit $1`,
    values: [limit, open, before ?? null],
  });
  return rows.map(toApproval);
}

export async function countOpenApprovals(database: Queryable): Promise<number> {
  const { rows } = await database.query<{ open: number }>({
    text: `select count(*)::int as open from keyring.approvals a where ${isOpen}`,
  });
  return rows[0]?.open ?? 0;
}

/** False when it was decided, or expired, before. */
export async function decideApproval(
  tx: Queryable,
  id: string,
  state: 'approved' | 'rejected',
  { name, person }: Who,
): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: `update keyring.approvals set state = $2, decided_by = $3, decider = $4
           where id = $1 and state = 'pending' and expires_at > clock_timestamp()`,
    values: [id, state, name, person],
  });
  return rowCount === 1;
}

/** By compare-and-set: of two acts, one gets it. Undefined when there is none. */
export async function consumeApproved(
  tx: Queryable,
  { action, subject }: ApprovableAct,
  { person }: Who,
): Promise<string | undefined> {
  const { rows } = await tx.query<{ id: string }>({
    text: `update keyring.approvals a set state = 'consumed'
           where a.action = $1 and a.subject = $2 and a.requester = $3 and a.state = 'approved'
             and a.expires_at > clock_timestamp()
             and exists (select from keyring.grants g where g.role = 'instance_admin' and g.person = a.decider)
           returning a.id`,
    values: [action, subject, person],
  });
  return rows[0]?.id;
}

export async function selectRule(database: Queryable): Promise<TwoPersonRule> {
  const { rows } = await database.query<{ wanted: boolean; admins: number; in_force: boolean }>({
    text: `select s.two_people as wanted, keyring.two_person_rule() as in_force,
             (select count(distinct g.person) from keyring.grants g where g.role = 'instance_admin')::int as admins
           from keyring.access_settings s`,
  });
  const [{ wanted, admins, in_force: inForce }] = rows as [(typeof rows)[0]];
  return { wanted, admins, inForce };
}

/** False when it is so already. */
export async function updateRule(tx: Queryable, twoPeople: boolean): Promise<boolean> {
  const { rowCount } = await tx.query({
    text: 'update keyring.access_settings set two_people = $1 where two_people <> $1',
    values: [twoPeople],
  });
  return rowCount === 1;
}

export async function isAdmin(database: Queryable, person: string): Promise<boolean> {
  const { rowCount } = await database.query({
    text: `select from keyring.grants g where g.role = 'instance_admin' and g.person = $1`,
    values: [person],
  });
  return rowCount > 0;
}

function toApproval(row: ApprovalRow): Approval {
  return {
    id: row.id,
    action: row.action,
    subject: row.subject,
    projectId: row.project_id ?? undefined,
    reason: row.reason ?? undefined,
    state: row.state,
    requestedBy: row.requested_by,
    requester: row.requester,
    requestedAt: row.requested_at,
    expiresAt: row.expires_at,
    decidedBy: row.decided_by ?? undefined,
    decidedAt: row.decided_at ?? undefined,
    consumedAt: row.consumed_at ?? undefined,
  };
}
