/** Backups of the wrapping keys, and of a root key that is a file. Types only. */

/** What a backup says of itself. Its keys are inside, and reached by nobody but the functions that take a `Backup`. */
export interface Backup {
  readonly id: string;
  readonly createdAt: Date;
  readonly installationId: string;
  readonly schemaVersion: string;
  /** Public keys of age, or `passphrase`. */
  readonly recipients: readonly string[];
  readonly rootKey: {
    readonly uri: string;
    readonly fingerprint: string;
    /** Is the root key itself in it? Those of an HSM or a KMS never are. */
    readonly included: boolean;
  };
  /** All that were not destroyed. */
  readonly wrappingKeys: readonly {
    readonly id: string;
    readonly version: number;
    readonly state: string;
    readonly primary: boolean;
    /** Its key check value, base64. */
    readonly fingerprint: string;
  }[];
  /** Their public halves, base64: what they signed is verified without any database. */
  readonly signingKeys: readonly { readonly id: string; readonly version: number; readonly publicKey: string }[];
  readonly database: BackupCensus;
}

/** How much there was, and how new: tells the dump that goes with a backup from others. */
export interface BackupCensus {
  /** Projects that have a key. */
  readonly projects: number;
  /** Versions that were not destroyed. */
  readonly dataKeys: number;
  readonly newestDataKeyAt: Date | undefined;
  /** The newest entry of the trail. */
  readonly newestEntryAt: Date | undefined;
}

/** What the database remembers of a backup: never a key. */
export interface BackupRecord {
  readonly id: string;
  readonly createdAt: Date;
  readonly recipients: readonly string[];
  readonly rootFingerprint: string;
  readonly wrappingKeyIds: readonly string[];
  /** Of the encrypted file, hex. Undefined: it was never seen encrypted here. */
  readonly fileSha256: string | undefined;
  /** Undefined: it was sealed, and is not known to have reached its file. */
  readonly writtenAt: Date | undefined;
  /** When it was last opened again, and proved. */
  readonly verifiedAt: Date | undefined;
  /** Does it hold every wrapping key there is now? */
  readonly complete: boolean;
}

/** Which of the database's wrapping keys a backup holds, and what each of them opened. */
export interface BackupProof {
  readonly backupId: string;
  /** One for each wrapping key of the database that was not destroyed, by version. */
  readonly wrappingKeys: readonly {
    readonly id: string;
    readonly version: number;
    readonly primary: boolean;
    readonly inBackup: boolean;
    /** Data keys and signing keys under it, in the database. */
    readonly keysUnderIt: number;
  }[];
  /** Data keys that were unwrapped, all of those under wrapping keys of the backup. */
  readonly dataKeys: number;
  readonly signingKeys: number;
  /** Values that were opened: one under each version that rows name, in each encrypted column. */
  readonly values: number;
  /** What did not unwrap or open, up to 100, as `key:ID`, `signing_key:ID` or `LABEL ROW`. */
  readonly failures: readonly string[];
  readonly failed: number;
  /** Nothing failed, and nothing of the database is under a wrapping key that is not in the backup. */
  readonly complete: boolean;
  readonly then: BackupCensus;
  readonly now: BackupCensus;
}

export interface Recovery {
  readonly backupId: string;
  /** The root key that opens this database from now on. */
  readonly rootKey: { readonly uri: string; readonly fingerprint: string };
  /** Wrapping keys that are under it now, by version. `added`: by this call. */
  readonly wrappingKeys: readonly { readonly id: string; readonly version: number; readonly added: boolean }[];
  /** Wrapping keys of the database that the backup does not hold, and that nothing is under. */
  readonly leftOut: readonly { readonly id: string; readonly version: number }[];
  /** Root keys that were there before, left as they are. */
  readonly otherRootKeys: readonly { readonly uri: string; readonly fingerprint: string }[];
  readonly then: BackupCensus;
  readonly now: BackupCensus;
}
