import type { Keyring } from './api.ts';
import { randomBytes } from 'node:crypto';
import { auditTrail } from './audit/audit.ts';
import { requireSchema } from './db/migrate.ts';
import { pgDatabase } from './db/pg-database.ts';
import { examine } from './doctor/doctor.ts';
import { resolveOptions, type KeyringOptions } from './keyring-options.ts';
import { DataKeys } from './keyring/data-keys.ts';
import { keys } from './keyring/keys.ts';
import { openSigner, type Signer } from './keyring/signing-keys.ts';
import { openWrappingKeys } from './keyring/wrapping-keys.ts';
import { projects } from './projects/projects.ts';
import { openRootKey } from './providers/registry.ts';
import { Pacers } from './rotation/pacers.ts';
import { quarantine } from './rotation/quarantine.ts';
import { rotations } from './rotation/rotations.ts';
import { adoptSecrets } from './secrets/adopt.ts';
import { secrets } from './secrets/secrets.ts';

/**
 * Opens the keyring of a migrated database: asks the root key's provider once, unwraps the wrapping keys, and holds them.
 * An empty installation gets its first wrapping key here.
 * @throws KeyringError `not_migrated`, `schema_too_new`, `database_unreachable`, `root_key_*`, `wrong_root_key`.
 * @throws TypeError for unknown or missing options.
 */
export async function openKeyring(options: KeyringOptions): Promise<Keyring> {
  const resolved = resolveOptions(options);
  const database =
    typeof resolved.database === 'string'
      ? pgDatabase({ connectionString: resolved.database, preparedStatements: resolved.preparedStatements })
      : resolved.database;
  try {
    await requireSchema(database);
    const provider =
      typeof resolved.rootKey === 'string'
        ? await openRootKey(resolved.rootKey, { cwd: resolved.cwd })
        : resolved.rootKey;
    const audit = auditTrail(database, resolved.actor);
    const wrappingKeys = await openWrappingKeys(database, provider, audit);
    const dataKeys = new DataKeys(database, wrappingKeys, audit, resolved);
    let signer: Promise<Signer> | undefined;
    const openSignerOnce = (): Promise<Signer> =>
      (signer ??= openSigner(database, wrappingKeys, audit).catch((error: unknown) => {
        signer = undefined;
        throw error;
      }));
    const keyVersions = keys(database, dataKeys, audit);
    const runner = `${resolved.runner}:${randomBytes(4).toString('hex')}`;
    const pacers = new Pacers(database);
    const rotationContext = { ...resolved, database, dataKeys, audit, runner, signer: openSignerOnce, pacers };
    const rotating = rotations(rotationContext, (id) => keyVersions.get(id));
    return {
      projects: projects(database, audit),
      secrets: {
        ...secrets(database, dataKeys, audit),
        adopt: (adopt = {}) => adoptSecrets(database, dataKeys, audit, adopt),
      },
      keys: keyVersions,
      rotations: rotating,
      quarantine: quarantine(rotationContext, (id) => rotating.resume(id)),
      audit,
      doctor: ({ onProgress } = {}) => examine(database, dataKeys, { ...resolved, onProgress }),
      ready: () => requireSchema(database),
      async close() {
        dataKeys.close();
        await database.close();
      },
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}
