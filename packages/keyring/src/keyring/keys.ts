import type { Keys, KeyStatus, KeyVersion } from '../api.ts';
import { withApproval, type Consume } from '../access/approvals.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { readQuietHours } from '../schedule/arithmetic/read-quiet-hours.ts';
import { startOf } from '../schedule/arithmetic/start.ts';
import { isUuid } from '../validate.ts';
import type { DataKeys } from './data-keys.ts';
import { selectExposure } from './exposure-store.ts';
import { selectInventory, selectKeyPage, type InventoryRow } from './inventory-store.ts';
import { refusal, unknownKey } from './refusal.ts';
import { endRetention, eraseKey } from './store.ts';
import { suspension } from './suspension.ts';

/** The inventory of key versions, and the verbs that take one out of use, for a while or for good. */
export function keys(database: Database, dataKeys: DataKeys, audit: AuditTrail): Keys {
  const get = async (keyId: string): Promise<KeyVersion | undefined> => {
    if (!isUuid(keyId)) return undefined;
    const [row] = await selectInventory(database, { keyId, limit: 1 });
    return row && (await keyVersion(row));
  };

  return {
    get,
    ...suspension(database, dataKeys, audit, get),
    async list({ projectId, limit = 1000, among } = {}) {
      const rows = await selectInventory(database, { projectId, limit: Math.min(Math.max(limit, 1), 10_000), among });
      return Promise.all(rows.map(keyVersion));
    },
    async page({ among = 'all', projectId, search, status, due, after, limit = 100 } = {}) {
      const most = Math.min(Math.max(limit, 1), 10_000);
      const rows = await selectKeyPage(database, { among, projectId, search, status, due, after, limit: most });
      return Promise.all(rows.map(keyVersion));
    },
    async exposure(keyId) {
      if ((await get(keyId)) === undefined) throw unknownKey(keyId);
      return selectExposure(database, keyId);
    },
    async destroy(keyId, { reason, early = false }) {
      const key = await get(keyId);
      if (key === undefined) throw unknownKey(keyId);
      const { id, projectId, retentionUntil } = key;
      const isEarly =
        early && key.status !== 'destroyed' && retentionUntil !== undefined && retentionUntil > new Date();
      const details = { version: key.version, ...(isEarly ? { early: true, retentionUntil } : {}) };
      const entry = { projectId, subject: `key:${id}`, reason, details };
      const erase = (consume?: Consume): Promise<void> =>
        transaction(database, async (tx) => {
          if (consume !== undefined) {
            await consume(tx);
            await endRetention(tx, id);
          }
          if (key.status === 'destroyed' || !(await eraseKey(tx, id))) return;
          await audit.record(tx, { action: 'key.destroyed', ...entry });
        });
      const act = { action: 'key.destroy_early', subject: `key:${id}`, projectId, reason } as const;
      try {
        await (isEarly ? withApproval(database, audit, act, erase) : erase());
      } catch (error) {
        const told = refusal(error, key);
        if (told === undefined) throw error;
        await audit.record(database, { action: 'key.destroyed', outcome: 'refused', ...entry });
        throw told;
      }
      dataKeys.clear();
      return (await get(keyId)) ?? key;
    },
  };
}

async function keyVersion(row: InventoryRow): Promise<KeyVersion> {
  return {
    id: row.key_id,
    projectId: row.project_id,
    projectName: row.project_name,
    version: row.version,
    status: row.status as KeyStatus,
    active: row.active,
    rows: Number(row.rows_naming),
    fingerprint: row.fingerprint.toString('hex').slice(0, 16),
    createdAt: row.created_at,
    activatedAt: row.activated_at ?? undefined,
    deactivatedAt: row.deactivated_at ?? undefined,
    retentionUntil: row.retention_until ?? undefined,
    destroyedAt: row.destroyed_at ?? undefined,
    encryptions: Number(row.encryptions),
    lastUsedAt: row.last_used_at ?? undefined,
    nextDueAt: await nextDueAt(row),
  };
}

/** The date that `policies.next` gives for it, but for the present: what is overdue stays in the past. */
async function nextDueAt(row: InventoryRow): Promise<Date | undefined> {
  if (row.scheduled !== true || row.due_at === null || row.promised_at === null) return undefined;
  const dates = {
    madeAt: row.created_at.getTime(),
    dueAt: row.due_at.getTime(),
    promisedAt: row.promised_at.getTime(),
  };
  // Without croner a list of keys is still a list: it has the date before quiet hours.
  const quiet = await readQuietHours(row.quiet_hours ?? undefined).catch(() => undefined);
  const start = startOf(dates, quiet, dates.madeAt);
  return start === undefined ? undefined : new Date(start);
}
