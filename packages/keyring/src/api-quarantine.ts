/** Rows that do not open. Types only. */

import type { ProjectIds, QuarantinedRow } from './api.ts';

export interface QuarantineEntry extends QuarantinedRow {
  /** Grows with time; a bigint as text. */
  readonly id: string;
  readonly projectName: string;
  /** The rotation that met it last. */
  readonly rotationId: string;
  /** The secret's name. Undefined for rows of other tables, and when the row is gone. */
  readonly name: string | undefined;
}

export interface QuarantineScope {
  readonly projectId?: string;
  readonly rotationId?: string;
}

export interface QuarantineRetry {
  /** Rows that were tried again. */
  readonly tried: number;
  /** Of these, rows that open now: they have left quarantine. */
  readonly opened: number;
  /** Rows that are no longer there: they have left, too. */
  readonly gone: number;
  /** Rows that still do not open. */
  readonly unreadableRows: number;
  /** Of these, up to 1,000 by name, with the reason they have now. */
  readonly unreadable: readonly QuarantineEntry[];
  /** Blocked rotations that were resumed, because a row of theirs has left: `run` them, and they move it. */
  readonly resumed: readonly string[];
}

/** A row, as the registry and its table name it. */
export interface RowPlace {
  readonly projectId: string;
  readonly label: string;
  readonly rowId: string;
}

export interface DiscardedRow extends RowPlace {
  readonly name: string | undefined;
  readonly keyId: string;
  readonly reason: QuarantinedRow['reason'];
  /** The rotation that it blocked. */
  readonly rotationId: string;
}

/** Rows that a rotation could not open, and the ways out. */
export interface Quarantine {
  /** Oldest first; `limit` default 1,000, at most 10,000; after the entry `after`; of projects `among` (default: all). */
  list(
    options?: QuarantineScope & { readonly limit?: number; readonly after?: string; readonly among?: ProjectIds },
  ): Promise<QuarantineEntry[]>;
  /**
   * Tries quarantined rows again: all, or those of a project or a rotation. Those that open, or are gone, leave; the blocked
   * rotations that this frees are resumed. Safe to repeat at any point.
   * @throws KeyringError `unregistered_column`, `interrupted`.
   */
  retry(options?: QuarantineScope & { readonly signal?: AbortSignal }): Promise<QuarantineRetry>;
  /**
   * Deletes a row that does not open, for good, if it still holds the very bytes that do not: a concurrent edit wins. Then
   * `retry` or resume the rotation that it blocked.
   * @throws KeyringError `not_quarantined` when it is not, or the row is gone; `row_opens`; `key_disabled` and `wrong_root_key`
   *   when it is its key that is away, and can come back; `conflict` when the row keeps changing or other rows refer to it;
   *   `contended` when somebody holds it; `approval_needed` with `details.approval` where there are two admins.
   */
  discard(row: RowPlace, options: { readonly reason: string }): Promise<DiscardedRow>;
}
