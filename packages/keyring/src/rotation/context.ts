import type { AuditTrail } from '../audit/audit.ts';
import type { Database } from '../db/port.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import type { Signer } from '../keyring/signing-keys.ts';
import type { Pacer } from './pacer.ts';
import type { Pacers } from './pacers.ts';
import type { RowThreads } from './row-threads.ts';

/** What every part of the rotation engine works with. */
export interface RotationContext {
  readonly database: Database;
  readonly dataKeys: DataKeys;
  readonly audit: AuditTrail;
  /** Opened at its first use, and then the same. */
  readonly signer: () => Promise<Signer>;
  readonly sweepBatchSize: number;
  readonly rotationConcurrency: number;
  readonly rotationSetSize: number;
  readonly lockPatienceMs: number;
  /** Names this process in the rotations it drives. */
  readonly runner: string;
  readonly pacers: Pacers;
  /** Where large batches are encrypted. */
  readonly threads: RowThreads;
  /** Every batch of rows of the rotation at work goes through it. None: nobody's rotation, as in a dry run. */
  readonly pacer?: Pacer;
}
