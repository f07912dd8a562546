import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, migrate, openKeyring, type Keyring } from '@meshhook/keyring';
import { startScratchCluster } from '@meshhook/keyring-embedded/scratch';
import pg from 'pg';
import type { BrowserContext, BrowserContextOptions } from 'playwright-core';
import { openBrowser } from './browser.ts';
import { fillDemo, type Demo } from './demo.ts';
import { startServer } from './launch.ts';

/** The demo, served, and a browser: outside Vitest, for what is looked at. */
export interface Stage extends AsyncDisposable {
  readonly url: string;
  readonly adminUrl: string;
  readonly demo: Demo;
  readonly keyring: Keyring;
  readonly leakedKey: string;
  signIn(options?: BrowserContextOptions): Promise<BrowserContext>;
}

const nothing: Demo = { projects: new Map(), blocked: '', completed: '' };

export async function openStage({ empty = false } = {}): Promise<Stage> {
  await using opened = new AsyncDisposableStack();
  const cluster = await startScratchCluster();
  opened.defer(() => cluster.stop());
  const home = await mkdtemp(path.join(tmpdir(), 'keyring-stage-'));
  opened.defer(() => rm(home, { recursive: true, force: true }));

  const owner = { user: 'stage_owner', password: randomBytes(12).toString('hex') };
  const service = { user: 'stage_service', password: randomBytes(12).toString('hex') };
  const adminUrl = cluster.adminUrl('stage');
  const urlOf = ({ user, password }: typeof owner): string =>
    Object.assign(new URL(adminUrl), { username: user, password }).href;
  await run(cluster.adminUrl(), [
    `create role ${owner.user} login createrole password '${owner.password}'`,
    `create role ${service.user} login password '${service.password}'`,
    `create database stage owner ${owner.user}`,
  ]);
  await migrate({ connectionString: urlOf(owner) });
  await run(adminUrl, [`grant keyring_service to ${service.user}`]);

  const rootKey = `file:${path.join(home, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const keyring = await openKeyring({ database: urlOf(service), rootKey, actor: 'ada@laptop' });
  opened.defer(() => keyring.close());
  const demo = empty ? nothing : await fillDemo(keyring, adminUrl);
  const mobile = demo.projects.get('mobile-push');
  const keys = mobile === undefined ? [] : await keyring.keys.list({ projectId: mobile });
  const leaked = keys.find(({ status }) => status === 'compromised');

  const server = await startServer({ DATABASE_URL: urlOf(service), MESHHOOK_ROOT_KEY: rootKey, MESHHOOK_HOME: home });
  opened.use(server);
  const browser = await openBrowser();
  opened.defer(() => browser.close());
  const token = (await readFile(path.join(home, 'api-token'), 'utf8')).trim();
  const all = opened.move();
  return {
    url: server.url,
    adminUrl,
    demo,
    keyring,
    leakedKey: leaked?.id ?? '',
    signIn: (options = {}) =>
      browser.newContext({ ...options, extraHTTPHeaders: { authorization: `Bearer ${token}` } }),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

async function run(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
