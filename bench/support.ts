import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, migrate, openKeyring, pgDatabase, type Keyring } from '@meshhook/keyring';
import { startScratchCluster } from '@meshhook/keyring-embedded/scratch';
import pg from 'pg';
// The bench fills tables faster than `put` could, with ciphertext as real as `put`'s: for that it reaches inside.
import { auditTrail } from '../packages/keyring/src/audit/audit.ts';
import { secretAadBuilder } from '../packages/keyring/src/envelope/aad.ts';
import { seal } from '../packages/keyring/src/envelope/seal.ts';
import { DataKeys } from '../packages/keyring/src/keyring/data-keys.ts';
import { openWrappingKeys } from '../packages/keyring/src/keyring/open-wrapping-keys.ts';
import { rootKeysOf } from '../packages/keyring/src/keyring/root-keys.ts';
import { openRootKey } from '../packages/keyring/src/providers/registry.ts';

/** One row of the report; `numbers` is what later runs compare with. */
export interface Measure {
  readonly what: string;
  readonly measured: string;
  readonly against?: string;
  readonly target?: string;
  readonly numbers: Readonly<Record<string, number>>;
}

export interface Bench {
  readonly quick: boolean;
  readonly postgresVersion: string;
  /** A fresh, migrated database with projects and secrets in it. */
  database(fill: { projects: number; secretsEach: number }): Promise<BenchDatabase>;
  stop(): Promise<void>;
}

export interface BenchDatabase {
  readonly serviceUrl: string;
  readonly adminUrl: string;
  readonly rootKey: string;
  readonly projectIds: readonly string[];
  /** Opened as the service's login: row-level security, fence and all. */
  open(): Promise<Keyring>;
  /** A superuser's connection, for what is measured against and for looking inside. */
  admin<T>(work: (client: pg.Client) => Promise<T>): Promise<T>;
  /** The data keys of the filled projects, to open ciphertext without the library's own reads. */
  dataKeys(): Promise<{ keys: DataKeys; close: () => Promise<void> }>;
  drop(): Promise<void>;
}

const OWNER = 'bench_owner';
const SERVICE = 'bench_service';
// A throw-away cluster on loopback; the password only keeps the connection path the usual one.
const PASSWORD = randomUUID();

export async function startBench({ quick }: { quick: boolean }): Promise<Bench> {
  const cluster = await startScratchCluster({
    settings: { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' },
  });
  const folder = mkdtempSync(path.join(tmpdir(), 'keyring-bench-'));
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const adminUrl = (database: string): string => cluster.adminUrl(database);
  await withClient(adminUrl('postgres'), async (client) => {
    await client.query(`create role ${OWNER} login createrole password '${PASSWORD}'`);
  });
  const postgresVersion = await withClient(adminUrl('postgres'), async (client) => {
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version ?? '';
  });
  return {
    quick,
    postgresVersion,
    async database({ projects, secretsEach }) {
      const name = `bench_${randomUUID().slice(0, 8)}`;
      await withClient(adminUrl('postgres'), (client) => client.query(`create database ${name} owner ${OWNER}`));
      await migrate({ connectionString: as(adminUrl(name), OWNER) });
      await withClient(adminUrl(name), async (client) => {
        await client.query(`do $$ begin
          if not exists (select from pg_roles where rolname = '${SERVICE}') then
            create role ${SERVICE} login password '${PASSWORD}' in role keyring_service;
          end if; end $$`);
      });
      const serviceUrl = as(adminUrl(name), SERVICE);
      const open = (): Promise<Keyring> => openKeyring({ database: serviceUrl, rootKey, actor: 'bench' });
      const dataKeys = async (): Promise<{ keys: DataKeys; close: () => Promise<void> }> => {
        const database = pgDatabase({ connectionString: serviceUrl });
        const audit = auditTrail('bench');
        const root = await openRootKey(rootKey, { cwd: '/' });
        const wrapping = await openWrappingKeys(database, rootKeysOf(root), audit);
        const options = { keyCacheSize: 1_000_000, keyCacheMs: 86_400_000, now: () => new Date() };
        return { keys: new DataKeys(database, wrapping, audit, options), close: () => database.close() };
      };
      const projectIds = await fill(adminUrl(name), dataKeys, projects, secretsEach);
      return {
        serviceUrl,
        adminUrl: adminUrl(name),
        rootKey,
        projectIds,
        open,
        dataKeys,
        admin: (work) => withClient(adminUrl(name), work),
        drop: () =>
          withClient(adminUrl('postgres'), async (client) => {
            await client.query(`drop database ${name} with (force)`);
          }),
      };
    },
    async stop() {
      await cluster.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function fill(
  adminUrl: string,
  dataKeys: () => Promise<{ keys: DataKeys; close: () => Promise<void> }>,
  projects: number,
  secretsEach: number,
): Promise<string[]> {
  const { keys, close } = await dataKeys();
  try {
    return await withClient(adminUrl, async (client) => {
      const ids = Array.from({ length: projects }, () => randomUUID());
      await client.query(
        `insert into public.projects (id, owner, name)
         select i, '00000000-0000-0000-0000-000000000000', 'project ' || n from unnest($1::uuid[]) with ordinality u (i, n)`,
        [ids],
      );
      // Loading, as a restore does: without triggers. What is measured later runs with all of them.
      await client.query(`set session_replication_role = replica`);
      for (let from = 0; from < ids.length; from += 1_000)
        await insertFirstKeys(client, keys, ids.slice(from, from + 1_000));
      let rows: SecretRow[] = [];
      for (const projectId of ids) {
        const key = await keys.primary(projectId);
        const aad = secretAadBuilder(projectId, 'secrets.value', key.id);
        for (let number = 0; number < secretsEach; number++) {
          const id = randomUUID();
          const value = Buffer.from(`sk_live_${String(number)}_${randomUUID()}`);
          const envelope = seal(key.key, key.id, value, aad(id));
          rows.push({ id, projectId, keyId: key.id, name: `SECRET_${String(number)}`, envelope });
          if (rows.length === 5_000) rows = await insertSecrets(client, rows);
        }
      }
      await insertSecrets(client, rows);
      await client.query('vacuum analyze');
      await client.query('checkpoint');
      return ids;
    });
  } finally {
    await close();
  }
}

/** Version 1 of each project, and its keyring: what its first put would make, for many at once. */
async function insertFirstKeys(client: pg.Client, keys: DataKeys, projectIds: readonly string[]): Promise<void> {
  const first = await Promise.all(projectIds.map((id) => keys.create(id, 1)));
  await client.query(
    `with made as (
       insert into keyring.encryption_keys
         (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, activated_at)
       select n.id, n.project_id, 1, n.wrapped, n.wrapping, n.fingerprint, now()
       from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::bytea[])
         as n (id, project_id, wrapped, wrapping, fingerprint)
       returning project_id, id)
     insert into keyring.keyrings (project_id, primary_key_id) select project_id, id from made`,
    [
      first.map((key) => key.id),
      first.map((key) => key.projectId),
      first.map((key) => key.wrappedKey),
      first.map((key) => key.wrappingKeyId),
      first.map((key) => key.fingerprint),
    ],
  );
}

interface SecretRow {
  readonly id: string;
  readonly projectId: string;
  readonly keyId: string;
  readonly name: string;
  readonly envelope: Buffer;
}

/** Gives the empty list to go on with. */
async function insertSecrets(client: pg.Client, rows: readonly SecretRow[]): Promise<SecretRow[]> {
  await client.query(
    `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id, value_written_at)
     select u.id, u.project_id, u.name, u.envelope, u.key_id, now()
     from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[]) as u (id, project_id, key_id, name, envelope)`,
    [
      rows.map((row) => row.id),
      rows.map((row) => row.projectId),
      rows.map((row) => row.keyId),
      rows.map((row) => row.name),
      rows.map((row) => row.envelope),
    ],
  );
  return [];
}

function as(url: string, role: string): string {
  const changed = new URL(url);
  changed.username = role;
  changed.password = PASSWORD;
  return changed.href;
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
