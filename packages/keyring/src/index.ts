/** MeshHook Keyring: secrets under per-project, versioned keys in PostgreSQL, and the rotation that moves them. */
export type * from './api.ts';
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
export { inspectEnvelope, type EnvelopeFacts } from './envelope/inspect.ts';
export { createRootKeyFile } from './providers/file.ts';
export type { RootKeyProvider, RootKeyStatus, WrapResult } from './providers/provider.ts';
export { verifyReceipt } from './rotation/receipt.ts';
export { openRootKey } from './providers/registry.ts';
