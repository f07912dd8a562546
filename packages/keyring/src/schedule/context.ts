import type { AuditTrail } from '../audit/audit.ts';
import type { Keys } from '../api.ts';
import type { Database } from '../db/port.ts';

export interface ScheduleContext {
  readonly database: Database;
  readonly audit: AuditTrail;
  readonly destroyKey: Keys['destroy'];
}
