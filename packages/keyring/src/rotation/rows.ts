import { KeyringError } from '../errors.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import type { SecretKey } from '../secret-bytes.ts';
import { resealer, rowOpener, tryBatch, type RowOutcome, type UnreadableReason } from './row-batch.ts';
import type { RowThreads } from './row-threads.ts';

export type { UnreadableReason } from './row-batch.ts';

/** One encrypted value as it stands in its table. */
export interface StoredRow {
  readonly id: string;
  /** Where it was when it was read, as PostgreSQL writes a `ctid`: a hint that the next change of the row makes wrong. */
  readonly place: string;
  readonly envelope: Buffer;
  readonly keyId: string;
  /** As was asked with `recentSince`: it may be met again. */
  readonly recent?: boolean;
}

/** A row that does not open: which, and why. Not its bytes: there may be many. */
export interface Unreadable {
  readonly id: string;
  readonly keyId: string;
  readonly reason: UnreadableReason;
}

export interface OpenedRow {
  readonly row: StoredRow;
  readonly plaintext: Buffer;
}

/** Opens and re-encrypts the rows of one project's column. The only place where a rotation sees plaintext. */
export class RowCrypto {
  readonly #dataKeys: DataKeys;
  readonly #projectId: string;
  readonly #label: string;
  readonly #threads: RowThreads | undefined;

  constructor(dataKeys: DataKeys, projectId: string, label: string, threads?: RowThreads) {
    this.#dataKeys = dataKeys;
    this.#projectId = projectId;
    this.#label = label;
    this.#threads = threads;
  }

  /** Opens a row under the version it names. A reason instead, when what is stored does not open; rejects for all else. */
  async open(row: StoredRow): Promise<OpenedRow | Unreadable> {
    return (await this.opener([row]))(row);
  }

  /** `open` for these rows, once the keys that they name are at hand: without a promise for each row. */
  async opener(rows: readonly StoredRow[]): Promise<(row: StoredRow) => OpenedRow | Unreadable> {
    const versions = await this.#versions(rows);
    const openers = new Map(
      [...versions].map(([keyId, key]) => [keyId, rowOpener(this.#projectId, this.#label, keyId, key)]),
    );
    return (row) => {
      const opened = openers.get(row.keyId)?.(row) ?? 'unknown_key';
      return typeof opened === 'string' ? unreadable(row, opened) : { row, plaintext: opened };
    };
  }

  /** Puts values under another version: sealed, opened again and compared before anyone stores it. Wipes the plaintext. */
  sealer(target: DataKey): (opened: OpenedRow) => Buffer {
    const reseal = resealer(this.#projectId, this.#label, target.id, target.key);
    return ({ row, plaintext }) => reseal(row.id, plaintext);
  }

  /** Opens these rows and puts them under another version, in a thread if there is one: each one's new envelope, or why it has none. */
  async reseal(rows: readonly StoredRow[], target: DataKey): Promise<(Buffer | Unreadable)[]> {
    const outcomes = await this.#try(rows, { keyId: target.id, key: target.key });
    return rows.map((row, number) => {
      const outcome = outcomes[number];
      return Buffer.isBuffer(outcome) ? outcome : unreadable(row, outcome ?? 'does_not_open');
    });
  }

  /** Opens these rows, in a thread if there is one: nothing for each that opens, or why it does not. */
  async tryOpen(rows: readonly StoredRow[]): Promise<(Unreadable | undefined)[]> {
    const outcomes = await this.#try(rows, undefined);
    return rows.map((row, number) => {
      const outcome = outcomes[number];
      return typeof outcome === 'string' ? unreadable(row, outcome) : undefined;
    });
  }

  async #try(rows: readonly StoredRow[], target: { keyId: string; key: SecretKey } | undefined): Promise<RowOutcome[]> {
    const versions = await this.#versions(rows);
    const batch = { projectId: this.#projectId, label: this.#label, rows, versions, target };
    return this.#threads === undefined ? tryBatch(batch) : this.#threads.tryBatch(batch);
  }

  async #versions(rows: readonly StoredRow[]): Promise<Map<string, SecretKey | UnreadableReason>> {
    const versions = new Map<string, SecretKey | UnreadableReason>();
    for (const { keyId } of rows) if (!versions.has(keyId)) versions.set(keyId, await this.#key(keyId));
    return versions;
  }

  async #key(keyId: string): Promise<SecretKey | UnreadableReason> {
    try {
      return (await this.#dataKeys.get(this.#projectId, keyId)).key;
    } catch (error) {
      const reason = error instanceof KeyringError ? keyTrouble[error.code] : undefined;
      if (reason === undefined) throw error;
      return reason;
    }
  }
}

/** What a key that cannot be had means for the row that names it. Anything else is trouble of ours, not of the row. */
const keyTrouble: Readonly<Partial<Record<KeyringError['code'], UnreadableReason>>> = {
  unknown_key: 'unknown_key',
  key_destroyed: 'key_unavailable',
  key_disabled: 'key_unavailable',
  decryption_failed: 'key_unavailable',
  wrong_root_key: 'key_unavailable',
};

function unreadable({ id, keyId }: Pick<StoredRow, 'id' | 'keyId'>, reason: UnreadableReason): Unreadable {
  return { id, keyId, reason };
}

export function isUnreadable(result: OpenedRow | Unreadable): result is Unreadable {
  return 'reason' in result;
}
