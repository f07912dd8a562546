import { randomUUID } from 'node:crypto';
import type { Keyring, KeyVersion } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { byTurns, strikeEveryStatement } from '../engine/support/faults.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import {
  auditPosition,
  auditSince,
  clearProjects,
  codeOf,
  makeProject,
  type KnownProject,
} from '../engine/support/world.ts';
import { approvalNeeded, approvalScenario, asPerson, makeAdmins } from './support/scenario.ts';

let installation: Installation;
let keyring: Keyring;
let project: KnownProject;
let old: KeyVersion;
const as = (person: string, name = person): Keyring => asPerson(keyring, person, name);
const ada = () => as('person:ada');
const bob = () => as('person:bob');
const early = { reason: 'it leaked', early: true };

beforeAll(async () => {
  installation = await startInstallation();
});
afterAll(() => installation.end());
beforeEach(async () => {
  await installation.behindTheFence('delete from keyring.grants');
  await installation.behindTheFence('delete from keyring.approvals');
  await installation.behindTheFence('update keyring.access_settings set two_people = true');
  await clearProjects(installation);
  keyring = await installation.open();
  project = await makeProject(installation, keyring, { secrets: 2 });
  old = await retired();
});

/** Version 1, inside its window. */
async function retired(): Promise<KeyVersion> {
  const { id } = await keyring.rotations.request({ projects: [project.id] });
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  const [first] = await keyring.keys.list({ projectId: project.id });
  return first!;
}

const status = async (): Promise<string> => (await keyring.keys.get(old.id))!.status;

describe('with a single admin', () => {
  test('what cannot be undone is done, on the record as waived, and a warning stays', async () => {
    const before = await auditPosition(installation);
    expect((await ada().keys.destroy(old.id, early)).status).toBe('destroyed');
    expect(await auditSince(installation, before)).toEqual({ 'approval.waived': 1, 'key.destroyed': 1 });
    expect((await keyring.access.warnings()).map(({ code }) => code)).toEqual(['single_admin']);
    expect((await keyring.doctor()).findings.map(({ code }) => code)).toContain('single_admin');
  });

  test('a window is kept for whoever does not say early', async () => {
    expect(await codeOf(ada().keys.destroy(old.id, { reason: 'tidy' }))).toBe('retention_not_over');
    expect(await status()).toBe('deactivated');
  });

  test('early never overrides that a version is primary, or that a row names it', async () => {
    const [, primary] = await keyring.keys.list({ projectId: project.id });
    expect(await codeOf(ada().keys.destroy(primary!.id, early))).toBe('key_is_primary');
    await installation.behindTheFence(
      `update public.secrets set encryption_key_id = $1 where id = (select min(id::text)::uuid from public.secrets where project_id = $2)`,
      [old.id, project.id],
    );
    expect(await codeOf(ada().keys.destroy(old.id, early))).toBe('key_in_use');
    // Rolled back with it: the window is as long as before, and nothing was waived.
    expect((await keyring.keys.get(old.id))?.retentionUntil).toEqual(old.retentionUntil);
    expect(await keyring.access.approvals.list()).toEqual([]);
  });
});

describe('with two admins', () => {
  beforeEach(() => makeAdmins(installation, 'person:ada', 'person:bob'));

  test('one asks, another approves, and who asked does it, once', async () => {
    const before = await auditPosition(installation);
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    expect(await status()).toBe('deactivated');
    expect(await approvalNeeded(ada().keys.destroy(old.id, early))).toBe(id);
    expect(await keyring.access.approvals.list({ open: true })).toMatchObject([
      {
        id,
        action: 'key.destroy_early',
        subject: `key:${old.id}`,
        projectId: project.id,
        state: 'pending',
        reason: early.reason,
      },
    ]);
    expect((await bob().access.approvals.approve(id)).state).toBe('approved');
    // An approval is for who asked, and for what was asked.
    await approvalNeeded(bob().keys.destroy(old.id, early));
    expect((await ada().keys.destroy(old.id, early)).status).toBe('destroyed');
    expect((await keyring.access.approvals.get(id))?.state).toBe('consumed');
    expect(await auditSince(installation, before)).toEqual({
      'approval.requested': 2,
      'approval.approved': 1,
      'approval.consumed': 1,
      'key.destroyed': 1,
    });
    expect(await keyring.access.warnings()).toEqual([]);
  });

  test('nobody approves what they asked for, not through a token that they made either', async () => {
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    const { entry } = await ada().access.tokens.create({ name: 'mine', role: 'instance_admin' });
    for (const self of [ada(), as(entry.person, `token:${entry.id}`)]) {
      expect(await codeOf(self.access.approvals.approve(id))).toBe('forbidden');
    }
    expect((await auditSince(installation, '0'))['approval.approved (refused)']).toBeGreaterThan(1);
    expect((await keyring.access.approvals.get(id))?.state).toBe('pending');
    // Nor does PostgreSQL let it be written.
    await expect(
      installation.sql(
        `update keyring.approvals set state = 'approved', decided_by = 'x', decider = requester where id = $1`,
        [id],
      ),
    ).rejects.toMatchObject({ code: 'MK010' });
  });

  test('who is no admin by a grant approves nothing, and who was one no more', async () => {
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    for (const other of ['person:eve', 'operator', `user:${randomUUID()}`]) {
      expect(await codeOf(as(other).access.approvals.approve(id))).toBe('forbidden');
    }
    await bob().access.approvals.approve(id);
    await makeAdmins(installation, 'person:cyd');
    await installation.behindTheFence(`delete from keyring.grants where person = 'person:bob'`);
    expect(await codeOf(ada().keys.destroy(old.id, early))).toBe('approval_needed');
    expect(await status()).toBe('deactivated');
  });

  test('a day later neither the request nor the approval is worth anything', async () => {
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    const late = (what: string) =>
      installation.behindTheFence(`update keyring.approvals set expires_at = now() where id = $1`, [what]);
    await late(id);
    expect(await codeOf(bob().access.approvals.approve(id))).toBe('illegal_state');
    expect((await keyring.access.approvals.get(id))?.state).toBe('expired');
    const again = await approvalNeeded(ada().keys.destroy(old.id, early));
    expect(again).not.toBe(id);
    await bob().access.approvals.approve(again);
    await late(again);
    expect(await approvalNeeded(ada().keys.destroy(old.id, early))).not.toBe(again);
    expect(await status()).toBe('deactivated');
  });

  test('what is rejected stays so, and who asked may take it back', async () => {
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    expect((await bob().access.approvals.reject(id)).state).toBe('rejected');
    expect(await codeOf(bob().access.approvals.approve(id))).toBe('illegal_state');
    const again = await approvalNeeded(ada().keys.destroy(old.id, early));
    expect((await ada().access.approvals.reject(again)).state).toBe('rejected');
    expect(await codeOf(bob().access.approvals.approve(randomUUID()))).toBe('unknown_approval');
    expect(await codeOf(bob().access.approvals.approve('x'))).toBe('unknown_approval');
  });

  test('they are listed page by page, the newest first, and the open ones are counted', async () => {
    const ids: string[] = [];
    for (const person of ['person:cyd', 'person:dan', 'person:eve']) {
      const id = await approvalNeeded(ada().access.grants.add({ person, role: 'instance_admin' }));
      // A minute apart, whatever the clock does meanwhile; the youngest as it was asked for.
      await installation.behindTheFence(
        `update keyring.approvals set requested_at = requested_at - interval '1 minute'`,
      );
      ids.unshift(id);
    }
    const { approvals } = keyring.access;
    await approvals.reject(ids[1]!);
    const page = async (options: { before?: string; limit?: number; open?: boolean }) =>
      (await approvals.list(options)).map(({ id }) => id);
    expect(await page({ limit: 2 })).toEqual(ids.slice(0, 2));
    expect(await page({ limit: 2, before: ids[1]! })).toEqual(ids.slice(2));
    expect(await page({ limit: 1, before: ids[0]!, open: true })).toEqual(ids.slice(2));
    expect(await page({ before: ids[2]! })).toEqual([]);
    expect(await page({ before: randomUUID() })).toEqual([]);
    expect(await codeOf(page({ before: 'x' }))).toBe('invalid_argument');
    expect(await approvals.countOpen()).toBe(2);
    await installation.behindTheFence(`update keyring.approvals set expires_at = now() where id = $1`, [ids[0]]);
    expect(await approvals.countOpen()).toBe(1);
  });

  test('of ten who act at once upon one approval, one does', async () => {
    await approvalNeeded(ada().access.setRule(false, { reason: 'why not' }));
    const [open] = await keyring.access.approvals.list({ open: true });
    await bob().access.approvals.approve(open!.id);
    const before = await auditPosition(installation);
    const ended = await Promise.all(
      Array.from({ length: 10 }, () => codeOf(ada().access.setRule(false, { reason: 'now' }))),
    );
    expect(ended.filter((code) => code === 'nothing').length).toBeGreaterThan(0);
    expect(await auditSince(installation, before)).toMatchObject({ 'approval.consumed': 1, 'rule.switched_off': 1 });
  });

  test('of those who decide at once, one does', async () => {
    await makeAdmins(installation, 'person:cyd');
    const id = await approvalNeeded(ada().keys.destroy(old.id, early));
    const before = await auditPosition(installation);
    const cyd = as('person:cyd');
    const ended = await Promise.all([
      codeOf(bob().access.approvals.approve(id)),
      codeOf(cyd.access.approvals.approve(id)),
      codeOf(bob().access.approvals.reject(id)),
      codeOf(cyd.access.approvals.reject(id)),
    ]);
    expect(ended.toSorted()).toEqual(['illegal_state', 'illegal_state', 'illegal_state', 'nothing']);
    const decided = Object.entries(await auditSince(installation, before)).filter(
      ([action]) => action !== 'approval.requested',
    );
    expect(decided).toEqual([[expect.stringMatching(/^approval\.(approved|rejected)$/), 1]]);
  });

  test('switching the rule off takes two, and switching it on takes one', async () => {
    const id = await approvalNeeded(ada().access.setRule(false, { reason: 'a nuisance' }));
    expect((await keyring.access.rule()).inForce).toBe(true);
    await bob().access.approvals.approve(id);
    expect(await ada().access.setRule(false, { reason: 'a nuisance' })).toEqual({
      wanted: false,
      admins: 2,
      inForce: false,
    });
    expect((await keyring.access.warnings()).map(({ code }) => code)).toEqual(['two_people_off']);
    expect((await ada().keys.destroy(old.id, early)).status).toBe('destroyed');
    expect((await ada().access.setRule(true, { reason: 'better' })).inForce).toBe(true);
  });

  test('nobody gets rid of the rule by making another admin, or by one less', async () => {
    const sock = await approvalNeeded(ada().access.grants.add({ person: 'person:sock', role: 'instance_admin' }));
    const [, bobs] = await keyring.access.grants.list();
    expect(bobs?.person).toBe('person:bob');
    const removal = await approvalNeeded(ada().access.grants.remove(bobs!.id));
    expect(await codeOf(ada().access.approvals.approve(sock))).toBe('forbidden');
    expect(await codeOf(ada().access.approvals.approve(removal))).toBe('forbidden');
    await bob().access.approvals.approve(sock);
    expect((await ada().access.grants.add({ person: 'person:sock', role: 'instance_admin' })).person).toBe(
      'person:sock',
    );
    // One of three goes as any grant goes: two are left.
    await ada().access.grants.remove(bobs!.id);
    expect(await keyring.access.rule()).toEqual({ wanted: true, admins: 2, inForce: true });
  });

  test('of two admins who are removed at once, one of three stays a second one', async () => {
    await makeAdmins(installation, 'person:cyd');
    const [, bobs, cyds] = await keyring.access.grants.list();
    await Promise.all(
      [bobs, cyds].map((grant) =>
        ada()
          .access.grants.remove(grant!.id)
          .catch(() => undefined),
      ),
    );
    expect((await keyring.access.rule()).admins).toBe(2);
  });

  test('discarding a row from quarantine takes two', async () => {
    await installation.behindTheFence(
      `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
       where project_id = $1 and key = 'SECRET_1'`,
      [project.id],
    );
    const { id: rotation } = await keyring.rotations.request({ projects: [project.id] });
    await keyring.rotations.run(rotation);
    const [row] = await keyring.quarantine.list({ projectId: project.id });
    const id = await approvalNeeded(ada().quarantine.discard(row!, { reason: 'lost' }));
    expect(await keyring.secrets.list(project.id)).toHaveLength(2);
    await bob().access.approvals.approve(id);
    await ada().quarantine.discard(row!, { reason: 'lost' });
    expect(await keyring.secrets.list(project.id)).toHaveLength(1);
  });

  test('shortening a retention window, in the default or in a row of a project, is refused by PostgreSQL itself', async () => {
    const shorten = `update keyring.rotation_policies set retention = '1 day' where project_id is null`;
    await expect(installation.sql(shorten)).rejects.toMatchObject({ code: 'MK010' });
    const own = `insert into keyring.rotation_policies (project_id, retention) values ($1, $2)`;
    await expect(installation.sql(own, [project.id, '1 day'])).rejects.toMatchObject({ code: 'MK010' });
    await installation.sql(own, [project.id, '60 days']);
    await expect(
      installation.sql('delete from keyring.rotation_policies where project_id = $1', [project.id]),
    ).rejects.toMatchObject({ code: 'MK010' });
    await installation.sql(`update keyring.rotation_policies set retention = '90 days' where project_id = $1`, [
      project.id,
    ]);
    await installation.sql('delete from public.projects where id = $1', [project.id]);
  });

  test('who shortens a retention window, or gives up a longer one, asks; another approves; then it is shorter, once', async () => {
    const day = 86_400_000;
    const before = await auditPosition(installation);
    const shorten = async (by: Keyring, retentionMs: number) => {
      const { revision } = await keyring.policies.show();
      return by.policies.set({ retentionMs, reason: 'the disk is full' }, { revision });
    };
    const was = await keyring.policies.show();
    const id = await approvalNeeded(shorten(ada(), 7 * day));
    expect(await keyring.policies.show()).toEqual(was);
    expect(await keyring.access.approvals.get(id)).toMatchObject({
      action: 'retention.shorten',
      subject: `policy:default:${String(7 * 86_400)}`,
      reason: 'the disk is full',
    });
    expect(await codeOf(ada().access.approvals.approve(id))).toBe('forbidden');
    await bob().access.approvals.approve(id);
    // It is for so long a window, of this policy, and for who asked.
    await approvalNeeded(shorten(ada(), 6 * day));
    await approvalNeeded(shorten(bob(), 7 * day));
    expect((await shorten(ada(), 7 * day)).retentionMs).toBe(7 * day);
    expect((await shorten(ada(), 30 * day)).retentionMs).toBe(30 * day);
    await approvalNeeded(shorten(ada(), 7 * day));
    expect(await auditSince(installation, before)).toEqual({
      'approval.requested': 4,
      'approval.approved (refused)': 1,
      'approval.approved': 1,
      'approval.consumed': 1,
      'policy.changed': 2,
    });

    const own = await ada().policies.set({ retentionMs: 90 * day }, { projectId: project.id, revision: 0 });
    const end = () => ada().policies.unset(project.id, { revision: own.revision });
    const ending = await approvalNeeded(end());
    expect((await keyring.policies.show(project.id)).retentionMs).toBe(90 * day);
    await bob().access.approvals.approve(ending);
    expect((await end()).retentionMs).toBe(30 * day);
  });

  test('nothing is waived, begun as approved, or used twice, whoever writes it', async () => {
    const insert = (state: string) =>
      installation.sql(
        `insert into keyring.approvals (action, subject, state, requested_by, requester) values ('key.destroy_early', 'key:1', $1, 'x', 'x')`,
        [state],
      );
    await expect(insert('waived')).rejects.toMatchObject({ code: 'MK010' });
    await expect(insert('approved')).rejects.toMatchObject({ code: 'MK005' });
    await expect(insert('consumed')).rejects.toMatchObject({ code: 'MK005' });
    await expect(
      installation.sql('update keyring.encryption_keys set retention_until = now() where id = $1', [old.id]),
    ).rejects.toMatchObject({ code: 'MK008' });
  });
});

test('an act of two people that loses any one statement is asked for, approved and done once, and never half', async () => {
  const points = await strikeEveryStatement(approvalScenario(installation, byTurns));
  console.log(`asked for, approved and done: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(3);
});
