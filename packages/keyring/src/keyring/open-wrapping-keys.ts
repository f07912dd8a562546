import { randomUUID } from 'node:crypto';
import type { AuditTrail } from '../audit/audit.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Database } from '../db/port.ts';
import { wrappingKeyAad } from '../envelope/aad.ts';
import { generateKey, insecureExportKey, keyFingerprint, wipe } from '../secret-bytes.ts';
import type { RootAtHand, RootKeys } from './root-keys.ts';
import { WrappingKeys } from './wrapping-keys.ts';
import { insertFirstWrappingKey } from './wrapping-store.ts';

/**
 * Unwraps the wrapping keys with the root keys at hand. In an empty installation it makes the first one, under the first root key
 * that was given: committed, read back and unwrapped before this resolves.
 * @throws KeyringError `wrong_root_key` when the installation is under another root key; `root_key_*` of the provider.
 */
export async function openWrappingKeys(database: Database, roots: RootKeys, audit: AuditTrail): Promise<WrappingKeys> {
  const keys = new WrappingKeys(database, roots);
  await keys.reload();
  if (keys.none) {
    await createFirst(database, roots.first, audit);
    await keys.reload();
  }
  await keys.current();
  return keys;
}

async function createFirst(database: Database, { provider }: RootAtHand, audit: AuditTrail): Promise<void> {
  const id = randomUUID();
  const key = generateKey();
  const bytes = insecureExportKey(key);
  try {
    const { wrapped, fingerprint } = await provider.wrap(bytes, wrappingKeyAad({ version: 1, wrappingKeyId: id }));
    await transaction(database, async (tx) => {
      await insertFirstWrappingKey(tx, {
        id,
        fingerprint: keyFingerprint(key, id),
        wrapped,
        rootUri: provider.uri,
        rootFingerprint: fingerprint,
      });
      await audit.record(tx, {
        action: 'wrapping_key.created',
        subject: `wrapping_key:${id}`,
        details: { version: 1, rootKey: fingerprint },
      });
    });
  } catch (error) {
    // Another process made the first one at the same moment: its key is the one to use.
    if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
  } finally {
    wipe(bytes);
  }
}
