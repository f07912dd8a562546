import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation, type Sealed } from './support/installation.ts';
import { meeting, moved, readBack, type Meeting } from './support/meetings.ts';
import { codeOf, detailOf, expectHealthy } from './support/world.ts';

// Rows 1 to 9 of `tokens` are in `tokens_low`, 10 to 19 in `tokens_high`; what is above is for a test to attach.
const LABEL = 'tokens.token';
const COLUMNS = 'id bigint not null primary key, project_id uuid not null, token bytea, token_key_id uuid';
const IDS = [1, 2, 3, 10, 11];

let installation: Installation;
let keyring: Keyring;
let projectId: string;
let old: string;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  await keyring.secrets.put(projectId, 'A', 'a');
  await installation.asOwner(
    `create table public.tokens (${COLUMNS}) partition by range (id)`,
    'create table public.tokens_low partition of public.tokens for values from (1) to (10)',
    'create table public.tokens_high partition of public.tokens for values from (10) to (20)',
    `select keyring.register_encrypted_column('${LABEL}', 'public.tokens', 'token', 'token_key_id')`,
  );
  for (const id of IDS) await addRow('tokens', id);
  old = (await keyring.keys.list({ projectId }))[0]?.id ?? '';
});
afterEach(() => installation.end());

const sealed = (id: number, keyId?: string): Promise<Sealed> =>
  installation.seal({ projectId, label: LABEL, rowId: String(id) }, `value ${String(id)}`, keyId);

async function addRow(table: string, id: number, row?: Sealed): Promise<void> {
  const { envelope, keyId } = row ?? (await sealed(id));
  await installation.sql(`insert into public.${table} values ($1, $2, $3, $4)`, [id, projectId, envelope, keyId]);
}

const detach = (): Promise<void> =>
  installation.asOwner('alter table public.tokens detach partition public.tokens_high');
const attach = (table: string, from: number): Promise<void> =>
  installation.asOwner(
    `alter table public.tokens attach partition public.${table} for values from (${String(from)}) to (${String(from + 10)})`,
  );
/** A table without a fence, as an application fills one before it attaches it. */
const makeAside = (): Promise<void> => installation.asOwner(`create table public.tokens_aside (${COLUMNS})`);

/** A keyring whose rotations meet these. */
const openMeeting = (...meetings: Meeting[]): Promise<Keyring> => installation.open({ wrap: meeting(...meetings) });

async function rotate(by = keyring): Promise<string> {
  const { id } = await by.rotations.request({ projects: 'all' });
  await by.rotations.run(id);
  return id;
}

/** Completed, every row of the table counted in the read-back, opening to itself, and under the new version. */
async function expectCompleted(id: string, ids: readonly number[]): Promise<void> {
  const { state, projectDetails } = await detailOf(keyring, id);
  const verified = projectDetails.find((project) => project.projectId === projectId)?.rowsVerified;
  expect({ state, verified }).toEqual({ state: 'completed', verified: ids.length + 1 });
  const rows = await installation.sql<{ id: number; envelope: Buffer; keyId: string; fresh: boolean }>(
    `select t.id::int as id, t.token as envelope, t.token_key_id as "keyId", r.primary_key_id = t.token_key_id as fresh
     from public.tokens t join keyring.keyrings r using (project_id) order by t.id`,
  );
  expect(rows.map((row) => [row.id, row.fresh])).toEqual(ids.map((one) => [one, true]));
  for (const row of rows) {
    const place = { projectId, label: LABEL, rowId: String(row.id) };
    expect(await installation.unseal(place, row)).toBe(`value ${String(row.id)}`);
  }
  await expectHealthy(keyring);
}

async function findings(): Promise<string[]> {
  const usual = ['no_backup', 'single_admin', 'audit_not_sealed'];
  return (await keyring.doctor()).findings.map(({ code }) => code).filter((code) => !usual.includes(code));
}

describe.each([
  ['one project', 0],
  ['projects together', 2],
])('%s', (_way, others) => {
  beforeEach(async () => {
    for (let other = 1; other <= others; other++) {
      const { id } = await keyring.projects.create({ name: `other ${String(other)}` });
      await keyring.secrets.put(id, 'A', 'a');
    }
  });

  test('rows under an old version that are attached during the read-back are moved', async () => {
    await makeAside();
    await addRow('tokens_aside', 20);
    const rotator = await openMeeting({ at: readBack('public.tokens'), meet: () => attach('tokens_aside', 20) });
    await expectCompleted(await rotate(rotator), [...IDS, 20]);
  });

  test('rows that are attached during the read-back are read back as well', async () => {
    await makeAside();
    const meet = async (): Promise<void> => {
      // Under the new version already, and of another row.
      await addRow('tokens_aside', 20, await sealed(21));
      await attach('tokens_aside', 20);
    };
    const id = await rotate(await openMeeting({ at: readBack('public.tokens'), meet }));
    const { state, quarantine } = await detailOf(keyring, id);
    expect(state).toBe('blocked');
    expect(quarantine).toMatchObject([{ projectId, label: LABEL, rowId: '20', reason: 'does_not_open' }]);
  });

  test('a partition that was away while others were read back is read back after it', async () => {
    const rotator = await openMeeting(
      { at: readBack('public.secrets'), meet: detach },
      { at: readBack('public.tokens'), meet: () => attach('tokens_high', 10) },
    );
    await expectCompleted(await rotate(rotator), IDS);
  });
});

test('a partition that is made in the sweep or in the read-back takes rows under the new version alone', async () => {
  const add = (from: number) => async (): Promise<void> => {
    await installation.asOwner(
      `create table public.tokens_${String(from)} partition of public.tokens for values from (${String(from)}) to (${String(from + 10)})`,
    );
    expect(await codeOf(addRow('tokens', from, await sealed(from, old)))).toBe('MK001');
    await addRow('tokens', from);
  };
  const rotator = await openMeeting(
    { at: moved(LABEL), meet: add(20) },
    { at: readBack('public.tokens'), meet: add(30) },
  );
  await expectCompleted(await rotate(rotator), [...IDS, 20, 30]);
});

test('a partition that is detached in the sweep blocks the rotation by name, until it is attached again', async () => {
  const id = await rotate(await openMeeting({ at: moved(LABEL), meet: detach }));
  const [project] = (await detailOf(keyring, id)).projectDetails;
  expect(project).toMatchObject({ state: 'blocked', errorCode: 'unregistered_column' });
  expect(project?.errorDetail).toContain('tokens_high.token_key_id');
  expect(await findings()).toEqual(['unregistered_column', 'rotation_blocked']);
  await attach('tokens_high', 10);
  await keyring.rotations.resume(id);
  await keyring.rotations.run(id);
  await expectCompleted(id, IDS);
});

// `detach … concurrently` commits that the partition is on its way out, then waits for whoever still reads it. From then on it is
// not read by way of its table, whose foreign key it still has; interrupted, it stays so.
test('a partition that is on its way out is not passed over: nothing completes, and nothing is destroyed, without its rows', async () => {
  const isPending = async (): Promise<boolean> =>
    (await installation.sql('select from pg_catalog.pg_inherits where inhdetachpending')).length === 1;
  await using reader = await session(installation.test.ownerUrl, 'reader');
  await using detacher = await session(installation.test.ownerUrl, 'detacher');
  await reader.query('begin; select from public.tokens');
  const [{ pid } = { pid: 0 }] = (await detacher.query<{ pid: number }>('select pg_backend_pid() as pid')).rows;
  let detaching: Promise<unknown> | undefined;
  const rotator = await openMeeting({
    // At the promote.
    at: (text) => text.includes('set primary_key_id = '),
    async meet() {
      detaching = detacher
        .query('alter table public.tokens detach partition public.tokens_high concurrently')
        .catch((error: unknown) => error);
      await expect.poll(isPending).toBe(true);
    },
  });
  const id = await rotate(rotator);
  const blocked = async (): Promise<void> => {
    const [project] = (await detailOf(keyring, id)).projectDetails;
    expect(project).toMatchObject({ state: 'blocked', errorCode: 'unregistered_column' });
    expect(project?.errorDetail).toContain('tokens_high: is being detached');
    expect(await findings()).toContain('detaching_partition');
  };
  await blocked();
  await installation.sql('select pg_cancel_backend($1)', [pid]);
  expect(await detaching).toMatchObject({ code: '57014' });
  await reader.query('rollback');
  await keyring.rotations.resume(id);
  await keyring.rotations.run(id);
  await blocked();
  await installation.asOwner('alter table public.tokens detach partition public.tokens_high finalize');
  expect(await findings()).toEqual(['unregistered_column', 'rotation_blocked']);
  await attach('tokens_high', 10);
  await keyring.rotations.resume(id);
  await keyring.rotations.run(id);
  await expectCompleted(id, IDS);
});

test('what is attached with rows that the fence would have refused is named: plaintext, stale, and not its own', async () => {
  const other = (await keyring.projects.create({ name: 'other' })).id;
  await keyring.secrets.put(other, 'A', 'a');
  const foreign = await installation.seal({ projectId: other, label: LABEL, rowId: '31' }, 'of another project');
  await installation.asOwner(
    `create table public.tokens_aside (${COLUMNS}) partition by range (id)`,
    'create table public.tokens_aside_low partition of public.tokens_aside for values from (20) to (30)',
    'create table public.tokens_aside_high partition of public.tokens_aside for values from (30) to (40)',
  );
  const attachAll = (): Promise<void> =>
    installation.asOwner('alter table public.tokens attach partition public.tokens_aside for values from (20) to (40)');
  await addRow('tokens_aside', 31, foreign);
  expect(await codeOf(attachAll())).toBe('23503');
  // Under the name of a version of our own.
  await installation.sql('update public.tokens_aside set token_key_id = $1', [old]);
  await rotate();
  await installation.sql(`insert into public.tokens_aside values (20, $1, 'plain', null)`, [projectId]);
  await addRow('tokens_aside', 30, await sealed(30, old));
  await attachAll();
  expect(await findings()).toEqual(['malformed', 'not_encrypted', 'stale_rows']);

  await installation.behindTheFence('update keyring.encryption_keys set retention_until = now() where id = $1', [old]);
  expect(await codeOf(keyring.keys.destroy(old, { reason: 'test' }))).toBe('key_in_use');
  const id = await rotate();
  const { state, quarantine } = await detailOf(keyring, id);
  expect(state).toBe('blocked');
  expect(quarantine).toMatchObject([{ projectId, label: LABEL, rowId: '31', reason: 'malformed' }]);
  await installation.sql('delete from public.tokens where id in (20, 31)');
  await keyring.rotations.resume(id);
  await keyring.rotations.run(id);
  await expectCompleted(id, [...IDS, 30]);
});

test('a partition that is on another server cannot be: no fence and no foreign key would hold there', async () => {
  await installation.sql('create foreign data wrapper nowhere');
  await installation.sql('create server nowhere foreign data wrapper nowhere');
  await installation.sql(
    `create foreign table public.tokens_far (${COLUMNS.replace(' primary key', '')}) server nowhere`,
  );
  const attached = installation.sql(
    'alter table public.tokens attach partition public.tokens_far for values from (20) to (30)',
  );
  expect(await codeOf(attached)).toBe('42809');
});
