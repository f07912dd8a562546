import { secretAadBuilder } from '../envelope/aad.ts';
import { parseEnvelope, uuidFromBytes } from '../envelope/format.ts';
import { open, seal } from '../envelope/seal.ts';
import { KeyringError } from '../errors.ts';
import type { QuarantinedRow } from '../api.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { DataKey } from '../keyring/key-cache.ts';
import { equalBytes, wipe } from '../secret-bytes.ts';

/** One encrypted value as it stands in its table. */
export interface StoredRow {
  readonly id: string;
  readonly envelope: Buffer;
  readonly keyId: string;
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

/** Opens and re-encrypts the rows of one project's column. The only place where a rotation sees plaintext. */
export class RowCrypto {
  readonly #dataKeys: DataKeys;
  readonly #projectId: string;
  readonly #label: string;
  readonly #aads = new Map<string, (rowId: string) => Uint8Array>();

  constructor(dataKeys: DataKeys, projectId: string, label: string) {
    this.#dataKeys = dataKeys;
    this.#projectId = projectId;
    this.#label = label;
  }

  /** Opens a row under the version it names. A reason instead, when what is stored does not open; rejects for all else. */
  async open(row: StoredRow): Promise<OpenedRow | Unreadable> {
    try {
      if (uuidFromBytes(parseEnvelope(row.envelope).keyId) !== row.keyId) return unreadable(row, 'malformed');
    } catch (error) {
      if (error instanceof KeyringError) return unreadable(row, 'malformed');
      throw error;
    }
    let key: DataKey;
    try {
      key = await this.#dataKeys.get(this.#projectId, row.keyId);
    } catch (error) {
      const reason = error instanceof KeyringError ? keyTrouble[error.code] : undefined;
      if (reason === undefined) throw error;
      return unreadable(row, reason);
    }
    try {
      return { row, plaintext: open(key.key, key.id, row.envelope, this.#aad(key.id, row.id)) };
    } catch (error) {
      // `invalid_argument`: its id cannot be in any associated data, so nothing was ever sealed there.
      if (error instanceof KeyringError) {
        return unreadable(row, error.code === 'decryption_failed' ? 'does_not_open' : 'malformed');
      }
      throw error;
    }
  }

  /** The same value under another version, opened again and compared before anyone stores it. Wipes the plaintext. */
  reseal({ row, plaintext }: OpenedRow, target: DataKey): Buffer {
    const aad = this.#aad(target.id, row.id);
    try {
      const envelope = seal(target.key, target.id, plaintext, aad);
      const again = open(target.key, target.id, envelope, aad);
      const same = equalBytes(again, plaintext);
      wipe(again);
      if (!same) throw new KeyringError('internal', 'A re-encrypted value did not read back as itself.');
      return envelope;
    } finally {
      wipe(plaintext);
    }
  }

  #aad(keyId: string, rowId: string): Uint8Array {
    let build = this.#aads.get(keyId);
    if (build === undefined) this.#aads.set(keyId, (build = secretAadBuilder(this.#projectId, this.#label, keyId)));
    return build(rowId);
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
