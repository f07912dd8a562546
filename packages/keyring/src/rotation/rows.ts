import { secretAadBuilder } from '../envelope/aad.ts';
import { parseEnvelope, uuidFromBytes } from '../envelope/format.ts';
import { opener, sealer } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import type { QuarantinedRow } from '../api.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import { equalBytes, wipe } from '../secret-bytes.ts';

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

export type UnreadableReason = QuarantinedRow['reason'];

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

interface Version {
  readonly open: (envelope: Uint8Array, aad: Uint8Array) => Buffer;
  readonly aad: (rowId: string) => Uint8Array;
}

/** Opens and re-encrypts the rows of one project's column. The only place where a rotation sees plaintext. */
export class RowCrypto {
  readonly #dataKeys: DataKeys;
  readonly #projectId: string;
  readonly #label: string;

  constructor(dataKeys: DataKeys, projectId: string, label: string) {
    this.#dataKeys = dataKeys;
    this.#projectId = projectId;
    this.#label = label;
  }

  /** Opens a row under the version it names. A reason instead, when what is stored does not open; rejects for all else. */
  async open(row: StoredRow): Promise<OpenedRow | Unreadable> {
    return (await this.opener([row]))(row);
  }

  /** `open` for these rows, once the keys that they name are at hand: without a promise for each row. */
  async opener(rows: readonly StoredRow[]): Promise<(row: StoredRow) => OpenedRow | Unreadable> {
    const versions = new Map<string, Version | UnreadableReason>();
    for (const { keyId } of rows) if (!versions.has(keyId)) versions.set(keyId, await this.#version(keyId));
    return (row) => openRow(row, versions.get(row.keyId) ?? 'unknown_key');
  }

  /** Puts values under another version: sealed, opened again and compared before anyone stores it. Wipes the plaintext. */
  sealer(target: DataKey): (opened: OpenedRow) => Buffer {
    const buildAad = secretAadBuilder(this.#projectId, this.#label, target.id);
    const seal = sealer(target.key, target.id);
    const openAgain = opener(target.key, target.id);
    return ({ row, plaintext }) => {
      const aad = buildAad(row.id);
      try {
        const envelope = seal(plaintext, aad);
        const again = openAgain(envelope, aad);
        const same = equalBytes(again, plaintext);
        wipe(again);
        if (!same) throw new KeyringError('internal', 'A re-encrypted value did not read back as itself.');
        return envelope;
      } finally {
        wipe(plaintext);
      }
    };
  }

  async #version(keyId: string): Promise<Version | UnreadableReason> {
    try {
      const key = await this.#dataKeys.get(this.#projectId, keyId);
      return { open: opener(key.key, key.id), aad: secretAadBuilder(this.#projectId, this.#label, keyId) };
    } catch (error) {
      const reason = error instanceof KeyringError ? keyTrouble[error.code] : undefined;
      if (reason === undefined) throw error;
      return reason;
    }
  }
}

function openRow(row: StoredRow, version: Version | UnreadableReason): OpenedRow | Unreadable {
  if (typeof version === 'string') return unreadable(row, namesItsKey(row) ? version : 'malformed');
  try {
    return { row, plaintext: version.open(row.envelope, version.aad(row.id)) };
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    // `invalid_argument`: its id cannot be in any associated data, so nothing was ever sealed there. Opening says no more than
    // that it failed; which of the two it was is looked at only then.
    const wellFormed = error.code === 'decryption_failed' && namesItsKey(row);
    return unreadable(row, wellFormed ? 'does_not_open' : 'malformed');
  }
}

/** Is what is stored an envelope, and of the version beside it? */
function namesItsKey({ envelope, keyId }: StoredRow): boolean {
  try {
    return uuidFromBytes(parseEnvelope(envelope).keyId) === keyId;
  } catch (error) {
    if (error instanceof KeyringError) return false;
    throw error;
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

function unreadable({ id, keyId }: StoredRow, reason: UnreadableReason): Unreadable {
  return { id, keyId, reason };
}

export function isUnreadable(result: OpenedRow | Unreadable): result is Unreadable {
  return 'reason' in result;
}
