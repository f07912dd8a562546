import type { Actor, Audit, Keyring, Sight } from './api.ts';
import { randomBytes } from 'node:crypto';
import { access } from './access/access.ts';
import { auditTrail, type AuditTrail } from './audit/audit.ts';
import { auditLog } from './audit/log.ts';
import { ReadSummaries } from './audit/reads.ts';
import { Sealer } from './audit/sealer.ts';
import { Verifier } from './audit/verifier.ts';
import { selectBackups } from './backup/store.ts';
import { requireSchema } from './db/migrate.ts';
import { pgDatabase } from './db/pg-database.ts';
import { sightOf } from './db/sight.ts';
import { examine } from './doctor/doctor.ts';
import { resolveOptions, type KeyringOptions, type ResolvedOptions, type RootKeyOption } from './keyring-options.ts';
import { DataKeys } from './keyring/data-keys.ts';
import { keys } from './keyring/keys.ts';
import { openWrappingKeys } from './keyring/open-wrapping-keys.ts';
import { RootKeys, type RootSource } from './keyring/root-keys.ts';
import { Signers } from './keyring/signers.ts';
import { provenPublicKeys } from './keyring/signing-keys.ts';
import { openCounted } from './monitoring/counted-root-key.ts';
import { monitoring } from './monitoring/monitoring.ts';
import { watchedAudit } from './monitoring/watched-audit.ts';
import { overview } from './overview/overview.ts';
import { projects } from './projects/projects.ts';
import type { RootKeyProvider } from './providers/provider.ts';
import { openRootKey } from './providers/registry.ts';
import { Pacers } from './rotation/pacers.ts';
import { quarantine } from './rotation/quarantine.ts';
import { rotations } from './rotation/rotations.ts';
import { KeyThreads } from './upper-keys/key-threads.ts';
import { RowThreads } from './rotation/row-threads.ts';
import { notifications } from './notifications/notifications.ts';
import { policies } from './schedule/policies.ts';
import { columns, KnownColumns } from './secrets/columns.ts';
import { secrets, secretWriters } from './secrets/secrets.ts';
import { SECRETS_LABEL } from './secrets/store.ts';
import { Tally } from './tally.ts';
import { listInstances, SILENT_AFTER_MS } from './upper-keys/instance-store.ts';
import { enterInstance, ownVersion } from './upper-keys/instances.ts';
import { rootKeys } from './upper-keys/root-rotations.ts';
import { wrappingKeys as wrappingKeyVersions } from './upper-keys/wrapping-rotations.ts';

/**
 * Opens the keyring of a migrated database: asks the root key's provider once for each wrapping key, and holds those.
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
    const audit = auditTrail(resolved.actor);
    const tally = new Tally();
    const wrappingKeys = await openWrappingKeys(database, new RootKeys(rootSources(resolved, tally)), audit);
    const dataKeys = new DataKeys(database, wrappingKeys, audit, { ...resolved, tally });
    const signers = new Signers(database, wrappingKeys, audit);
    const signing = {
      ...{ database, signer: () => signers.get('audit') },
      publicKeys: () => provenPublicKeys(database, wrappingKeys, 'audit'),
    };
    const instance = await enterInstance(database, wrappingKeys, resolved);
    const sealing = {
      ...signing,
      sealer: new Sealer({ ...signing, now: resolved.now }),
      verifier: new Verifier({ ...signing, instanceId: instance.id, silentAfterMs: SILENT_AFTER_MS }),
    };
    const logOf = (trail: AuditTrail): Audit => watchedAudit(auditLog({ ...sealing, trail }), tally);
    const seenBy = (principal: string, trail: AuditTrail, ownKeys: DataKeys): Sight => {
      const sight = sightOf(database, principal);
      const context = { ...shared, ...parts, database: sight, audit: trail, dataKeys: ownKeys };
      const keyVersions = keys(sight, ownKeys, trail);
      const rotating = rotations(context, (id) => keyVersions.get(id));
      return {
        projects: projects(sight, trail),
        secrets: secrets(database, ownKeys, trail, parts.writers, reads.by(trail.actor), sight),
        keys: keyVersions,
        rotations: rotating,
        policies: policies({ database: sight, audit: trail, dataKeys: ownKeys }),
        quarantine: quarantine(context, (id) => rotating.resume(id)),
        audit: auditLog({ ...sealing, database: sight, trail }),
        access: access(sight, trail),
        overview: ({ among = 'all' } = {}) => overview(sight, among),
      };
    };
    const reads = new ReadSummaries(database, resolved);
    const runner = `${resolved.runner}:${randomBytes(4).toString('hex')}`;
    const shared = { ...resolved, database, runner, instance, wrappingKeys, signer: () => signers.get('receipts') };
    const threads = new RowThreads();
    const keyThreads = new KeyThreads();
    const knownColumns = new KnownColumns(database);
    const parts = { pacers: new Pacers(database), threads, keyThreads, writers: secretWriters() };
    const watching = monitoring(database, logOf(audit), tally, { ...resolved, version: await ownVersion() });
    const faces = (trail: AuditTrail, ownKeys: DataKeys): Omit<Keyring, 'close'> => {
      const context = { ...shared, ...parts, audit: trail, dataKeys: ownKeys };
      const keyVersions = keys(database, ownKeys, trail);
      const rotating = rotations(context, (id) => keyVersions.get(id));
      const ofProjects = projects(database, trail);
      const noteRead = reads.by(trail.actor);
      const values = secrets(database, ownKeys, trail, parts.writers, noteRead);
      const inColumns = columns(database, ownKeys, trail, knownColumns, parts.writers, noteRead);
      return {
        projects: ofProjects,
        notifications: notifications({ database, audit: trail, projects: ofProjects, secrets: values }),
        secrets: {
          ...values,
          adopt: (adopt = {}) => inColumns.adopt(SECRETS_LABEL, adopt),
        },
        columns: inColumns,
        keys: keyVersions,
        rotations: rotating,
        policies: policies({ database, audit: trail, dataKeys: ownKeys }),
        quarantine: quarantine(context, (id) => rotating.resume(id)),
        rootKeys: {
          ...rootKeys({ ...context, openRoot: (root) => openRoot(root, resolved, tally) }),
          backups: () => selectBackups(database),
        },
        wrappingKeys: wrappingKeyVersions(context),
        instances: { list: () => listInstances(database) },
        monitoring: watching,
        audit: logOf(trail),
        access: access(database, trail),
        doctor: ({ onProgress } = {}) => examine(database, ownKeys, { ...resolved, onProgress }),
        overview: ({ among = 'all' } = {}) => overview(database, among),
        ready: () => requireSchema(database),
        as,
        seenBy: (principal) => seenBy(principal, trail, ownKeys),
      };
    };
    const as = (actor: Actor): Keyring => {
      const trail = auditTrail(actor);
      return { ...faces(trail, dataKeys.as(trail)), close: () => Promise.resolve() };
    };
    return {
      ...faces(audit, dataKeys),
      async close() {
        await reads.close();
        await dataKeys.close();
        await threads.close();
        await keyThreads.close();
        await instance.leave();
        wrappingKeys.close();
        signers.clear();
        await database.close();
      },
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** The core opens what it was given, and nothing else; a URI is kept out of what is told, for it may hold a credential. */
function rootSources(options: ResolvedOptions, tally: Tally): RootSource[] {
  const { rootKey } = options;
  const given = Array.isArray(rootKey) ? (rootKey as readonly RootKeyOption[]) : [rootKey as RootKeyOption];
  return given.map((one) =>
    typeof one === 'string'
      ? {
          name: one.startsWith('file:') ? one : one.slice(0, one.indexOf(':') + 1),
          open: () => openRoot(one, options, tally),
        }
      : { name: one.uri, open: () => openRoot(one, options, tally) },
  );
}

function openRoot(root: RootKeyOption, { cwd, env }: ResolvedOptions, tally: Tally): Promise<RootKeyProvider> {
  return typeof root === 'string'
    ? openCounted(root, tally, () => openRootKey(root, { cwd, env }))
    : openCounted(root.uri, tally, () => Promise.resolve(root));
}
