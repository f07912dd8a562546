import type { Keys, KeyStatus, KeyVersion } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { isUuid } from '../validate.ts';
import type { DataKeys } from './data-keys.ts';
import { selectExposure } from './exposure-store.ts';
import { refusal, unknownKey } from './refusal.ts';
import { eraseKey, selectInventory, type InventoryRow } from './store.ts';
import { suspension } from './suspension.ts';

/** The inventory of key versions, and the verbs that take one out of use, for a while or for good. */
export function keys(database: Database, dataKeys: DataKeys, audit: AuditTrail): Keys {
  const get = async (keyId: string): Promise<KeyVersion | undefined> => {
    if (!isUuid(keyId)) return undefined;
    const [row] = await selectInventory(database, { keyId, limit: 1 });
    return row && keyVersion(row);
  };

  return {
    get,
    ...suspension(database, dataKeys, audit, get),
    async list({ projectId, limit = 1000 } = {}) {
      const rows = await selectInventory(database, { projectId, limit: Math.min(Math.max(limit, 1), 10_000) });
      return rows.map(keyVersion);
    },
    async exposure(keyId) {
      if ((await get(keyId)) === undefined) throw unknownKey(keyId);
      return selectExposure(database, keyId);
    },
    async destroy(keyId, { reason }) {
      const key = await get(keyId);
      if (key === undefined) throw unknownKey(keyId);
      const entry = { projectId: key.projectId, subject: `key:${keyId}`, reason, details: { version: key.version } };
      try {
        await transaction(database, async (tx) => {
          if (key.status === 'destroyed' || !(await eraseKey(tx, keyId))) return;
          await audit.record(tx, { action: 'key.destroyed', ...entry });
        });
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

export function keyVersion(row: InventoryRow): KeyVersion {
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
    nextDueAt: row.next_due_at ?? undefined,
  };
}
