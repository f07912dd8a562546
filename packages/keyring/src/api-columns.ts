import type { AdoptOptions, AdoptReport } from './api.ts';

/** An encrypted column of a table of yours, as `keyring.register_encrypted_column` registered it. */
export interface EncryptedColumnEntry {
  /** Its name for ever: part of the associated data of each of its values. */
  readonly label: string;
  /** With its schema, quoted where it has to be. So are the columns. */
  readonly table: string;
  readonly rowIdColumn: string;
  /** As PostgreSQL writes it: `uuid`, `bigint`, `character varying(20)`. */
  readonly rowIdType: string;
  readonly projectColumn: string;
  readonly ciphertextColumn: string;
  readonly keyIdColumn: string;
  /** Its adoption is not finished: a row may still hold a value without a key. */
  readonly acceptsPlaintext: boolean;
}

/** Where a value is: the row's project, and its id as a number or as PostgreSQL prints it. */
export interface ColumnRow {
  readonly projectId: string;
  readonly rowId: string | number | bigint;
}

/** What goes into the two columns of a row, in one statement. Good for this row, and for no other. */
export interface SealedValue {
  readonly envelope: Buffer;
  readonly keyId: string;
}

/** A value that was opened. Prints redacted; it is reached only by naming `value` or `bytes`. */
export interface OpenedValue {
  readonly label: string;
  readonly rowId: string;
  /** The value as UTF-8 text. */
  readonly value: string;
  /** The value as it was stored. Yours: overwrite it when you are done. */
  readonly bytes: Buffer;
  readonly keyId: string;
}

/**
 * Values in columns of your own tables, registered by their labels. They are rotated with the secrets. Every method that takes a label rejects
 * with `unregistered_column` when there is none of that name, and with `invalid_argument` for a row id that no row of the table can
 * have, or that PostgreSQL would print otherwise.
 */
export interface EncryptedColumns {
  /** All of them, by label. */
  list(): Promise<EncryptedColumnEntry[]>;
  /**
   * Encrypts and stores a value in a row that is there, with an entry in the trail (`row.written`). Retries by itself when a promote comes
   * between. Values are 1 to 65,536 bytes.
   * @throws KeyringError `unknown_secret` when there is no such row, `invalid_value`, `contended` when retries ran out.
   */
  set(label: string, row: ColumnRow, value: string | Uint8Array): Promise<{ readonly keyId: string }>;
  /**
   * Reads and opens; undefined when there is no such row, or no value in it.
   * @throws KeyringError `decryption_failed`; `key_destroyed` naming the version; `illegal_state` for a plaintext row.
   */
  get(label: string, row: ColumnRow): Promise<OpenedValue | undefined>;
  /**
   * Encrypts a value for a statement of your own, as an insert with all that a row needs, and calls `write` with what belongs in its two
   * columns. When PostgreSQL refuses because the key was rotated meanwhile, `write` is called again with the value under the new
   * version: let it be one statement, or a transaction from its beginning to its end. What it returns is returned; every other
   * error of it is passed on. The trail is not told: your statement is the record.
   * @throws KeyringError `unknown_project`, `invalid_value`, `contended` when retries ran out.
   */
  store<T>(
    label: string,
    row: ColumnRow,
    value: string | Uint8Array,
    write: (sealed: SealedValue) => Promise<T>,
  ): Promise<T>;
  /**
   * Opens what a statement of your own has read. A row can be moved to another version and its old one destroyed between your reading and
   * this: after `key_destroyed` or `key_disabled`, read it again.
   * @throws KeyringError `decryption_failed`, for every ciphertext that is not this row's; `key_destroyed`; `key_disabled`.
   */
  open(label: string, row: ColumnRow, envelope: Uint8Array): Promise<OpenedValue>;
  /** Encrypts rows from before the column was registered, online and resumable, as `secrets.adopt` does. */
  adopt(label: string, options?: AdoptOptions): Promise<AdoptReport>;
}
