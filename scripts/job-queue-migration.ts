/**
 * The job queue's schema as a migration, from pg-boss's own plans, for `supabase/migrations/`.
 *
 *   node scripts/job-queue-migration.ts             the whole schema, as the installed pg-boss constructs it
 *   node scripts/job-queue-migration.ts --from 46   what brings a schema of that version to what the installed pg-boss wants
 *
 * Prints to standard output. A migration that has been released is never edited: after an upgrade of pg-boss whose schema has
 * another version, packages/keyring-worker/test/schema.test.ts fails, and what `--from` prints goes into a new file, which
 * ends by replacing `keyring.schema_version()`. Its indexes are built in the migration's transaction.
 */
import { parseArgs } from 'node:util';
import { getConstructionPlans, getMigrationPlans } from 'pg-boss';

const SCHEMA = 'keyring_jobs';

/** The queues, and what pg-boss is told of each; the service cannot make any. */
const queues = {
  // One job is one try: who drives the rotation decides about another (packages/keyring-worker/src/queue-executor.ts).
  units: { policy: 'standard', retryLimit: 0, expireInSeconds: 86_400, deleteAfterSeconds: 600 },
};

/** What the statements of the worker need, and no more. */
const grants = [
  ['select', 'version'],
  ['select', 'queue'],
  // A failed job's dead letter would be sent through the parent; there are none, but PostgreSQL asks before it looks.
  ['insert', 'job'],
  ['select, insert, update, delete', 'job_common'],
] as const;

/** pg-boss brings a transaction of its own; each of our files is one already, under a lock of our own. */
function withoutTransaction(plan: string): string {
  return plan
    .replace(/^\s*BEGIN;\s*$/gm, '')
    .replace(/^\s*COMMIT;\s*$/gm, '')
    .replace(/^\s*SET LOCAL .*;\s*$/gm, '')
    .replace(/^\s*SELECT pg_advisory_xact_lock\(.*;\s*$/gm, '');
}

/** Partitions for the day of the migration: only pg-boss's history of its counts writes to them, which is switched off. */
function withoutDays(plan: string): string {
  return plan.replace(/^ *DO \$\$(?:(?!\$\$)[^])*queue_stats_(?:(?!\$\$)[^])*\$\$\s*;?/m, '');
}

function tidy(sql: string): string {
  return sql
    .replace(/\s*\n\s*;/g, ';')
    .replace(/;(\s*;)+/g, ';')
    .replace(/^[\s;]+/, '')
    .replace(/[ \t]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .trim();
}

function construction(): string {
  const plan = tidy(withoutDays(withoutTransaction(getConstructionPlans(SCHEMA, { createSchema: false }))));
  // One statement each; what a function would make has a placeholder for its name.
  const tables = [...plan.matchAll(/^\s*CREATE TABLE keyring_jobs\.(\w+)/gm)].map(([, name = '']) => name);
  const security = tables.flatMap((table) => [
    `alter table ${SCHEMA}.${table} enable row level security;`,
    `alter table ${SCHEMA}.${table} force row level security;`,
    `create policy keyring_roles on ${SCHEMA}.${table} to keyring_owner, keyring_service using (true) with check (true);`,
  ]);
  return `-- The job queue that carries rotations to any number of workers: pg-boss's schema, made by
-- scripts/job-queue-migration.ts from pg-boss's own plan. Not for PostgREST. Everything is keyring_owner's; the service uses
-- the queues that are made here, and can make none. pg-boss's functions that make and drop queues run with their caller's
-- rights, and nobody but the owner may call them.

create schema ${SCHEMA} authorization keyring_owner;
comment on schema ${SCHEMA} is 'MeshHook Keyring: pg-boss''s tables. They hold ids of rotations and projects, no names and no secrets';

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

${plan}

${Object.entries(queues)
  .map(([name, options]) => `select ${SCHEMA}.create_queue('${name}', '${JSON.stringify(options)}');`)
  .join('\n')}

${security.join('\n')}

grant usage on schema ${SCHEMA} to keyring_service;
grant execute on function ${SCHEMA}.job_now() to keyring_service;
${grants.map(([what, table]) => `grant ${what} on ${SCHEMA}.${table} to keyring_service;`).join('\n')}

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127000300' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
`;
}

const { values } = parseArgs({ options: { from: { type: 'string' } } });
process.stdout.write(
  values.from === undefined
    ? construction()
    : `${tidy(withoutTransaction(getMigrationPlans(SCHEMA, Number(values.from))))}\n`,
);
