import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { meeting, moved, readBack } from './support/meetings.ts';
import { codeOf, detailOf, expectHealthy } from './support/world.ts';

const LABEL = 'tokens.token';
const IDS = ['1', '2', '3', '10', '11'];

let installation: Installation;
let keyring: Keyring;
let projectId: string;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  projectId = (await keyring.projects.create({ name: 'acme' })).id;
  await keyring.secrets.put(projectId, 'A', 'a');
  await installation.asOwner(
    `create table public.tokens (
       id int primary key, project_id uuid not null references public.projects (id) on delete cascade,
       token bytea, token_key_id uuid)`,
    register('public.tokens'),
  );
  const sealed = await installation.sealAll({ projectId, label: LABEL }, new Map(IDS.map((id) => [id, `value ${id}`])));
  for (const [id, { keyId, envelope }] of sealed) {
    await installation.sql('insert into public.tokens values ($1, $2, $3, $4)', [id, projectId, envelope, keyId]);
  }
});
afterEach(() => installation.end());

function register(table: string, column = 'token'): string {
  return `select keyring.register_encrypted_column('${LABEL}', '${table}', '${column}', 'token_key_id')`;
}

/** A rotation by a process that this is done to after its first batch, and this after it has read back rows. */
async function rotate(inSweep: readonly string[], inReadBack: readonly string[]): Promise<string> {
  const wrap = meeting(
    { at: moved(LABEL), meet: () => installation.asOwner(...inSweep) },
    { at: readBack('public.tokens'), meet: () => installation.asOwner(...inReadBack) },
  );
  // One batch: no other is under way when a table is dropped.
  const rotator = await installation.open({ wrap });
  const { id } = await rotator.rotations.request({ projects: 'all' });
  await rotator.rotations.run(id);
  return id;
}

/** Completed, every row counted in the read-back, opening to itself, and under the new version. */
async function expectCompleted(id: string, table = 'public.tokens', column = 'token'): Promise<void> {
  const { state, projectDetails } = await detailOf(keyring, id);
  expect({ state, verified: projectDetails[0]?.rowsVerified }).toEqual({
    state: 'completed',
    verified: IDS.length + 1,
  });
  const rows = await installation.sql<{ id: string; envelope: Buffer; keyId: string; fresh: boolean }>(
    `select t.id::text, t.${column} as envelope, t.token_key_id as "keyId", t.token_key_id = r.primary_key_id as fresh
     from ${table} t join keyring.keyrings r using (project_id) order by t.id`,
  );
  expect(rows.map((row) => [row.id, row.fresh])).toEqual(IDS.map((one) => [one, true]));
  for (const row of rows) {
    expect(await installation.unseal({ projectId, label: LABEL, rowId: row.id }, row)).toBe(`value ${row.id}`);
  }
  await expectHealthy(keyring);
}

test.each([
  ['a column with a default that differs from row to row', 'add column noise uuid not null default gen_random_uuid()'],
  ['set unlogged', 'set unlogged'],
  ['a fill factor', 'set (fillfactor = 50)'],
  ['cluster', 'cluster on tokens_pkey'],
])(
  'a table that is altered, and may be written anew, in the sweep and in the read-back is rotated: %s',
  async (_, how) => {
    const alter = `alter table public.tokens ${how}`;
    const anew = how.startsWith('cluster') ? ['cluster public.tokens'] : [];
    const again = how.startsWith('add column') ? alter.replace('noise', 'more_noise') : alter;
    await expectCompleted(await rotate([alter, ...anew], [again, ...anew]));
  },
);

test.each<[what: string, change: string[], code: string, mend: string[], table?: string, column?: string]>([
  [
    'the table is renamed',
    ['alter table public.tokens rename to credentials'],
    'missing_move',
    [register('public.credentials')],
    'public.credentials',
  ],
  [
    'the table goes to another schema',
    [
      'create schema elsewhere',
      'grant usage on schema elsewhere to public',
      'alter table public.tokens set schema elsewhere',
    ],
    'missing_move',
    [register('elsewhere.tokens')],
    'elsewhere.tokens',
  ],
  [
    'the column is renamed',
    ['alter table public.tokens rename token to cipher'],
    'missing_column',
    [register('public.tokens', 'cipher')],
    'public.tokens',
    'cipher',
  ],
  [
    'the foreign key is dropped',
    ['alter table public.tokens drop constraint tokens_project_id_token_key_id_fkey'],
    'missing_foreign_key',
    [register('public.tokens')],
  ],
  [
    'the fence is dropped',
    ['drop trigger zz_keyring_fence_update_tokens__token on public.tokens'],
    'missing_fence',
    [register('public.tokens')],
  ],
  [
    'another table takes its name',
    [
      'alter table public.tokens rename to tokens_before',
      'create table public.tokens (like public.tokens_before including all)',
    ],
    'missing_move',
    ['drop table public.tokens', 'alter table public.tokens_before rename to tokens'],
  ],
])(
  '%s in the read-back: the rotation is blocked until that is mended',
  async (_what, change, code, mend, table, column) => {
    const id = await rotate([], change);
    expect((await detailOf(keyring, id)).state).toBe('blocked');
    const findings = (await keyring.doctor()).findings.map((finding) => finding.code);
    expect(findings).toEqual(expect.arrayContaining([code, 'rotation_blocked']));
    await installation.asOwner(...mend);
    await keyring.rotations.resume(id);
    await keyring.rotations.run(id);
    await expectCompleted(id, table, column);
  },
);

test('a table that takes the place of another in the read-back, registered and all, is read back itself', async () => {
  const id = await rotate(
    [],
    [
      'alter table public.tokens rename to tokens_before',
      'create table public.tokens (like public.tokens_before including all)',
      register('public.tokens'),
      // The values of two rows change places on the way.
      `insert into public.tokens select (case id when 1 then 2 when 2 then 1 else id end), project_id, token, token_key_id
       from public.tokens_before`,
      'drop table public.tokens_before',
    ],
  );
  const { state, quarantine } = await detailOf(keyring, id);
  expect(state).toBe('blocked');
  expect(quarantine.map((row) => row.rowId).sort()).toEqual(['1', '2']);
});

test('row ids of another type than when the column was registered are noticed before a rotation meets them', async () => {
  // PostgreSQL refuses it while a trigger looks at the column.
  const widen = 'alter table public.tokens alter id type bigint';
  expect(await codeOf(installation.asOwner(widen))).toBe('0A000');
  const [fence] = await installation.sql<{ definition: string }>(
    `select pg_get_triggerdef(oid) as definition from pg_catalog.pg_trigger
     where tgname = 'zz_keyring_fence_update_tokens__token'`,
  );
  await installation.asOwner(
    'drop trigger zz_keyring_fence_update_tokens__token on public.tokens',
    widen,
    fence?.definition ?? '',
  );
  expect(await codeOf(keyring.rotations.request({ projects: 'all' }))).toBe('unregistered_column');
  expect((await keyring.doctor()).findings.map(({ code }) => code)).toContain('missing_move');
  await installation.asOwner(register('public.tokens'));
  await expectCompleted(await rotate([], []));
});
