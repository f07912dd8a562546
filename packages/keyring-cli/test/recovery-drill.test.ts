/** docs/runbooks/recover-from-a-dump.md, executed: everything but a dump, a backup and an identity is destroyed, and comes back. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createRootKeyFile, migrate, openKeyring, verifyReceipt, type Keyring, type Receipt } from '@meshhook/keyring';
import { openBackupFile } from '@meshhook/keyring-backup';
import { startScratchCluster, type ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { canRun } from '../../../test/support/required.ts';
import { build } from './support/cli.ts';

const root = path.join(import.meta.dirname, '../../..');
const bin = '/usr/lib/postgresql/15/bin';
const hasTools = canRun('pg15', existsSync(path.join(bin, 'pg_dump')), 'there is no PostgreSQL 15 with its pg_dump');

const OWNER = 'drill_owner';
const SERVICE = 'drill_service';
const DATABASE = 'meshhook';

let folder: string;
const clusters: ScratchCluster[] = [];

beforeAll(async () => {
  build();
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-drill-'));
});
afterAll(async () => {
  for (const cluster of clusters) await cluster.stop();
  await rm(folder, { recursive: true, force: true });
});

async function startServer(): Promise<ScratchCluster> {
  const cluster = await startScratchCluster({ binDirectory: bin });
  clusters.push(cluster);
  return cluster;
}

function urlOf(cluster: ScratchCluster, user: string): string {
  const url = new URL(cluster.adminUrl(DATABASE));
  url.username = user;
  url.password = 'test';
  return url.href;
}

/** The commands of one part of the runbook. */
async function commandsOf(part: string): Promise<string> {
  const runbook = await readFile(path.join(root, 'docs/runbooks/recover-from-a-dump.md'), 'utf8');
  const from = runbook.indexOf(`recovery-drill.test.ts: ${part} -->`);
  expect(from, part).toBeGreaterThan(0);
  const [, commands = ''] = /```sh\n([^]*?)```/.exec(runbook.slice(from)) ?? [];
  return commands.replace(/^ {3}/gm, '');
}

async function follow(part: string, cluster: ScratchCluster, more: Record<string, string>): Promise<string> {
  const admin = new URL(cluster.adminUrl());
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', await commandsOf(part)], {
    cwd: folder,
    env: {
      PATH: `${path.join(root, 'node_modules/.bin')}:${bin}:/usr/bin:/bin`,
      PGHOST: admin.hostname,
      PGPORT: admin.port,
      PGUSER: admin.username,
      PGPASSWORD: decodeURIComponent(admin.password),
      ...more,
    },
  });
  return stdout;
}

interface Known {
  readonly projectId: string;
  readonly secrets: ReadonlyMap<string, string>;
  /** What `keys.list` says of its versions, but for what only now is true. */
  readonly versions: unknown;
  readonly receipts: readonly Receipt[];
}

async function versionsOf(keyring: Keyring): Promise<unknown> {
  const list = await keyring.keys.list();
  return list.map(({ id, version, status, fingerprint, rows, createdAt }) => [
    id,
    version,
    status,
    fingerprint,
    rows,
    createdAt,
  ]);
}

async function receiptsOf(keyring: Keyring): Promise<Receipt[]> {
  const rotations = await keyring.rotations.list();
  return (await Promise.all(rotations.map(({ id }) => keyring.rotations.receipts(id)))).flat();
}

/** A project that was rotated twice, with a version that was destroyed. */
async function fill(keyring: Keyring, adminUrl: string): Promise<Known> {
  const { id: projectId } = await keyring.projects.create({ name: 'acme' });
  const secrets = new Map<string, string>();
  for (let number = 1; number <= 40; number++) secrets.set(`SECRET_${String(number)}`, `value ${String(number)} ✓`);
  for (const [name, value] of secrets) await keyring.secrets.put(projectId, name, value);
  const rotate = async (): Promise<void> => {
    const { id } = await keyring.rotations.request({ projects: [projectId] });
    expect((await keyring.rotations.run(id)).state).toBe('completed');
  };
  await query(adminUrl, `insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [projectId]);
  const [first] = await keyring.keys.list({ projectId });
  await rotate();
  await keyring.keys.destroy(first?.id ?? '', { reason: 'its retention is over' });
  await rotate();
  const last = await keyring.secrets.put(projectId, 'WRITTEN_LAST', 'after the rotations');
  expect(last.created).toBe(true);
  secrets.set('WRITTEN_LAST', 'after the rotations');
  return { projectId, secrets, versions: await versionsOf(keyring), receipts: await receiptsOf(keyring) };
}

test.skipIf(!hasTools)(
  'a database whose server and root key were destroyed comes back from its dump and its backup, whole',
  async () => {
    const identity = await generateX25519Identity();
    await writeFile(path.join(folder, 'identity.txt'), `${identity}\n`, { mode: 0o600 });
    const RECIPIENT = await identityToRecipient(identity);

    // ── before ──
    const old = await startServer();
    await query(old.adminUrl(), `create role ${OWNER} login createrole password 'test'`);
    await query(old.adminUrl(), `create role ${SERVICE} login password 'test'`);
    await query(old.adminUrl(), `create database ${DATABASE} owner ${OWNER}`);
    await migrate({ connectionString: urlOf(old, OWNER) });
    await query(old.adminUrl(DATABASE), `grant keyring_service to ${SERVICE}`);
    const oldKey = path.join(folder, 'old-root.key');
    await createRootKeyFile(`file:${oldKey}`);
    const keyring = await openKeyring({ database: urlOf(old, SERVICE), rootKey: `file:${oldKey}` });
    const known = await fill(keyring, old.adminUrl(DATABASE));
    await keyring.close();
    const { fingerprint: oldFingerprint } = (
      await query<{ fingerprint: string }>(old.adminUrl(DATABASE), 'select fingerprint from keyring.root_keys')
    )[0] ?? { fingerprint: '' };
    await follow('before', old, {
      RECIPIENT,
      PGDATABASE: DATABASE,
      DATABASE_URL: urlOf(old, SERVICE),
      MESHHOOK_ROOT_KEY: `file:${oldKey}`,
    });

    // ── the machine is gone ──
    await old.stop();
    await rm(oldKey);

    // ── after ──
    const fresh = await startServer();
    await follow('restore', fresh, { DATABASE, OWNER });
    for (const role of [OWNER, SERVICE]) await query(fresh.adminUrl(), `alter role ${role} password 'test'`);
    const said = await follow('recover', fresh, { DATABASE_URL: urlOf(fresh, OWNER) });
    expect(said).toContain('1 wrapping key put under it, and read back');
    expect(said).toContain(oldFingerprint);
    expect(said).toMatch(/Healthy: opened 41 rows, tried 2 key versions/);

    const rootKey = `file:${path.join(folder, 'new-root.key')}`;
    const back = await openKeyring({ database: urlOf(fresh, SERVICE), rootKey });
    for (const [name, value] of known.secrets)
      expect(await back.secrets.get(known.projectId, name)).toMatchObject({ value, stale: false });
    expect(await versionsOf(back)).toEqual(known.versions);
    // Receipts are those of before, and verify with the public keys that the backup kept.
    const { signingKeys } = await openBackupFile(await readFile(path.join(folder, 'keyring.age')), {
      identities: [identity],
    });
    const trusted = new Map(signingKeys.map(({ id, publicKey }) => [id, Buffer.from(publicKey, 'base64')]));
    const receipts = await receiptsOf(back);
    expect(receipts).toEqual(known.receipts);
    expect(receipts).toHaveLength(2);
    for (const receipt of receipts) expect(verifyReceipt(receipt, trusted.get(receipt.keyId)).trusted).toBe(true);
    const entries = (await back.audit.list()).map(({ action }) => action);
    expect(entries).toEqual(expect.arrayContaining(['root_key.recovered', 'key.destroyed']));
    // And it is a keyring like any other: it writes, and rotates, with the signing key of before.
    await back.secrets.put(known.projectId, 'NEW', 'after all that');
    const { id } = await back.rotations.request({ projects: 'all' });
    expect((await back.rotations.run(id)).state).toBe('completed');
    const [receipt] = await back.rotations.receipts(id);
    expect(receipt?.publicKey).toBe(known.receipts[0]?.publicKey);
    await back.close();

    const again = await follow('again', fresh, {
      RECIPIENT,
      DATABASE_URL: urlOf(fresh, SERVICE),
      MESHHOOK_ROOT_KEY: rootKey,
    });
    expect(again).toContain('Opens this database');
    const states = await query(fresh.adminUrl(DATABASE), 'select state from keyring.root_keys order by created_at');
    expect(states).toEqual([{ state: 'disabled' }, { state: 'enabled' }]);
  },
);
