import type { AuditTrail } from '../audit/audit.ts';
import type { Database } from '../db/port.ts';
import type { WrappingKeys } from '../keyring/wrapping-keys.ts';
import type { OwnInstance } from './instances.ts';
import type { KeyThreads } from './key-threads.ts';

/** What rotations of the keys above the data keys work with. */
export interface UpperContext {
  readonly database: Database;
  readonly audit: AuditTrail;
  readonly wrappingKeys: WrappingKeys;
  readonly instance: OwnInstance;
  readonly keyThreads: KeyThreads;
  readonly lockPatienceMs: number;
  /** As for rows of a sweep. */
  readonly sweepBatchSize: number;
}

/** Undoes a step that found the rotation changed under it, by another process or by somebody who asked for it. */
export class Overtaken extends Error {
  constructor() {
    super('Overtaken by another process.');
  }
}
