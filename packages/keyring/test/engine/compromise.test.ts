import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import {
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open({ sweepBatchSize: 2 });
  project = await makeProject(installation, keyring, { secrets: 5 });
});
afterAll(() => installation.end());

const activeKey = async (): Promise<string> =>
  (await keyring.keys.list({ projectId: project.id })).find((key) => key.active)?.id ?? '';
const exposedNames = async (keyId: string): Promise<(string | undefined)[]> =>
  (await keyring.keys.exposure(keyId)).secrets.map(({ name }) => name).sort();

test('from the moment of a compromise nothing is written under the version, whoever has it cached', async () => {
  const leaked = await activeKey();
  const other = await installation.open();
  await other.secrets.put(project.id, 'BY_ANOTHER_PROCESS', 'before');
  const { rotation, key } = await keyring.rotations.compromise(leaked, { reason: 'test' });
  expect(key.status).toBe('compromised');
  const { keyId } = await other.secrets.put(project.id, 'BY_ANOTHER_PROCESS', 'after');
  expect(keyId).not.toBe(leaked);
  project.secrets.set('BY_ANOTHER_PROCESS', 'after');
  // Its own rows open until they are moved.
  expect((await keyring.secrets.get(project.id, [...project.secrets.keys()][0] ?? ''))?.stale).toBe(true);
  expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
  await expectHealthy(keyring);
});

test('an emergency is the first of those that wait to be driven', async () => {
  const other = await makeProject(installation, keyring, { secrets: 1 });
  const before = await keyring.rotations.request({ projects: [other.id] });
  const { rotation } = await keyring.rotations.compromise(await activeKey(), { reason: 'test' });
  expect(await keyring.rotations.waiting()).toEqual([rotation?.id, before.id]);
  expect(await keyring.rotations.waiting({ trigger: 'compromise' })).toEqual([rotation?.id]);
});

test('a compromise overtakes an open rotation of the project, in one transaction, and is never rolled back', async () => {
  const leaked = await activeKey();
  const open = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.pause(open.id);
  const before = await auditPosition(installation);
  const { rotation, overtaken } = await keyring.rotations.compromise(leaked, { reason: 'test' });
  expect(overtaken).toEqual([open.id]);
  expect(await auditSince(installation, before)).toMatchObject({
    'key.compromised': 1,
    'key.promoted': 1,
    'rotation.project_overtaken': 1,
    'rotation.canceled': 1,
    'rotation.requested': 1,
  });
  expect((await keyring.rotations.get(open.id))?.state).toBe('canceled');
  expect(await codeOf(keyring.rotations.rollback(rotation?.id ?? ''))).toBe('illegal_state');
  expect((await keyring.rotations.run(rotation?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('a rotation that is sweeping when it is overtaken stops, and the emergency finishes', async () => {
  const leaked = await activeKey();
  let compromised: ReturnType<Keyring['rotations']['compromise']> | undefined;
  const rotator = await installation.open({
    sweepBatchSize: 1,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (compromised === undefined && statement.text.includes('keyring.move_')) {
          // Once, though several batches are under way.
          compromised = keyring.rotations.compromise(leaked, { reason: 'test' });
          await compromised;
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [project.id] });
  expect((await rotator.rotations.run(id)).state).toBe('canceled');
  expect((await keyring.rotations.run((await compromised)?.rotation?.id ?? '')).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
  await expectHealthy(keyring);
});

test('the exposure report names what was ever under a version: replaced and deleted values, not what came later', async () => {
  const leaked = await activeKey();
  await keyring.secrets.put(project.id, 'DELETED', 'v');
  await keyring.secrets.remove(project.id, 'DELETED');
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
  await keyring.secrets.put(project.id, 'LATER', 'v');
  const names = await exposedNames(leaked);
  expect(names).toEqual([...project.secrets.keys(), 'DELETED'].sort());
  expect(await exposedNames(await activeKey())).toEqual([...project.secrets.keys(), 'LATER'].sort());
  // Nothing is under it any more, and it encrypts nothing: it is marked, and there is nothing to move.
  expect((await keyring.rotations.compromise(leaked, { reason: 'found out late' })).rotation).toBeUndefined();
});

test('the exposure report knows adopted values that were replaced or deleted since, though nobody saw them written', async () => {
  await installation.sql(`update keyring.encrypted_columns set accepts_plaintext = true where label = 'secrets.value'`);
  for (const name of ['OLD', 'GONE']) {
    await installation.sql(`insert into public.secrets (project_id, key, value_encrypted) values ($1, $2, 'plain')`, [
      project.id,
      name,
    ]);
  }
  await keyring.secrets.adopt({ finish: true });
  const leaked = await activeKey();
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
  await keyring.secrets.put(project.id, 'OLD', 'new');
  await keyring.secrets.remove(project.id, 'GONE');
  expect(await exposedNames(leaked)).toEqual([...project.secrets.keys(), 'GONE', 'OLD'].sort());
});

test('the exposure report names secrets that were deleted and restored, though their trail ends with the deletion', async () => {
  const before = await activeKey();
  const [row] = await installation.sql<{ id: string; key: string; value: Buffer }>(
    `select id, key, value_encrypted as value from public.secrets where project_id = $1 order by key limit 1`,
    [project.id],
  );
  await keyring.secrets.remove(project.id, row?.key ?? '');
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
  await installation.asOwner(
    'begin',
    `select keyring.open_restore_door('test')`,
    `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id) values
       ('${row?.id ?? ''}', '${project.id}', '${row?.key ?? ''}', '\\x${row?.value.toString('hex') ?? ''}', '${before}')`,
    'commit',
  );
  const next = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(next.id);
  const { secrets: exposed } = await keyring.keys.exposure(await activeKey());
  expect(exposed.map(({ rowId }) => rowId)).toContain(row?.id);
  expect(exposed).toHaveLength(project.secrets.size);
});

test('the exposure report names rows of another table that have the ids of secrets', async () => {
  await installation.asOwner(
    'create table public.notes (id uuid primary key, project_id uuid not null, note bytea, note_key_id uuid)',
    `select keyring.register_encrypted_column('notes.note', 'public.notes', 'note', 'note_key_id')`,
  );
  try {
    const [secret] = await keyring.secrets.list(project.id);
    const rowId = secret?.id ?? '';
    const { keyId, envelope } = await installation.seal(
      { projectId: project.id, label: 'notes.note', rowId },
      'a note',
    );
    await installation.sql('insert into public.notes values ($1, $2, $3, $4)', [rowId, project.id, envelope, keyId]);
    const { secrets: exposed } = await keyring.keys.exposure(keyId);
    expect(exposed.filter(({ rowId: id }) => id === rowId).map(({ label }) => label)).toEqual([
      'secrets.value',
      'notes.note',
    ]);
  } finally {
    await installation.asOwner('drop table public.notes', `select keyring.unregister_encrypted_column('notes.note')`);
  }
});

test.each([
  ['ahead, and then set back', `activated_at = clock_timestamp() + interval '1 hour'`],
  ['set back when it was left', `deactivated_at = activated_at - interval '1 hour'`],
])('the exposure report names what was written under a version while the clock was %s', async (_, times) => {
  const leaked = await activeKey();
  await keyring.secrets.put(project.id, 'REPLACED', 'first');
  await keyring.secrets.put(project.id, 'REPLACED', 'second');
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(id);
  await installation.sql(`update keyring.encryption_keys set ${times} where id = $1`, [leaked]);
  expect(await exposedNames(leaked)).toEqual([...project.secrets.keys(), 'REPLACED', 'REPLACED'].sort());
});

test('an exposure report is whole, however long', async () => {
  const most = 100_001;
  await installation.behindTheFence(
    `insert into keyring.audit_log (actor, action, outcome, project_id, subject, details)
     select 'test', 'secret.written', 'succeeded', $1, 'secret:' || gen_random_uuid(),
       jsonb_build_object('name', 'N' || n, 'key', $2::text, 'created', true)
     from generate_series(1, $3::int) n`,
    [project.id, await activeKey(), most],
  );
  expect((await keyring.keys.exposure(await activeKey())).secrets).toHaveLength(most + project.secrets.size);
});

test('encryptions are accounted for before they happen, and a version that reached its limit is due and rotated', async () => {
  const used = await activeKey();
  expect((await keyring.keys.get(used))?.encryptions).toBeGreaterThanOrEqual(5);
  await installation.behindTheFence(`update keyring.keyrings set promoted_at = now() - interval '1 hour'`);
  expect(await codeOf(keyring.rotations.request({ projects: { due: true } }))).toBe('nothing_to_rotate');
  await installation.sql('update keyring.rotation_policies set max_encryptions = 5');
  try {
    const { id } = await keyring.rotations.request({ projects: { due: true }, trigger: 'usage' });
    expect(await keyring.rotations.run(id)).toMatchObject({ state: 'completed', trigger: 'usage' });
    expect(await activeKey()).not.toBe(used);
  } finally {
    await installation.sql('update keyring.rotation_policies set max_encryptions = default');
  }
  expect(await codeOf(installation.sql('update keyring.key_usage set reserved = 0'))).toBe('MK005');
});
