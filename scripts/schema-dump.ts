/**
 * Keeps docs/schema.sql equal to what the migrations make of an empty PostgreSQL 18, so that a review of a migration sees
 * its whole effect: grants, policies and triggers too.
 *
 *   node scripts/schema-dump.ts            writes docs/schema.sql
 *   node scripts/schema-dump.ts --check    prints a diff and exits 1 when the file says something else
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { migrate } from '@meshhook/keyring';
import { startScratchCluster } from '@meshhook/keyring-embedded/scratch';
import pg from 'pg';
import { describeSchemas } from './schema-catalog.ts';

const file = path.join(import.meta.dirname, '../docs/schema.sql');
const schemas = ['auth', 'keyring', 'keyring_jobs', 'public', 'supabase_migrations'];
const header = `-- What supabase/migrations/ makes of an empty PostgreSQL 18, read from its catalog. Made by \`node scripts/schema-dump.ts\`
-- and compared by \`npm run check\`; not for running. The migrations run as schema_migrator, a login with CREATEROLE.
`;

/** Migrates as Supabase would: not as a superuser, but as the owner of the database who may create roles. */
async function schemaText(): Promise<string> {
  const cluster = await startScratchCluster();
  try {
    const password = randomBytes(16).toString('hex');
    await withClient(cluster.adminUrl(), async (client) => {
      await client.query(`create role schema_migrator login createrole password '${password}'`);
      // One locale everywhere: the dump is sorted by it.
      await client.query(
        `create database schema_dump owner schema_migrator template template0 encoding 'UTF8' locale 'C'`,
      );
    });
    const url = new URL(cluster.adminUrl('schema_dump'));
    url.username = 'schema_migrator';
    url.password = password;
    await migrate({ connectionString: url.href });
    return await withClient(cluster.adminUrl('schema_dump'), (client) => describeSchemas(client, schemas));
  } finally {
    await cluster.stop();
  }
}

async function withClient<T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const made = `${header}\n${await schemaText()}`;
if (!process.argv.includes('--check')) {
  writeFileSync(file, made);
  console.log(`wrote ${path.relative(process.cwd(), file)}`);
} else if (!existsSync(file) || readFileSync(file, 'utf8') !== made) {
  const shown = spawnSync('diff', ['-u', '--label', 'docs/schema.sql', '--label', 'the migrations', file, '-'], {
    input: made,
  });
  console.error(shown.stdout.toString() || shown.stderr.toString());
  console.error(
    'docs/schema.sql is not what the migrations make.\nhint: run `npm run schema`, and review the diff with the migration.',
  );
  process.exitCode = 1;
} else {
  console.log('docs/schema.sql is what the migrations make.');
}
