import type { AuditTrail } from '../audit/audit.ts';
import type { Database } from '../db/port.ts';
import type { DataKeys } from '../keyring/data-keys.ts';

/** What every part of the rotation engine works with. */
export interface RotationContext {
  readonly database: Database;
  readonly dataKeys: DataKeys;
  readonly audit: AuditTrail;
  readonly sweepBatchSize: number;
  readonly rotationConcurrency: number;
  readonly lockPatienceMs: number;
  /** Names this process in the rotations it drives. */
  readonly runner: string;
}
