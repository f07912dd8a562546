import { randomBytes } from 'node:crypto';
import { migrate } from '@meshhook/keyring';
import { startScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { openNeedles, searchNeedles } from './needles.ts';

/** How a test reaches the cluster of the run. */
export interface TestCluster {
  /** Superuser, database `postgres`. */
  readonly adminUrl: string;
  /** `keyring_migrator`: owns every test database; may create roles, is no superuser. */
  readonly owner: { readonly user: string; readonly password: string };
  /** `keyring_app`: a login with the rights of the service, and no others. */
  readonly service: { readonly user: string; readonly password: string };
  readonly template: string;
  /** Such as `18.4`. */
  readonly version: string;
  readonly binDirectory: string;
  readonly logFile: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    cluster: TestCluster;
  }
}

const TEMPLATE = 'keyring_template';
// PostgreSQL's log of changes is up to 4 GB of it.
const MEMORY_FOR_FILES = 10 * 2 ** 30;

/** One cluster per run, with a migrated database that every test database is copied from. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const binDirectory = process.env['MESHHOOK_TEST_PG_BIN'];
  const needles = openNeedles();
  // Processes that tests start from the sources strip and compile them once, and not each of them all.
  const compiled = await mkdtemp(path.join(tmpdir(), 'keyring-compiled-'));
  process.env['NODE_COMPILE_CACHE'] = compiled;
  const baseDirectory = await folderInMemory();
  const scratch = await startScratchCluster({
    ...(binDirectory === undefined ? {} : { binDirectory }),
    ...(baseDirectory === undefined ? {} : { baseDirectory }),
    // Some gigabytes of log are written once and never again: no need to write zeroes first.
    settings: { max_connections: '300', wal_init_zero: 'off' },
  });
  try {
    const owner = { user: 'keyring_migrator', password: randomBytes(12).toString('hex') };
    const service = { user: 'keyring_app', password: randomBytes(12).toString('hex') };
    const adminUrl = scratch.adminUrl();
    await execute(adminUrl, [
      `create role ${owner.user} login createrole nosuperuser nobypassrls password '${owner.password}'`,
      `create role ${service.user} login nosuperuser nobypassrls password '${service.password}'`,
      `create database ${TEMPLATE} owner ${owner.user}`,
    ]);
    await migrate({ connectionString: urlOf(adminUrl, TEMPLATE, owner) });
    await execute(adminUrl, [`grant keyring_service to ${service.user}`]);
    const { version, binDirectory: bin, logFile } = scratch;
    project.provide('cluster', { adminUrl, owner, service, template: TEMPLATE, version, binDirectory: bin, logFile });
  } catch (error) {
    await scratch.stop();
    throw error;
  }
  return async () => {
    try {
      const text = await readFile(scratch.logFile, 'latin1');
      console.log(searchNeedles(needles, [{ name: 'the log of PostgreSQL', text }]));
    } finally {
      await scratch.stop();
      // A process of the tests that is still ending writes into it once more.
      await rm(compiled, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
    }
  };
}

/**
 * Each test's database is a thousand files that are gone seconds later. Some file systems take a millisecond to make one where many were
 * just removed; in memory, where there is plenty, it is thirty microseconds.
 */
async function folderInMemory(): Promise<string | undefined> {
  const folder = '/dev/shm';
  try {
    const { bavail, bsize } = await statfs(folder);
    return Math.min(bavail * bsize, process.availableMemory()) < MEMORY_FOR_FILES ? undefined : folder;
  } catch {
    return undefined;
  }
}

function urlOf(adminUrl: string, database: string, login: { user: string; password: string }): string {
  const url = new URL(adminUrl);
  url.username = login.user;
  url.password = login.password;
  url.pathname = `/${database}`;
  return url.href;
}

async function execute(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
