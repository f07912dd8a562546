/** Who may do what: tokens, grants, sessions, and the rule of two people. Types only. */

import type { Permission, Role } from './access/roles.ts';
import type { DoctorFinding, ProjectIds } from './api.ts';

export interface Access {
  readonly tokens: AccessTokens;
  readonly grants: Grants;
  readonly approvals: Approvals;
  readonly sessions: Sessions;
  /**
   * What a person holds: by grants, `user:…` also as the owner of projects, `operator` as who has a shell. A user's projects are
   * read under that user's own identity in PostgreSQL, so that the policies of `public.projects` decide.
   */
  holdings(person: string): Promise<Holding[]>;
  /** The rule of two people, as it is now. */
  rule(): Promise<TwoPersonRule>;
  /**
   * Wants the rule, or wants it no more. To switch it off while it is in force takes two people.
   * @throws KeyringError `approval_needed` with `details.approval`.
   */
  setRule(twoPeople: boolean, options: { readonly reason: string }): Promise<TwoPersonRule>;
  /** Writes down tries to get in that were refused, many at once. */
  noteRefused(refused: RefusedTries): Promise<void>;
  /** What is wrong with who may do what, until it is mended: as that there is no second admin. */
  warnings(): Promise<DoctorFinding[]>;
}

export interface RefusedTries {
  readonly tries: number;
  /** Up to 20. */
  readonly sources: readonly { readonly address: string; readonly tries: number }[];
}

/** Some permissions, somewhere. */
export interface Holding {
  /** Undefined: chosen one by one. */
  readonly role: Role | undefined;
  readonly permissions: readonly Permission[];
  readonly projects: ProjectIds;
}

// ── API tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────

export type GrantableRole = Exclude<Role, 'project_owner'>;

export interface AccessToken {
  readonly id: string;
  readonly name: string;
  readonly role: GrantableRole | undefined;
  readonly permissions: readonly Permission[] | undefined;
  readonly projects: ProjectIds;
  /** Who is answerable for it. */
  readonly person: string;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  /** To the minute. */
  readonly lastUsedAt: Date | undefined;
  readonly revokedAt: Date | undefined;
  readonly state: 'active' | 'expired' | 'revoked';
}

export interface NewToken {
  /** 1 to 200 characters. */
  readonly name: string;
  /** Exactly one of `role` and `permissions`. */
  readonly role?: GrantableRole;
  readonly permissions?: readonly Permission[];
  /** Ids; 1 to 1,000 of them. Default: all. */
  readonly projects?: ProjectIds;
  /** 1 to 3,650. Default 90. */
  readonly expiresInDays?: number;
  /** Who is answerable for it: over HTTP it does no more than that person may by now. Default: the person who makes it. */
  readonly person?: string;
}

export interface AccessTokens {
  /** Makes a token. It is in the answer and nowhere else: only its SHA-256 is kept. */
  create(token: NewToken): Promise<{ readonly token: string; readonly entry: AccessToken }>;
  /** Newest first; `limit` default 100, at most 1,000; before the token `before`; only those whose projects are all `among`. */
  list(options?: {
    readonly limit?: number;
    readonly before?: string;
    readonly among?: ProjectIds;
  }): Promise<AccessToken[]>;
  get(id: string): Promise<AccessToken | undefined>;
  /** From this moment nobody gets in with it. No effect on one that is revoked. @throws KeyringError `unknown_token`. */
  revoke(id: string): Promise<AccessToken>;
  /** The token that was presented, if it is one, neither expired nor revoked. Notes its use, at most once a minute. */
  find(presented: string): Promise<AccessToken | undefined>;
}

// ── grants ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Grant {
  readonly id: string;
  /** `user:ID` of Supabase Auth, `person:NAME`, or `operator`. */
  readonly person: string;
  readonly role: GrantableRole;
  /** Undefined: in the whole instance. */
  readonly projectId: string | undefined;
  readonly reason: string | undefined;
  readonly grantedBy: string;
  readonly grantedAt: Date;
}

/** Where a grant is in the list of them: there are no two alike. */
export type GrantPosition = Pick<Grant, 'person' | 'role' | 'projectId'>;

export interface NewGrant {
  readonly person: string;
  readonly role: GrantableRole;
  /** Without it: in the whole instance. An `instance_admin` is always that. */
  readonly projectId?: string;
  readonly reason?: string;
}

export interface Grants {
  /**
   * No effect when there is such a grant.
   * @throws KeyringError `unknown_project`; `approval_needed` for another admin while the rule of two people is in force.
   */
  add(grant: NewGrant): Promise<Grant>;
  /**
   * By person, role and project, those in the whole instance last; `limit` default 1,000, at most 10,000; after the grant `after`, which
   * may be gone by now; only those in projects `among`.
   */
  list(options?: {
    readonly limit?: number;
    readonly among?: ProjectIds;
    readonly after?: GrantPosition;
  }): Promise<Grant[]>;
  get(id: string): Promise<Grant | undefined>;
  /** @throws KeyringError `unknown_grant`; `approval_needed` for an admin without whom the rule of two people would end. */
  remove(id: string, options?: { readonly reason?: string }): Promise<Grant>;
}

// ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Session {
  readonly id: string;
  readonly person: string;
  readonly createdAt: Date;
  /** The latest; idle for an hour, it ends before. */
  readonly expiresAt: Date;
}

export interface Sessions {
  /** A link's secret: good once, for ten minutes. `person` is `operator` by default. */
  createLink(options?: { readonly person?: string }): Promise<{ readonly secret: string; readonly expiresAt: Date }>;
  /** A new session for a link's secret, once; undefined for anything else. `secret` is what a cookie holds. */
  open(linkSecret: string): Promise<{ readonly secret: string; readonly session: Session } | undefined>;
  /** The session with this secret, if it has not ended. Notes that it was seen, at most once a minute, unless `seen` is false. */
  find(secret: string, options?: { readonly seen?: boolean }): Promise<Session | undefined>;
  /** Ends it at once. No effect when there is none. */
  end(secret: string): Promise<void>;
}

// ── the rule of two people ──────────────────────────────────────────────────────────────────────────────────────────

export interface TwoPersonRule {
  readonly wanted: boolean;
  /** Persons who are instance admins by a grant. */
  readonly admins: number;
  /** Wanted, and there are two. */
  readonly inForce: boolean;
}

export type ApprovalAction =
  'key.destroy_early' | 'retention.shorten' | 'quarantine.discard' | 'admin.grant' | 'admin.remove' | 'rule.switch_off';

/** An act that cannot be undone: what, to what, and why. */
export interface ApprovableAct {
  readonly action: ApprovalAction;
  /** As `kind:id`. An approval is for this and nothing else. */
  readonly subject: string;
  readonly projectId?: string | undefined;
  readonly reason?: string | undefined;
}

export interface Approval {
  readonly id: string;
  readonly action: ApprovalAction;
  readonly subject: string;
  readonly projectId: string | undefined;
  readonly reason: string | undefined;
  /** `waived`: done when there was no second admin. */
  readonly state: 'pending' | 'approved' | 'rejected' | 'expired' | 'consumed' | 'waived';
  readonly requestedBy: string;
  /** The person who asked, and who alone may then act. */
  readonly requester: string;
  readonly requestedAt: Date;
  readonly expiresAt: Date;
  readonly decidedBy: string | undefined;
  readonly decidedAt: Date | undefined;
  readonly consumedAt: Date | undefined;
}

export interface Approvals {
  /** Asks for one; the act itself does so, too. The same open request again is the same approval. */
  request(act: ApprovableAct): Promise<Approval>;
  /** Newest first; `limit` default 100, at most 1,000; before the approval `before`; `open`: only what can still be decided or done. */
  list(options?: { readonly limit?: number; readonly open?: boolean; readonly before?: string }): Promise<Approval[]>;
  /** How many can still be decided or done. */
  countOpen(): Promise<number>;
  get(id: string): Promise<Approval | undefined>;
  /**
   * The requester may act from now on, once, within 24 hours of asking.
   * @throws KeyringError `unknown_approval`; `forbidden` for who asked, whichever token it was, and for who is no admin by a grant;
   *   `illegal_state` for one that is decided or expired.
   */
  approve(id: string): Promise<Approval>;
  /** Also by who asked. @throws KeyringError `unknown_approval`, `illegal_state`. */
  reject(id: string): Promise<Approval>;
}
