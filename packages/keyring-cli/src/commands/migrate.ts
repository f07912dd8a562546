import { KeyringError, migrate, schemaStatus, type SchemaStatus } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { foreignDatabase, withHost, type App } from '../session.ts';
import { line, plural } from '../terminal/text.ts';

export function registerMigrate(program: Command, app: App): void {
  leaf(program, 'migrate', 'brings the schema to what this program wants; safe to run at any time, from anywhere', [
    'DATABASE_URL=postgres://owner@db.example/app mh-keys migrate',
    'mh-keys migrate --status',
    'mh-keys migrate --status --json || mh-keys migrate',
  ])
    .option('--status', 'only look; exits 7 unless the schema is what this program wants')
    .action(({ status }: { status?: boolean }) => (status === true ? look(app) : apply(app)));
}

async function apply(app: App): Promise<void> {
  const { applied, version } = await onDatabase(app, true, async (connectionString, before) => {
    const result = await migrate({ connectionString, onApplied: (name) => app.terminal.say(`applied ${name}`) });
    return { ...result, applied: [...before, ...result.applied] };
  });
  app.terminal.result({ applied, version }, () =>
    applied.length === 0
      ? `The schema is ${version} already: nothing to do.`
      : `Applied ${plural(applied.length, 'migration')}; the schema is ${version}.`,
  );
}

async function look(app: App): Promise<void> {
  const status = await onDatabase(app, false, (connectionString) => schemaStatus({ connectionString }));
  app.terminal.result({ schema: status }, () => describe(status));
  if (status.state === 'newer') {
    throw new KeyringError('schema_too_new', 'The schema is newer than this program.', {
      remedy: 'Upgrade MeshHook Keyring to the version that made it.',
      details: { ...status },
    });
  }
  if (status.state !== 'current') {
    throw new KeyringError('not_migrated', 'The schema is not what this program wants.', {
      remedy: 'Run `mh-keys migrate`.',
      details: { ...status },
    });
  }
}

function describe({ state, current, wanted }: SchemaStatus): string {
  return line`${state.replace('_', ' ')}: the schema is ${current ?? 'not there'}, this program wants ${wanted}.`;
}

/** A database of DATABASE_URL needs no root key for this; the embedded one is migrated by opening it. */
async function onDatabase<T>(
  app: App,
  mayMigrate: boolean,
  work: (connectionString: string, applied: readonly string[]) => Promise<T>,
): Promise<T> {
  const databaseUrl = foreignDatabase(app.settings);
  if (databaseUrl !== undefined) return work(databaseUrl, []);
  return withHost(app, { migrate: mayMigrate }, ({ migrationUrl, applied }) => work(migrationUrl, applied));
}
