import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { interceptDatabase } from '../engine/support/intercept.ts';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { clearProjects, codeOf, makeProject } from '../engine/support/world.ts';
import { approvalNeeded, asPerson, makeAdmins } from './support/scenario.ts';

// The rule of two people comes into force, or who approves goes, between the look and the act: PostgreSQL refuses the act.

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
});
afterAll(() => installation.end());
beforeEach(async () => {
  await clearProjects(installation);
  await installation.behindTheFence('delete from keyring.grants');
  await installation.behindTheFence('delete from keyring.approvals');
  await makeAdmins(installation, 'person:ada');
});

const looksAtTheRule = /keyring\.two_person_rule\(\)/;
const looksForAnAdmin = /^select from keyring\.grants g where g\.role = 'instance_admin' and g\.person = \$1$/;

/** A keyring of a person, for whom something happens right after it looked, the first time. */
async function meanwhile(look: RegExp, happens: () => Promise<unknown>, person = 'person:ada'): Promise<Keyring> {
  let happened = true;
  const opened = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const seen = await send();
        if (!happened && look.test(statement.text)) {
          happened = true;
          await happens();
        }
        return seen;
      }),
  });
  happened = false;
  return asPerson(opened, person);
}
const anotherAdmin = () => makeAdmins(installation, 'person:bob');

async function approvedBy(person: string, id: string): Promise<void> {
  expect((await asPerson(keyring, person).access.approvals.approve(id)).state).toBe('approved');
}

test('ending a window early', async () => {
  const project = await makeProject(installation, keyring, { secrets: 1 });
  const { id: rotation } = await keyring.rotations.request({ projects: [project.id] });
  await keyring.rotations.run(rotation);
  const [old] = await keyring.keys.list({ projectId: project.id });
  const ada = await meanwhile(looksAtTheRule, anotherAdmin);
  const destroy = () => ada.keys.destroy(old!.id, { reason: 'it leaked', early: true });
  const id = await approvalNeeded(destroy());
  expect((await keyring.keys.get(old!.id))?.status).toBe('deactivated');
  await approvedBy('person:bob', id);
  expect((await destroy()).status).toBe('destroyed');
});

test('making another admin', async () => {
  const ada = await meanwhile(looksAtTheRule, anotherAdmin);
  const add = () => ada.access.grants.add({ person: 'person:sock', role: 'instance_admin' });
  const id = await approvalNeeded(add());
  expect((await keyring.access.rule()).admins).toBe(2);
  await approvedBy('person:bob', id);
  expect((await add()).person).toBe('person:sock');
});

test('removing one of three admins, while another is removed', async () => {
  await makeAdmins(installation, 'person:bob', 'person:cyd');
  const cyds = (await keyring.access.grants.list()).find(({ person }) => person === 'person:cyd');
  const ada = await meanwhile(looksAtTheRule, () =>
    installation.behindTheFence(`delete from keyring.grants where person = 'person:bob'`),
  );
  await approvalNeeded(ada.access.grants.remove(cyds!.id));
  expect((await keyring.access.rule()).admins).toBe(2);
});

test('switching the rule off', async () => {
  const ada = await meanwhile(looksAtTheRule, anotherAdmin);
  const id = await approvalNeeded(ada.access.setRule(false, { reason: 'a nuisance' }));
  expect((await keyring.access.rule()).inForce).toBe(true);
  await approvedBy('person:bob', id);
  expect((await ada.access.setRule(false, { reason: 'a nuisance' })).inForce).toBe(false);
  await installation.behindTheFence('update keyring.access_settings set two_people = true');
});

test('shortening retention', async () => {
  const { revision } = await keyring.policies.show();
  const ada = await meanwhile(looksAtTheRule, anotherAdmin);
  await approvalNeeded(ada.policies.set({ retentionMs: 86_400_000 }, { revision }));
  expect((await keyring.policies.show()).revision).toBe(revision);
});

test('a project’s own retention, longer than the default until that became longer still', async () => {
  await anotherAdmin();
  const project = await makeProject(installation, keyring, { secrets: 1 });
  const before = await keyring.policies.show();
  const ada = await meanwhile(/^begin/, () =>
    keyring.policies.set({ retentionMs: before.retentionMs * 3 }, { revision: before.revision }),
  );
  const own = () => ada.policies.set({ retentionMs: before.retentionMs * 2 }, { projectId: project.id, revision: 0 });
  const id = await approvalNeeded(own());
  expect((await keyring.policies.show(project.id)).retentionMs).toBe(before.retentionMs * 3);
  await approvedBy('person:bob', id);
  expect((await own()).retentionMs).toBe(before.retentionMs * 2);
});

test('who is removed while approving has not approved, and is told so', async () => {
  await makeAdmins(installation, 'person:bob', 'person:cyd');
  const id = await approvalNeeded(asPerson(keyring, 'person:ada').access.setRule(false, { reason: 'a nuisance' }));
  const bob = await meanwhile(
    looksForAnAdmin,
    () => installation.behindTheFence(`delete from keyring.grants where person = 'person:bob'`),
    'person:bob',
  );
  expect(await codeOf(bob.access.approvals.approve(id))).toBe('forbidden');
  expect((await keyring.access.approvals.get(id))?.state).toBe('pending');
});
