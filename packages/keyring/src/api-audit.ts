/** The trail, as `openKeyring` gives it. Places in the chain count from 1; ids of entries are bigints as text. */

import type { Database } from './db/port.ts';

/** What somebody who acts is, for the trail. */
export type PrincipalKind = 'user' | 'token' | 'session' | 'cli' | 'service' | 'worker' | 'system';

/** Who acts, for the trail. */
export interface Actor {
  /** 1 to 200 characters: `ada@laptop`, `deploy`, a user's id. Never a credential. */
  readonly name: string;
  readonly kind: PrincipalKind;
  /** Where the request came from: an IP address, 1 to 100 characters. */
  readonly address?: string;
  /** Who is answerable, for the rule of two people: what one person's tokens do, that person does. Default: the name. */
  readonly person?: string;
}

export interface AuditEntry {
  /** Grows with time; a bigint as text. */
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  /** Undefined: written before kinds were, or by the database itself. */
  readonly kind: PrincipalKind | undefined;
  /** Where the request came from, as far as it was told. */
  readonly address: string | undefined;
  /** As `rotation.completed`: docs/audit.md has them all. */
  readonly action: string;
  readonly outcome: 'succeeded' | 'failed' | 'refused';
  readonly projectId: string | undefined;
  /** What it was done to, as `kind:id`. */
  readonly subject: string;
  readonly reason: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
}

/** All that is given has to hold. */
export interface AuditFilter {
  readonly projectId?: string;
  /** One of several projects: what somebody may see who may not see everything. */
  readonly projectIds?: readonly string[];
  readonly actor?: string;
  readonly kind?: PrincipalKind;
  /** `key.destroyed`, or all of a kind: `key.*`. */
  readonly action?: string;
  readonly outcome?: AuditEntry['outcome'];
  readonly subject?: string;
  /** Inclusive. */
  readonly since?: Date;
  /** Exclusive. */
  readonly until?: Date;
}

/** How long the chain was, and its head, signed: a C2SP signed note. */
export interface AuditCheckpoint {
  /** Entries that have their place. */
  readonly size: number;
  /** Of the chain's head, base64. */
  readonly hash: string;
  /** Every entry up to this id has its place. */
  readonly floor: string;
  readonly signedAt: Date;
  /** The note itself, text. Keep it where nobody who can change the database can change it. */
  readonly note: string;
}

export interface AuditSealing {
  /** Entries that got their place by this call. */
  readonly sealed: number;
  /** The newest one, if this call signed one. */
  readonly checkpoint: AuditCheckpoint | undefined;
  /** There is more to seal: call again at once. */
  readonly more: boolean;
  /** Another process was at it. */
  readonly busy: boolean;
}

/** The first thing that is not as it was written. */
export interface AuditProblem {
  /**
   * `altered`: an entry (or its seal) says something else. `removed`, `inserted`, `reordered`: entries, or seals. `truncated`: from
   * here to the end, all is gone. `rewritten`: entries and seals agree with each other, and not with what was signed: something between
   * `after` and `place`. `forked`: what was given, and this chain, were both signed by us, and differ behind `after`, as far as the times in
   * them tell: an older state was restored and went on. `checkpoint`: a checkpoint, or the key it names, is not the one that was made.
   */
  readonly kind: 'altered' | 'removed' | 'inserted' | 'reordered' | 'truncated' | 'rewritten' | 'forked' | 'checkpoint';
  readonly place: number | undefined;
  /** For `rewritten` and `forked`: up to this place all is as it was. */
  readonly after: number | undefined;
  readonly entryId: string | undefined;
  /** One sentence for a person, without details of entries. */
  readonly message: string;
}

export interface AuditVerification {
  /** No problem was found. Says nothing about entries that have no place yet. */
  readonly intact: boolean;
  readonly problem: AuditProblem | undefined;
  /** Entries that were hashed again. */
  readonly entries: number;
  /** Entries that went into archives before. */
  readonly archived: number;
  /** Signatures that were checked. */
  readonly checkpoints: number;
  /** The newest one in the database. */
  readonly checkpoint: AuditCheckpoint | undefined;
  /** What was given: `matches`, or `archived` when it is of a range that is in an archive by now. Undefined: none was. */
  readonly given: 'matches' | 'archived' | undefined;
  /** What a superuser could still change without being found out. */
  readonly unsealed: AuditUnsealed;
}

export interface AuditUnsealed {
  readonly entries: number;
  readonly oldestAt: Date | undefined;
}

/** What workers look at by themselves: what is new since, or all of it. */
export type AuditScope = 'recent' | 'whole';

/** A verification that ended. */
export interface AuditLook {
  readonly at: Date;
  readonly by: string;
  /** The place before the first that was looked at: what is before was not. */
  readonly after: number;
  /** The last place that was. */
  readonly through: number;
  /** What became of the checkpoint that was kept outside the database, as in `AuditVerification`. Undefined: there was none. */
  readonly given: AuditVerification['given'];
  /**
   * What was found. It stands until a verification of all of it finds nothing: of entries missing at the end, and of a fork, one with a
   * checkpoint from outside.
   */
  readonly problem: AuditProblem | undefined;
}

export interface AuditVerified {
  /** The last of all of it, by a worker or by hand. Undefined: there was none. */
  readonly whole: AuditLook | undefined;
  /** The last of what was new, by a worker. A finding is one of all of it. */
  readonly recent: AuditLook | undefined;
  /** Of all of it, by a worker: when it was begun, and up to which place it is. */
  readonly underWay: { readonly begunAt: Date; readonly through: number } | undefined;
}

export interface VerifyDueOptions {
  /** Nothing is due that was verified within this, in milliseconds. */
  readonly everyMs: number;
  /** Of the time, in percent, 1 to 100: between parts it rests. What is found is looked at again at full speed. */
  readonly share: number;
  /** Reads the checkpoint that is kept outside the database: the text of the note. Undefined: there is none. */
  readonly checkpoint?: (() => Promise<string | undefined>) | undefined;
  readonly signal?: AbortSignal;
}

export interface AuditHealth {
  readonly unsealed: AuditUnsealed;
  /** Age of the oldest entry without a place. 0: none. */
  readonly lagSeconds: number;
  readonly size: number;
  readonly lastCheckpointAt: Date | undefined;
  /** What was verified last, and what stands. */
  readonly verified: AuditVerified;
}

export interface VerifyAuditOptions {
  /** A checkpoint that was kept outside the database: the text of the note. */
  readonly checkpoint?: string;
  readonly signal?: AbortSignal;
  /** Called a few times a second at most. */
  readonly onProgress?: (entries: number) => void;
}

export interface ArchiveAuditOptions {
  /** Entries that were sealed before this. */
  readonly before: Date;
  readonly reason: string;
  /** Takes the file's text and resolves when it is safe: only then is anything removed. */
  readonly write: (text: AsyncIterable<string>) => Promise<void>;
  /** Connections as a member of `keyring_owner`, who alone may: the login that migrates. */
  readonly owner: Database;
  readonly signal?: AbortSignal;
}

export interface ArchivedAudit {
  readonly from: number;
  /** The last place that is in the file. */
  readonly through: number;
  /** Entries that were removed. */
  readonly entries: number;
  readonly fileSha256: string;
  /** What says so, signed. */
  readonly note: string;
}

export interface VerifiedArchive {
  readonly installation: string;
  readonly from: number;
  readonly through: number;
  readonly entries: number;
  /** The head of the chain before it, base64: the hash of the checkpoint that the archive before ends with. */
  readonly start: string;
  readonly checkpoint: AuditCheckpoint;
}

export interface Audit {
  /** Newest first; `limit` default 100, at most 1,000; older than the entry `before`. */
  list(options?: AuditFilter & { readonly limit?: number; readonly before?: string }): Promise<AuditEntry[]>;
  /** The oldest first, read as they are taken: any number, in little memory. */
  export(filter?: AuditFilter): AsyncIterable<AuditEntry>;
  /**
   * Gives entries that have none their place in the chain, and signs a checkpoint: up to 10,000 a call, in one short transaction. Any
   * process may, at any time; one at a time does.
   * @throws KeyringError `audit_broken` when the end of the chain is not what was signed: nothing is built on it.
   */
  seal(): Promise<AuditSealing>;
  /** The newest checkpoint. Undefined: nothing was sealed yet. */
  checkpoint(): Promise<AuditCheckpoint | undefined>;
  /**
   * Is a checkpoint one of ours, and the chain still what it says, at its place? Reads one row. True for one of a range that was
   * archived.
   */
  holds(note: string): Promise<boolean>;
  /** Whether the last checkpoint could be kept outside the database by this process: for monitoring. */
  keptOutside(kept: boolean): void;
  /**
   * Hashes every entry again, checks every signature, and names the first thing that is not as it was written. Reads one
   * snapshot, in little memory. What it came to is noted, so that all see it, where the database takes notes.
   * @throws KeyringError `invalid_argument` when the given checkpoint is none of this installation; `interrupted`.
   */
  verify(options?: VerifyAuditOptions): Promise<AuditVerification>;
  /**
   * Writes whole ranges, up to the last checkpoint before a moment, and removes them: what remains still verifies, and so does the
   * file. An entry of its own, `audit.archived`, says who did it and why.
   * @throws KeyringError `illegal_state` when there is nothing to archive; `audit_broken` for a range that is not as it was sealed;
   *   `database_refused` when `owner` may not.
   */
  archive(options: ArchiveAuditOptions): Promise<ArchivedAudit>;
  /**
   * Hashes an archive again and checks its signature by the keys of this installation.
   * @throws KeyringError `audit_broken` naming the place; `invalid_argument`.
   */
  verifyArchive(lines: AsyncIterable<string>): Promise<VerifiedArchive>;
  /**
   * Verifies what nobody asked for: all of it from time to time, and what is new since, more often, on top of one of all that found
   * nothing. One process at a time; another goes on where one stopped, or died. What is found is verified again as a whole, noted, and an
   * entry, `audit.verified`; so is one of all of it that finds nothing.
   * @returns undefined when nothing is due, or another process is at it.
   * @throws KeyringError `interrupted`: whoever is next goes on from there.
   */
  verifyDue(scope: AuditScope, options: VerifyDueOptions): Promise<AuditLook | undefined>;
  /** What was verified last, and what stands. */
  verified(): Promise<AuditVerified>;
  /** How far behind sealing is, and what was verified. */
  health(): Promise<AuditHealth>;
}
