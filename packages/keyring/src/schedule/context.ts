import type { AuditTrail } from '../audit/audit.ts';
import type { Database } from '../db/port.ts';
import type { DataKeys } from '../keyring/data-keys.ts';

export interface ScheduleContext {
  readonly database: Database;
  readonly audit: AuditTrail;
  readonly dataKeys: Pick<DataKeys, 'forget'>;
}
