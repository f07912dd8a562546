import { expect, test } from 'vitest';
import { envelope, makeProject, outcome, useDatabase, type Project, type Session } from './support.ts';

// Rows of a backup come back into a live database through one door, for the owner's role, for one transaction.
const on = useDatabase();

const restore = (by: Session, project: Project, keyId: string): Promise<unknown> =>
  by.run(`insert into public.secrets (project_id, key, value_encrypted, encryption_key_id) values ($1, $2, $3, $4)`, [
    project.id,
    `restored ${keyId} ${String(Math.random())}`,
    envelope(keyId),
    keyId,
  ]);

/** A project whose second version is primary: the first is what a backup from before would name. */
async function rotatedProject(by: Session): Promise<Project> {
  const project = await makeProject(by);
  await by.run('update keyring.keyrings set primary_key_id = $2 where project_id = $1', [project.id, project.keys[1]]);
  return project;
}

test('an old row comes back through the door, and only until its transaction ends', async () => {
  const owner = await on.owner();
  const project = await rotatedProject(owner);
  expect(await outcome(restore(owner, project, project.keys[0]))).toBe('MK001');
  await owner.run('begin');
  await owner.run(`select keyring.open_restore_door('ticket 4711')`);
  await restore(owner, project, project.keys[0]);
  await owner.run('commit');
  expect(await outcome(restore(owner, project, project.keys[0]))).toBe('MK001');
  const [entry] = await owner.run(
    `select reason, actor, principal_kind as kind from keyring.audit_log where action = 'restore.door_opened' order by id desc limit 1`,
  );
  expect(entry).toEqual({
    reason: 'ticket 4711',
    kind: 'system',
    actor: `database:${await owner.value<string>('select session_user')}`,
  });
});

test('the door of one transaction lets no other through', async () => {
  const [owner, other] = [await on.owner(), await on.owner()];
  const project = await rotatedProject(owner);
  await owner.run('begin');
  await owner.run(`select keyring.open_restore_door('mine')`);
  expect(await outcome(restore(other, project, project.keys[0]))).toBe('MK001');
  await owner.run('rollback');
});

test('a destroyed version does not come back', async () => {
  const owner = await on.owner();
  const project = await rotatedProject(owner);
  await owner.run('update keyring.encryption_keys set retention_until = now() where id = $1', [project.keys[0]]);
  await owner.run(
    `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = now() where id = $1`,
    [project.keys[0]],
  );
  await owner.run('begin');
  await owner.run(`select keyring.open_restore_door('too late')`);
  expect(await outcome(restore(owner, project, project.keys[0]))).toBe('MK006');
  await owner.run('rollback');
});

test('the service cannot open the door, nor make itself one', async () => {
  const service = await on.service();
  expect(await outcome(service.run(`select keyring.open_restore_door('please')`))).toBe('42501');
  expect(
    await outcome(
      service.run(`insert into keyring.restore_doors (transaction_id, reason) values (pg_current_xact_id(), 'please')`),
    ),
  ).toBe('42501');
});
