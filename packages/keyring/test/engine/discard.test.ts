import type { Keyring, KeyVersion, QuarantineEntry, Statement } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import {
  addWebhooksTable,
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  WEBHOOKS,
  type KnownProject,
} from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
let rotationId: string;
let row: QuarantineEntry;
beforeAll(async () => {
  installation = await startInstallation();
  await addWebhooksTable(installation);
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 3, webhooks: 2 });
  await spoil('SECRET_2');
  rotationId = await blocked();
  row = await only();
});
afterAll(() => installation.end());

function spoil(name: string): Promise<void> {
  return installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     where project_id = $1 and key = $2`,
    [project.id, name],
  );
}

async function blocked(): Promise<string> {
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  expect((await keyring.rotations.run(id)).state).toBe('blocked');
  return id;
}

async function only(): Promise<QuarantineEntry> {
  const [entry, ...more] = await keyring.quarantine.list({ projectId: project.id });
  expect(more).toEqual([]);
  if (entry === undefined) throw new Error('Nothing is in quarantine.');
  return entry;
}

const reason = { reason: 'lost for good' };

/** A keyring that does something right before the row is deleted. */
function interrupting(what: (statement: Statement) => Promise<unknown>): Promise<Keyring> {
  let done = false;
  return installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!done && statement.text.startsWith('delete from public.')) {
          done = true;
          await what(statement);
        }
        return send();
      }),
  });
}

test('a quarantined secret is listed by its name, and by project and rotation', async () => {
  expect(row).toMatchObject({
    projectName: project.name,
    rotationId,
    label: 'secrets.value',
    name: 'SECRET_2',
    reason: 'does_not_open',
  });
  expect(await keyring.quarantine.list({ rotationId })).toEqual([row]);
  expect(await keyring.quarantine.list({ after: row.id })).toEqual([]);
  expect(await keyring.quarantine.list({ projectId: rotationId })).toEqual([]);
  expect(await codeOf(keyring.quarantine.list({ after: '1 or true' }))).toBe('invalid_argument');
});

test('a discarded row is gone with its entry and on the record, and its rotation goes on to the end', async () => {
  const before = await auditPosition(installation);
  expect(await keyring.quarantine.discard(row, reason)).toEqual({
    projectId: project.id,
    label: row.label,
    rowId: row.rowId,
    name: 'SECRET_2',
    keyId: row.keyId,
    reason: 'does_not_open',
    rotationId,
  });
  expect(await auditSince(installation, before)).toEqual({
    'approval.waived': 1,
    'quarantine.discarded': 1,
    'secret.deleted': 1,
  });
  const [deleted, discarded] = await keyring.audit.list({ projectId: project.id, limit: 2 });
  expect(discarded).toMatchObject({
    action: 'quarantine.discarded',
    subject: `row:secrets.value/${row.rowId}`,
    reason: 'lost for good',
    details: { label: 'secrets.value', row: row.rowId, name: 'SECRET_2', key: row.keyId, found: 'does_not_open' },
  });
  expect(deleted).toMatchObject({ action: 'secret.deleted', subject: `secret:${row.rowId}` });
  expect(await keyring.quarantine.list()).toEqual([]);

  project.secrets.delete('SECRET_2');
  expect(await keyring.quarantine.retry({ projectId: project.id })).toMatchObject({ tried: 0, resumed: [rotationId] });
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
  await expectHealthy(keyring);
});

test('what was discarded is still told by the exposure report of its version', async () => {
  await keyring.quarantine.discard(row, reason);
  const { secrets: exposed } = await keyring.keys.exposure(row.keyId ?? '');
  const one = exposed.find(({ name }) => name === 'SECRET_2');
  expect(one).toMatchObject({ rowId: row.rowId, replacedAt: expect.any(Date) });
});

test('a row of another table is discarded by its label and id', async () => {
  const [webhook = ''] = project.webhooks.keys();
  await installation.behindTheFence(
    `update public.webhooks set signing_secret = set_byte(signing_secret, 40, get_byte(signing_secret, 40) # 1) where id = $1`,
    [webhook],
  );
  await keyring.quarantine.discard(row, reason);
  await keyring.rotations.resume(rotationId);
  expect((await keyring.rotations.run(rotationId)).state).toBe('blocked');
  const entry = await only();
  expect(entry).toMatchObject({ label: WEBHOOKS, rowId: webhook, name: undefined });
  const before = await auditPosition(installation);
  await keyring.quarantine.discard(entry, reason);
  expect(await auditSince(installation, before)).toEqual({ 'approval.waived': 1, 'quarantine.discarded': 1 });
  project.secrets.delete('SECRET_2');
  project.webhooks.delete(webhook);
  await keyring.rotations.resume(rotationId);
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('a row that is set again between its reading and its deletion stays, and is refused as one that opens', async () => {
  const before = await auditPosition(installation);
  const slow = await interrupting(() => keyring.secrets.put(project.id, 'SECRET_2', 'set again'));
  expect(await codeOf(slow.quarantine.discard(row, reason))).toBe('row_opens');
  expect((await keyring.secrets.get(project.id, 'SECRET_2'))?.value).toBe('set again');
  expect(await auditSince(installation, before)).toEqual({ 'secret.written': 1 });
  expect(await keyring.quarantine.retry()).toMatchObject({ tried: 1, opened: 1, resumed: [rotationId] });
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  project.secrets.set('SECRET_2', 'set again');
  await expectEverySecretFresh(installation, keyring, [project]);
});

test('a deletion that waits for an edit finds the edit, and leaves it', async () => {
  const older = await installation.seal(row, 'from the editor');
  await using editor = await session(installation.test.adminUrl, 'an edit');
  await editor.query('begin');
  await editor.query('set local session_replication_role = replica');
  await editor.query(`update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1`, [
    row.rowId,
    older.envelope,
    older.keyId,
  ]);
  let committed: Promise<unknown> | undefined;
  const waiting = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, ({ statement, send }) => {
        const answer = send();
        if (committed === undefined && statement.text.startsWith('delete from public.')) {
          committed = untilBlocked().then(() => editor.query('commit'));
        }
        return answer;
      }),
  });
  expect(await codeOf(waiting.quarantine.discard(row, reason))).toBe('row_opens');
  await committed;
  expect((await keyring.secrets.get(project.id, 'SECRET_2'))?.value).toBe('from the editor');
});

async function untilBlocked(): Promise<void> {
  const waits = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  while ((await installation.sql(waits)).length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
}

test('other garbage that comes in between is deleted only after it was tried itself', async () => {
  let tried = 0;
  const slow = await interrupting(async () => {
    tried += 1;
    await installation.behindTheFence(
      `update public.secrets set value_encrypted = set_byte(value_encrypted, 41, get_byte(value_encrypted, 41) # 1) where id = $1`,
      [row.rowId],
    );
  });
  await slow.quarantine.discard(row, reason);
  expect(tried).toBe(1);
  expect(await keyring.secrets.get(project.id, 'SECRET_2')).toBeUndefined();
});

test('of two that discard the same row one wins, and the other is told that it is gone', async () => {
  const other = await installation.open();
  const before = await auditPosition(installation);
  const slow = await interrupting(() => other.quarantine.discard(row, { reason: 'first' }));
  expect(await codeOf(slow.quarantine.discard(row, { reason: 'second' }))).toBe('not_quarantined');
  expect(await auditSince(installation, before)).toEqual({
    'approval.waived': 1,
    'quarantine.discarded': 1,
    'secret.deleted': 1,
  });

  await keyring.secrets.put(project.id, 'SECRET_2', 'anew');
  await spoil('SECRET_2');
  await keyring.rotations.resume(rotationId);
  await keyring.rotations.run(rotationId);
  const again = await only();
  const outcomes = await Promise.all([keyring, other].map((one) => codeOf(one.quarantine.discard(again, reason))));
  expect(outcomes.sort()).toEqual(['not_quarantined', 'nothing']);
});

test('refused are a row that opens, one that is gone, one that never was in quarantine, and a blank reason', async () => {
  expect(await codeOf(keyring.quarantine.discard(row, { reason: ' ' }))).toBe('invalid_argument');
  const [fine] = await keyring.secrets.list(project.id);
  const place = { projectId: project.id, label: 'secrets.value', rowId: fine?.id ?? '' };
  expect(await codeOf(keyring.quarantine.discard(place, reason))).toBe('not_quarantined');
  for (const odd of ['1', "'", '00000000-0000-4000-8000-000000000000']) {
    expect(await codeOf(keyring.quarantine.discard({ ...place, rowId: odd }, reason))).toBe('not_quarantined');
  }
  await keyring.secrets.put(project.id, 'SECRET_2', 'set again');
  expect(await codeOf(keyring.quarantine.discard(row, reason))).toBe('row_opens');
  await keyring.secrets.remove(project.id, 'SECRET_2');
  expect(await codeOf(keyring.quarantine.discard(row, reason))).toBe('not_quarantined');
  expect(await keyring.quarantine.retry()).toMatchObject({ tried: 1, gone: 1, resumed: [rotationId] });
});

test('a row that somebody holds is left to them', async () => {
  await using holder = await session(installation.test.adminUrl, 'an idle edit');
  await holder.query('begin');
  await holder.query('select from public.secrets where id = $1 for update', [row.rowId]);
  expect(await codeOf(keyring.quarantine.discard(row, reason))).toBe('contended');
  await holder.query('rollback');
  expect(await keyring.quarantine.list()).toEqual([row]);
});

test('a row that others refer to is left, and that is said', async () => {
  await installation.asOwner(
    'create table public.uses (secret_id uuid references public.secrets (id))',
    `insert into public.uses values ('${row.rowId}')`,
  );
  expect(await codeOf(keyring.quarantine.discard(row, reason))).toBe('conflict');
  expect(await keyring.quarantine.list()).toEqual([row]);
  await installation.asOwner('drop table public.uses');
});

test('a retry says what still does not open, and resumes nothing when nothing has changed', async () => {
  const before = await auditPosition(installation);
  expect(await keyring.quarantine.retry({ rotationId })).toEqual({
    tried: 1,
    opened: 0,
    gone: 0,
    unreadableRows: 1,
    unreadable: [row],
    resumed: [],
  });
  expect(await auditSince(installation, before)).toEqual({});
  // Its reason is as of now.
  await installation.behindTheFence(`update public.secrets set value_encrypted = '\\x00' where id = $1`, [row.rowId]);
  const { unreadable } = await keyring.quarantine.retry({ rotationId });
  expect(unreadable).toMatchObject([{ reason: 'malformed' }]);
  expect(await only()).toMatchObject({ reason: 'malformed' });
});

test('a retry moves what opens now, and the rest stays quarantined', async () => {
  await keyring.secrets.put(project.id, 'SECRET_2', 'set before the next rotation');
  await keyring.rotations.resume(rotationId);
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  await spoil('SECRET_1');
  await spoil('SECRET_2');
  const next = await keyring.rotations.request({ projects: [project.id] });
  expect((await keyring.rotations.run(next.id)).state).toBe('blocked');
  expect(await keyring.quarantine.list()).toHaveLength(2);
  await keyring.secrets.put(project.id, 'SECRET_2', 'set again');
  const before = await auditPosition(installation);
  const report = await keyring.quarantine.retry();
  expect(report).toMatchObject({ tried: 2, opened: 1, unreadableRows: 1, resumed: [next.id] });
  expect(report.unreadable.map(({ name }) => name)).toEqual(['SECRET_1']);
  expect(await auditSince(installation, before)).toEqual({ 'quarantine.released': 1, 'rotation.resumed': 1 });
  expect((await keyring.rotations.run(next.id)).state).toBe('blocked');
  expect((await keyring.quarantine.list()).map(({ name }) => name)).toEqual(['SECRET_1']);
});

test('a retry that died before it resumed is finished by the next one', async () => {
  await keyring.secrets.put(project.id, 'SECRET_2', 'set again');
  const dying = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (statement.text.includes('rows_quarantined >')) throw new Error('killed');
        return send();
      }),
  });
  await expect(dying.quarantine.retry()).rejects.toThrow('killed');
  expect(await keyring.quarantine.list()).toEqual([]);
  expect((await detailOf(keyring, rotationId)).state).toBe('blocked');
  expect(await keyring.quarantine.retry()).toMatchObject({ tried: 0, resumed: [rotationId] });
});

test('a row whose version is suspended is not discarded: the version comes back, and the row moves', async () => {
  await keyring.quarantine.discard(row, reason);
  project.secrets.delete('SECRET_2');
  await keyring.rotations.resume(rotationId);
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  const [old] = await keyring.keys.list({ projectId: project.id });
  const secret = (await keyring.secrets.list(project.id)).find(({ name }) => name === 'SECRET_1');
  const backup = await installation.seal(
    { projectId: project.id, label: 'secrets.value', rowId: secret?.id ?? '' },
    'from a backup',
    old?.id,
  );
  const suspended: KeyVersion = await keyring.keys.disable(old?.id ?? '', { reason: 'does anything need it?' });
  expect(suspended.status).toBe('suspended');
  await installation.asOwner(
    'begin',
    `select keyring.open_restore_door('a test')`,
    `update public.secrets set value_encrypted = '\\x${backup.envelope.toString('hex')}', encryption_key_id = '${backup.keyId}'
     where id = '${secret?.id ?? ''}'`,
    'commit',
  );
  const next = await blocked();
  const entry = await only();
  expect(entry).toMatchObject({ name: 'SECRET_1', reason: 'key_unavailable' });
  expect(await codeOf(keyring.quarantine.discard(entry, reason))).toBe('key_disabled');
  await keyring.keys.restore(old?.id ?? '', { reason: 'a backup does' });
  expect(await keyring.quarantine.retry()).toMatchObject({ opened: 1, resumed: [next] });
  expect((await keyring.rotations.run(next)).state).toBe('completed');
  project.secrets.set('SECRET_1', 'from a backup');
  await expectEverySecretFresh(installation, keyring, [project]);
});
