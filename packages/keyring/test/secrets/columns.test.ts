import { createCipheriv, randomBytes, randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { EncryptedColumns, Keyring } from '@meshhook/keyring';
import { Pool } from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bothWays, strikeEveryStatement } from '../engine/support/faults.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { auditPosition, auditSince, codeOf, expectHealthy, retire } from '../engine/support/world.ts';

const LABEL = 'hooks.token';

let installation: Installation;
let keyring: Keyring;
let columns: EncryptedColumns;
let projectId: string;
/** The application's own connections, as the service. */
let pool: Pool;
beforeEach(async () => {
  installation = await startInstallation();
  await addTable('hooks', 'uuid');
  keyring = await installation.open();
  ({ columns } = keyring);
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  pool = new Pool({ connectionString: installation.test.serviceUrl, max: 4 });
});
afterEach(async () => {
  await pool.end();
  await installation.end();
});

async function addTable(name: string, idType: string): Promise<void> {
  await installation.asOwner(
    `create table public.${name} (
       id ${idType} primary key, project_id uuid not null references public.projects (id) on delete cascade,
       url text not null default 'https://example.test', token bytea, token_key_id uuid)`,
    `select keyring.register_encrypted_column('${name}.token', 'public.${name}', 'token', 'token_key_id')`,
  );
}

/** A row without a value. */
async function addRow(id: string = randomUUID(), table = 'hooks', project = projectId): Promise<string> {
  await pool.query(`insert into public.${table} (id, project_id) values ($1, $2)`, [id, project]);
  return id;
}

/** A row with its value, by one statement of the application's. */
async function insert(value: string, rowId: string = randomUUID(), project = projectId): Promise<string> {
  await columns.store(LABEL, { projectId: project, rowId }, value, ({ envelope, keyId }) =>
    pool.query('insert into public.hooks (id, project_id, token, token_key_id) values ($1, $2, $3, $4)', [
      ...[rowId, project, envelope, keyId],
    ]),
  );
  return rowId;
}

async function stored(rowId: string): Promise<Buffer> {
  const { rows } = await pool.query<{ token: Buffer }>('select token from public.hooks where id = $1', [rowId]);
  return rows[0]?.token ?? Buffer.alloc(0);
}

const valueOf = async (rowId: string, label = LABEL): Promise<string | undefined> =>
  (await columns.get(label, { projectId, rowId }))?.value;

test('a value that is set is read again, is rotated with the secrets, and is in the trail', async () => {
  const audited = await auditPosition(installation);
  const rowId = await addRow();
  expect(await columns.get(LABEL, { projectId, rowId })).toBeUndefined();
  const { keyId } = await columns.set(LABEL, { projectId, rowId }, 'whsec_1');
  await keyring
    .as({ name: 'user:6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11', kind: 'user' })
    .columns.set(LABEL, { projectId, rowId }, Buffer.from('whsec_2'));
  expect(await columns.get(LABEL, { projectId, rowId })).toMatchObject({
    label: LABEL,
    rowId,
    keyId,
    value: 'whsec_2',
  });

  await retire(installation, keyring, { id: projectId });
  const moved = await columns.get(LABEL, { projectId, rowId });
  expect(moved?.value).toBe('whsec_2');
  expect(moved?.keyId).not.toBe(keyId);
  expect(moved?.bytes).toEqual(Buffer.from('whsec_2'));

  expect((await auditSince(installation, audited))['row.written']).toBe(2);
  const [second, first] = await keyring.audit.list({ projectId, action: 'row.written' });
  expect(first).toMatchObject({
    subject: `row:${LABEL}/${rowId}`,
    details: { label: LABEL, row: rowId, key: keyId, previousKey: null },
  });
  expect(second).toMatchObject({ kind: 'user', details: { previousKey: keyId } });
  await expectHealthy(keyring);
});

test('what is read prints without its value', async () => {
  const rowId = await insert('whsec_never_printed');
  const read = await columns.get(LABEL, { projectId, rowId });
  expect(read?.value).toBe('whsec_never_printed');
  for (const text of [inspect(read, { depth: 9, showHidden: true }), JSON.stringify(read), String(read)]) {
    expect(text).not.toContain('never_printed');
    expect(text).toContain(rowId);
  }
});

test('an exposure report names values in columns: since when, and until when where one was replaced', async () => {
  const replaced = await addRow();
  await columns.set(LABEL, { projectId, rowId: replaced }, 'one');
  const own = await insert('by a statement of its own');
  const old = await retire(installation, keyring, { id: projectId });
  await columns.set(LABEL, { projectId, rowId: replaced }, 'two');
  const later = await addRow();
  await columns.set(LABEL, { projectId, rowId: later }, 'three');

  const { secrets } = await keyring.keys.exposure(old);
  expect(secrets.map(({ rowId, label }) => ({ rowId, label }))).toEqual(
    expect.arrayContaining([
      { rowId: replaced, label: LABEL },
      { rowId: own, label: LABEL },
    ]),
  );
  expect(secrets).toHaveLength(2);
  const of = (rowId: string) => secrets.find((one) => one.rowId === rowId);
  expect(of(replaced)?.writtenAt).toBeInstanceOf(Date);
  expect(of(replaced)?.replacedAt).toBeInstanceOf(Date);
  expect(of(own)).toMatchObject({ writtenAt: undefined, replacedAt: undefined });
});

describe('a statement of the application', () => {
  test('that meets a rotation is made again, under the new version', async () => {
    await insert('first');
    const tried: string[] = [];
    const rowId = randomUUID();
    const result = await columns.store(LABEL, { projectId, rowId }, 'whsec_met', async ({ envelope, keyId }) => {
      if (tried.length === 0) await retire(installation, keyring, { id: projectId });
      tried.push(keyId);
      const { rowCount } = await pool.query(
        'insert into public.hooks (id, project_id, token, token_key_id) values ($1, $2, $3, $4)',
        [rowId, projectId, envelope, keyId],
      );
      return rowCount;
    });
    expect(result).toBe(1);
    expect(new Set(tried).size).toBe(2);
    const [, now] = await keyring.keys.list({ projectId });
    expect(await columns.get(LABEL, { projectId, rowId })).toMatchObject({ value: 'whsec_met', keyId: now?.id });
    await expectHealthy(keyring);
  });

  test.each([
    [
      'a refusal inside of another error',
      Object.assign(new Error('wrapped'), { cause: { cause: { code: 'MK001' } } }),
      2,
    ],
    ['a serialization failure', { code: '40001' }, 2],
    ['a deadlock', { code: '40P01' }, 2],
    ['an error of its own', new RangeError('of its own'), 1],
    ['a duplicate', { code: '23505' }, 1],
    ['nothing at all', undefined, 1],
  ])('is made again, or its error passed on: %s', async (_what, error, times) => {
    let calls = 0;
    const rowId = await addRow();
    const storing = columns.store(LABEL, { projectId, rowId }, 'value', () => {
      calls += 1;
      // What it is rejected with is up to the application.
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      return calls === 1 ? Promise.reject(error) : Promise.resolve('done');
    });
    if (times === 2) expect(await storing).toBe('done');
    else await expect(storing.catch((thrown: unknown) => [thrown])).resolves.toEqual([error]);
    expect(calls).toBe(times);
  });

  test('in the middle of a transaction cannot be made again: the transaction can', async () => {
    await insert('first');
    const client = await pool.connect();
    const rowId = randomUUID();
    const inTransaction = async (): Promise<void> => {
      await client.query('begin');
      try {
        await columns.store(LABEL, { projectId, rowId }, 'value', ({ envelope, keyId }) =>
          client.query('insert into public.hooks (id, project_id, token, token_key_id) values ($1, $2, $3, $4)', [
            ...[rowId, projectId, envelope, keyId],
          ]),
        );
        await client.query('commit');
      } catch (error) {
        await client.query('rollback');
        throw error;
      }
    };
    try {
      await retire(installation, keyring, { id: projectId });
      await expect(inTransaction()).rejects.toMatchObject({
        code: 'contended',
        remedy: expect.stringContaining('Begin the transaction anew') as string,
      });
      await inTransaction();
    } finally {
      client.release();
    }
    expect(await valueOf(rowId)).toBe('value');
  });

  test('that is refused for ever gives up', async () => {
    const rowId = await addRow();
    const refusal = Object.assign(new Error('refused'), { code: 'MK001' });
    expect(await codeOf(columns.store(LABEL, { projectId, rowId }, 'value', () => Promise.reject(refusal)))).toBe(
      'contended',
    );
  });
});

describe('a ciphertext', () => {
  test('opens where it belongs, and nowhere else, with one and the same error', async () => {
    await addTable('others', 'uuid');
    const other = (await keyring.projects.create({ name: 'other' })).id;
    const rowId = await insert('whsec_here');
    await insert('of another project', randomUUID(), other);
    const envelope = await stored(rowId);
    expect((await columns.open(LABEL, { projectId, rowId }, envelope)).value).toBe('whsec_here');

    const tampered = Buffer.from(envelope);
    tampered[tampered.length - 1]! ^= 1;
    const failures = await Promise.all(
      [
        columns.open(LABEL, { projectId, rowId: randomUUID() }, envelope),
        columns.open('others.token', { projectId, rowId }, envelope),
        columns.open(LABEL, { projectId: other, rowId }, envelope),
        columns.open(LABEL, { projectId, rowId }, tampered),
        columns.open(LABEL, { projectId, rowId }, Buffer.from('no envelope')),
        columns.open(LABEL, { projectId, rowId }, Buffer.alloc(0)),
      ].map((opening) => opening.catch((error: unknown) => error)),
    );
    const [first] = failures;
    expect(first).toMatchObject({ code: 'decryption_failed' });
    for (const failure of failures) expect(failure).toEqual(first);
  });

  test('under a version that was destroyed is said to be', async () => {
    const rowId = await insert('whsec_old');
    const envelope = await stored(rowId);
    const old = await retire(installation, keyring, { id: projectId });
    await installation.behindTheFence(
      `update keyring.encryption_keys set retention_until = now() - interval '1 day' where id = '${old}'`,
    );
    await keyring.keys.destroy(old, { reason: 'test' });
    const fresh = await installation.open();
    expect(await codeOf(fresh.columns.open(LABEL, { projectId, rowId }, envelope))).toBe('key_destroyed');
    expect((await fresh.columns.get(LABEL, { projectId, rowId }))?.value).toBe('whsec_old');
  });
});

test('a value whose writer loses any one statement is there or not, and the trail tells which', async () => {
  const points = await strikeEveryStatement({
    plans: bothWays,
    async prepare() {
      const owner = (await keyring.projects.create({ name: 'struck' })).id;
      return { row: { projectId: owner, rowId: await addRow(randomUUID(), 'hooks', owner) } };
    },
    async act({ row }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.columns.set(LABEL, row, 'one');
      await struck.columns.set(LABEL, row, 'two');
    },
    async recover({ row }) {
      const next = await installation.open();
      const value = (await next.columns.get(LABEL, row))?.value;
      expect([undefined, 'one', 'two']).toContain(value);
      const told = await next.audit.list({ projectId: row.projectId, action: 'row.written' });
      expect(told).toHaveLength([undefined, 'one', 'two'].indexOf(value));
      await next.columns.set(LABEL, row, 'three');
      expect((await next.columns.get(LABEL, row))?.value).toBe('three');
    },
  });
  expect(points).toBeGreaterThan(20);
  await expectHealthy(keyring);
});

describe('row ids', () => {
  test.each<[type: string, taken: (string | number | bigint)[], refused: (string | number | bigint)[]]>([
    ['uuid', ['6F1C2F0E-0B0A-4D43-9A53-0C6A2B5B8F11'], ['', 'one', '6f1c2f0e0b0a4d439a530c6a2b5b8f11', 7]],
    ['bigint', ['7', 8, 9n, -1, '9223372036854775807'], ['007', ' 7', '7.0', '-0', 1.5, 2 ** 53, Number.NaN, '', 'x']],
    ['numeric(10,2)', ['1.50', '-2.00'], ['1.5', 1.5, '01.50', 'x', '']],
    ['text', ['a', 'A', ' a ', 'ü', '7'], ['', 'x'.repeat(201), '\0', '\ud800']],
    ['char(3)', ['a', 'abc'], ['a ', 'abcd', '']],
    ['public.positive', ['1', 2], ['0', '01', 'x']],
  ])('of type %s are taken as PostgreSQL prints them', async (type, taken, refused) => {
    await installation.asOwner('create domain public.positive as int check (value > 0)');
    await addTable('things', type);
    for (const [number, rowId] of taken.entries()) {
      await columns.store('things.token', { projectId, rowId }, `value ${String(number)}`, ({ envelope, keyId }) =>
        pool.query('insert into public.things (id, project_id, token, token_key_id) values ($1, $2, $3, $4)', [
          ...[String(rowId), projectId, envelope, keyId],
        ]),
      );
    }
    await retire(installation, keyring, { id: projectId });
    for (const [number, rowId] of taken.entries()) {
      const row = { projectId, rowId };
      expect((await columns.get('things.token', row))?.value).toBe(`value ${String(number)}`);
      await columns.set('things.token', row, 'again');
      expect((await columns.get('things.token', row))?.value).toBe('again');
    }
    for (const rowId of refused) {
      const row = { projectId, rowId };
      expect(await codeOf(columns.get('things.token', row)), String(rowId)).toBe('invalid_argument');
      expect(await codeOf(columns.set('things.token', row, 'x'))).toBe('invalid_argument');
      expect(await codeOf(columns.store('things.token', row, 'x', () => Promise.resolve()))).toBe('invalid_argument');
      expect(await codeOf(columns.open('things.token', row, Buffer.alloc(60)))).toBe('invalid_argument');
    }
    await expectHealthy(keyring);
  });
});

test('what is not there is said not to be, and what cannot be a value is refused', async () => {
  const row = { projectId, rowId: randomUUID() };
  expect(await codeOf(columns.get('nowhere.token', row))).toBe('unregistered_column');
  expect(await codeOf(columns.adopt('nowhere.token'))).toBe('unregistered_column');
  expect(await codeOf(columns.set(LABEL, row, 'x'))).toBe('unknown_secret');
  expect(await columns.get(LABEL, row)).toBeUndefined();
  const other = (await keyring.projects.create({ name: 'other' })).id;
  const rowId = await insert('of acme');
  expect(await columns.get(LABEL, { projectId: other, rowId })).toBeUndefined();
  expect(await codeOf(columns.set(LABEL, { projectId: other, rowId }, 'x'))).toBe('unknown_secret');
  expect(await codeOf(columns.set(LABEL, { projectId: 'acme', rowId }, 'x'))).toBe('invalid_argument');
  for (const value of ['', Buffer.alloc(65_537), '\ud800']) {
    expect(await codeOf(columns.set(LABEL, { projectId, rowId }, value))).toBe('invalid_value');
  }
  const nowhere = columns.store(LABEL, { projectId: randomUUID(), rowId }, 'x', () => Promise.resolve());
  expect(await codeOf(nowhere)).toBe('unknown_project');
  expect(await valueOf(rowId)).toBe('of acme');
});

test('a table and its columns are found under the names that they have now', async () => {
  const rowId = await insert('before');
  expect(await valueOf(rowId)).toBe('before');
  await installation.asOwner(
    'create schema moved; grant usage on schema moved to keyring_service, keyring_owner, keyring_mover',
    'alter table public.hooks rename column token to secret_token',
    'alter table public.hooks rename to endpoints',
    'alter table public.endpoints set schema moved',
    `select keyring.register_encrypted_column('${LABEL}', 'moved.endpoints', 'secret_token', 'token_key_id')`,
  );
  expect(await valueOf(rowId)).toBe('before');
  await columns.set(LABEL, { projectId, rowId }, 'after');
  expect(await valueOf(rowId)).toBe('after');
  expect((await columns.list()).find(({ label }) => label === LABEL)).toEqual({
    label: LABEL,
    table: 'moved.endpoints',
    rowIdColumn: 'id',
    rowIdType: 'uuid',
    projectColumn: 'project_id',
    ciphertextColumn: 'secret_token',
    keyIdColumn: 'token_key_id',
    acceptsPlaintext: false,
  });
});

test('rows from before are adopted, those that a key is given for too; then plaintext is refused', async () => {
  const plain = await addRow();
  const encrypted = await addRow();
  const legacyKey = randomBytes(32);
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', legacyKey, nonce);
  const old = Buffer.concat([nonce, cipher.update('whsec_old'), cipher.final(), cipher.getAuthTag()]);
  await installation.behindTheFence('update public.hooks set token = $2 where id = $1', [
    plain,
    Buffer.from('whsec_plain'),
  ]);
  await installation.behindTheFence('update public.hooks set token = $2 where id = $1', [encrypted, old]);
  await addRow();
  expect(await codeOf(columns.get(LABEL, { projectId, rowId: plain }))).toBe('illegal_state');

  expect(await columns.adopt(LABEL, { dryRun: true })).toMatchObject({
    found: 2,
    adopted: 0,
    failed: [{ rowId: encrypted }],
  });
  expect(await columns.adopt(LABEL)).toMatchObject({ found: 2, adopted: 1, remaining: 1 });
  expect(await codeOf(columns.adopt(LABEL, { finish: true }))).toBe('illegal_state');
  expect(await columns.adopt(LABEL, { legacyKey, finish: true })).toMatchObject({ adopted: 1, finished: true });
  expect([await valueOf(plain), await valueOf(encrypted)]).toEqual(['whsec_plain', 'whsec_old']);

  await expect(addPlaintext()).rejects.toMatchObject({ code: 'MK002' });
  const adoptions = await keyring.audit.list({ action: 'secret.adopted' });
  expect(adoptions.map(({ details }) => details)).toEqual([
    { label: LABEL, rows: 1 },
    { label: LABEL, rows: 1 },
  ]);
  await expectHealthy(keyring);
});

async function addPlaintext(): Promise<void> {
  await pool.query('insert into public.hooks (id, project_id, token) values ($1, $2, $3)', [
    ...[randomUUID(), projectId, Buffer.from('plaintext')],
  ]);
}

test('writers of both kinds and readers lose nothing while the project is rotated and turned back', async () => {
  const rows = await Promise.all(Array.from({ length: 6 }, (_, number) => insert(`row ${String(number)}, 0`)));
  let going = true;
  const written = new Map<string, number>();
  const writers = rows.map(async (rowId, number) => {
    const row = { projectId, rowId };
    for (let round = 1; going; round++) {
      const value = `row ${String(number)}, ${String(round)}`;
      if (number % 2 === 0) await columns.set(LABEL, row, value);
      else {
        await columns.store(LABEL, row, value, ({ envelope, keyId }) =>
          pool.query('update public.hooks set token = $2, token_key_id = $3 where id = $1', [rowId, envelope, keyId]),
        );
      }
      expect(await valueOf(rowId)).toBe(value);
      written.set(rowId, round);
    }
  });
  for (let turn = 0; turn < 4; turn++) {
    const rotating = await installation.open({ sweepBatchSize: 2 });
    const { id } = await rotating.rotations.request({ projects: [projectId] });
    expect((await rotating.rotations.run(id)).state).toBe('completed');
  }
  going = false;
  await Promise.all(writers);
  for (const [number, rowId] of rows.entries()) {
    expect(await valueOf(rowId)).toBe(`row ${String(number)}, ${String(written.get(rowId) ?? 0)}`);
  }
  await expectHealthy(keyring);
});
