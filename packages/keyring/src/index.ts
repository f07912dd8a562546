/** MeshHook Keyring: secrets under per-project, versioned keys in PostgreSQL, and the rotation that moves them. */
export type * from './api.ts';
export { permissions, permissionsOf, roles, type Permission, type Role } from './access/roles.ts';
export { errorCodes, KeyringError, type ErrorCode, type KeyringErrorOptions } from './errors.ts';
export { openKeyring } from './open-keyring.ts';
export type { KeyringOptions } from './keyring-options.ts';
export {
  migrate,
  schemaStatus,
  wantedSchemaVersion,
  type MigrateOptions,
  type MigrateResult,
  type SchemaStatus,
} from './db/migrate.ts';
export { pgDatabase, type PgDatabaseOptions } from './db/pg-database.ts';
export type { Columns, ColumnType, Connection, Database, Queryable, Result, Statement } from './db/port.ts';
export { parseBackup } from './backup/document.ts';
export { insecureExportBackup, type ExportBackupOptions } from './backup/export.ts';
export { listBackups } from './backup/records.ts';
export { recoverFromBackup, type RecoverOptions } from './backup/recover.ts';
export { verifyBackup, type VerifyBackupOptions } from './backup/verify.ts';
export { inspectEnvelope, type EnvelopeFacts } from './envelope/inspect.ts';
export { createRootKey, type CreatedRootKey } from './providers/create.ts';
export { createRootKeyFile } from './providers/file.ts';
export type { RootKeyProvider, RootKeyStatus, WrapResult } from './providers/provider.ts';
export { reportCsv, reportJson } from './monitoring/report-text.ts';
export { durationInWords, parseDuration } from './schedule/arithmetic/duration.ts';
export { listInstances } from './upper-keys/instance-store.ts';
export { verifyReceipt } from './rotation/receipt.ts';
export { rotationProjectStates, rotationStates } from './rotation/states.ts';
export { openRootKey, type OpenRootKeyOptions } from './providers/registry.ts';
export type { RemoteOptions } from './providers/remote.ts';
