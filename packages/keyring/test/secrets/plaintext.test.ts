import { createCipheriv, randomBytes } from 'node:crypto';
import type { Keyring, Statement } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { interceptDatabase } from '../engine/support/intercept.ts';
import { openTheDoor } from '../engine/support/scenarios.ts';
import { clearProjects, codeOf } from '../engine/support/world.ts';

const VALUE = 'sk_live_THIS-IS-THE-PLAINTEXT-0123456789';

let installation: Installation;
let sent: Statement[];
let keyring: Keyring;
let projectId: string;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  sent = [];
  keyring = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        sent.push(statement);
        return send();
      }),
  });
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
});
afterAll(() => installation.end());

/** Every way in which a value could stand in a statement: as text, as bytes, in hex or base64, in JSON. */
function expectNoPlaintext(value = VALUE): void {
  const bytes = Buffer.from(value);
  const forms = [value, bytes.toString('hex'), bytes.toString('base64').slice(0, -4), encodeURIComponent(value)];
  const inspected = (found: unknown): boolean => {
    if (typeof found === 'string') return forms.some((form) => found.includes(form));
    if (found instanceof Uint8Array) return Buffer.from(found).includes(bytes);
    if (Array.isArray(found)) return found.some(inspected);
    return found !== null && typeof found === 'object' && inspected(JSON.stringify(found));
  };
  expect(sent.length).toBeGreaterThan(0);
  for (const statement of sent) {
    expect(inspected(statement.text), statement.text).toBe(false);
    expect(inspected(statement.values ?? []), statement.text).toBe(false);
  }
}

async function insertOld(name: string, stored: Buffer): Promise<void> {
  await installation.sql('insert into public.secrets (project_id, key, value_encrypted) values ($1, $2, $3)', [
    projectId,
    name,
    stored,
  ]);
}

test('no statement of a put, get, list, remove or retry holds the value', async () => {
  await keyring.secrets.put(projectId, 'A', VALUE);
  await keyring.secrets.put(projectId, 'A', Buffer.from(VALUE));
  const other = await installation.open();
  await other.rotations.run((await other.rotations.request({ projects: 'all' })).id);
  await keyring.secrets.put(projectId, 'A', VALUE);
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe(VALUE);
  await keyring.secrets.list(projectId);
  await keyring.secrets.remove(projectId, 'A');
  expectNoPlaintext();
});

test('no statement of a rotation, rollback, preview or doctor holds a value', async () => {
  await keyring.secrets.put(projectId, 'A', VALUE);
  await keyring.rotations.preview({ projects: 'all' });
  const { id } = await keyring.rotations.request({ projects: 'all', reason: 'test' });
  await keyring.rotations.run(id);
  await keyring.doctor();
  expect((await keyring.secrets.get(projectId, 'A'))?.value).toBe(VALUE);
  expectNoPlaintext();
});

test('no statement of an adoption holds a value, not even the compare-and-set', async () => {
  await openTheDoor(installation);
  await insertOld('TEXT', Buffer.from(VALUE));
  expect(await keyring.secrets.adopt({ dryRun: true })).toMatchObject({ found: 1, remaining: 1 });
  expect(await keyring.secrets.adopt({ finish: true })).toMatchObject({ adopted: 1, remaining: 0 });
  expect((await keyring.secrets.get(projectId, 'TEXT'))?.value).toBe(VALUE);
  expectNoPlaintext();
});

test('no statement of an adoption holds the legacy key, or a value under it', async () => {
  await openTheDoor(installation);
  const legacyKey = randomBytes(32);
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', legacyKey, nonce);
  const stored = Buffer.concat([nonce, cipher.update(VALUE), cipher.final(), cipher.getAuthTag()]);
  await insertOld('LEGACY', stored);
  await keyring.secrets.adopt({ legacyKey, finish: true });
  expect((await keyring.secrets.get(projectId, 'LEGACY'))?.value).toBe(VALUE);
  expectNoPlaintext();
  expectNoPlaintext(legacyKey.toString('latin1'));
  expectNoPlaintext(legacyKey.toString('hex'));
});

test('no error of a refused put or a lost connection holds the value', async () => {
  const texts: string[] = [];
  const note = (error: unknown): void => {
    const { message, stack, remedy, details, cause } = error as Error & { remedy?: string; details?: unknown };
    texts.push(JSON.stringify([message, stack, remedy, details, cause, String(error)]));
  };
  await keyring.secrets.put('00000000-0000-4000-8000-000000000000', 'A', VALUE).catch(note);
  await keyring.secrets.put(projectId, '', VALUE).catch(note);
  await keyring.secrets.put(projectId, 'A', VALUE.repeat(2000)).catch(note);
  const broken = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send, cut }) => {
        if (!statement.text.includes('insert into public.secrets')) return send();
        cut();
        throw new Error('socket hang up');
      }),
  });
  await broken.secrets.put(projectId, 'A', VALUE).catch(note);
  expect(texts).toHaveLength(4);
  for (const text of texts) expect(text).not.toContain(VALUE.slice(0, 20));
});

test('no row, audit entry or receipt holds a value in any column', async () => {
  await keyring.secrets.put(projectId, 'A', VALUE);
  await keyring.rotations.run((await keyring.rotations.request({ projects: 'all' })).id);
  const tables = await installation.sql<{ table: string }>(
    `select format('%I.%I', schemaname, tablename) as table from pg_tables where schemaname in ('public', 'keyring')`,
  );
  expect(tables.length).toBeGreaterThan(10);
  for (const { table } of tables) {
    const rows = await installation.sql<{ row: string }>(`select t::text as row from ${table} t`);
    for (const { row } of rows) {
      expect(row).not.toContain(VALUE.slice(0, 20));
      expect(row).not.toContain(Buffer.from(VALUE).toString('hex').slice(0, 40));
    }
  }
  expect(await codeOf(keyring.ready())).toBe('nothing');
});
