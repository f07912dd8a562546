import type { Actor, AuditEntry } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import { requireActor } from './actor.ts';
import { insertEntries, insertEntry } from './store.ts';

/** What somebody did, before it has a place and a time. `details` never holds a value or key bytes. */
export interface NewAuditEntry {
  readonly action: string;
  readonly outcome?: AuditEntry['outcome'];
  readonly projectId?: string | undefined;
  readonly subject: string;
  readonly reason?: string | undefined;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Writes entries in the name of one actor, each in the transaction of what it records. */
export interface AuditTrail {
  readonly actor: Actor;
  record(tx: Queryable, entry: NewAuditEntry): Promise<void>;
  /** The same for many, in their order, by one statement. */
  recordAll(tx: Queryable, entries: readonly NewAuditEntry[]): Promise<void>;
}

export function auditTrail(given: string | Actor): AuditTrail {
  const actor = requireActor(given);
  return {
    actor,
    record: (tx, entry) => insertEntry(tx, actor, entry),
    recordAll: (tx, entries) => insertEntries(tx, actor, entries),
  };
}
