import type { AuditTrail } from '../audit/audit.ts';
import type { Database } from '../db/port.ts';
import { openSigner, type Signer } from './signing-keys.ts';
import { hasSigningKey, type SigningPurpose } from './signing-store.ts';
import type { WrappingKeys } from './wrapping-keys.ts';

/** What this process signs with, each opened at its first use. */
export class Signers {
  readonly #database: Database;
  readonly #wrappingKeys: WrappingKeys;
  readonly #audit: AuditTrail;
  readonly #opened = new Map<SigningPurpose, Promise<Signer>>();

  constructor(database: Database, wrappingKeys: WrappingKeys, audit: AuditTrail) {
    this.#database = database;
    this.#wrappingKeys = wrappingKeys;
    this.#audit = audit;
  }

  /**
   * Looks whether the database has its key still: a standby that took over may never have had it, and takes nothing that it has signed.
   * @throws KeyringError as `openSigner` does.
   */
  async get(purpose: SigningPurpose): Promise<Signer> {
    const held = this.#opened.get(purpose);
    if (held !== undefined) {
      const signer = await held;
      if (await hasSigningKey(this.#database, signer.keyId)) return signer;
      if (this.#opened.get(purpose) === held) this.#opened.delete(purpose);
    }
    return this.#opened.get(purpose) ?? this.#open(purpose);
  }

  /** Lets go of them. */
  clear(): void {
    this.#opened.clear();
  }

  #open(purpose: SigningPurpose): Promise<Signer> {
    const opening = openSigner(this.#database, this.#wrappingKeys, this.#audit, purpose).catch((error: unknown) => {
      this.#opened.delete(purpose);
      throw error;
    });
    this.#opened.set(purpose, opening);
    return opening;
  }
}
