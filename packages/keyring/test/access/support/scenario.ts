import type { Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from '../../engine/support/faults.ts';
import type { Installation } from '../../engine/support/installation.ts';
import { auditPosition, auditSince, clearProjects, makeProject } from '../../engine/support/world.ts';

const early = { reason: 'it leaked', early: true };

/** As a person who signed in by a token. */
export const asPerson = (keyring: Keyring, person: string, name = person): Keyring =>
  keyring.as({ name, kind: 'token', person });

export async function makeAdmins(installation: Installation, ...persons: string[]): Promise<void> {
  for (const person of persons) {
    await installation.behindTheFence(
      `insert into keyring.grants (person, role, granted_by) values ($1, 'instance_admin', 'test')`,
      [person],
    );
  }
}

/** Tries, and gives the id of the approval that it takes. @throws whatever else it was refused with. */
export async function approvalNeeded(work: Promise<unknown>): Promise<string> {
  const error = (await work.then(
    () => ({ code: 'nothing' }),
    (thrown: unknown) => thrown,
  )) as { code: string; details: Record<string, unknown> };
  if (error.code === 'database_unreachable') throw error as unknown as Error;
  expect(error.code).toBe('approval_needed');
  return String(error.details['approval']);
}

/** Two people end a window: asked for, approved, and done, by one process that loses a statement anywhere on the way. */
export function approvalScenario(
  installation: Installation,
  plans: readonly FaultWay[],
): FaultScenario<{ readonly keyring: Keyring; readonly keyId: string; readonly audited: string }> {
  const twoPeopleDestroy = async (through: Keyring, keyId: string): Promise<void> => {
    const [ada, bob] = [asPerson(through, 'person:ada'), asPerson(through, 'person:bob')];
    const id = await approvalNeeded(ada.keys.destroy(keyId, early));
    if ((await through.access.approvals.get(id))?.state === 'pending') await bob.access.approvals.approve(id);
    await ada.keys.destroy(keyId, early);
  };
  let world: Promise<{ readonly keyring: Keyring; readonly keyId: string }> | undefined;
  const makeWorld = async () => {
    await clearProjects(installation);
    await installation.behindTheFence('delete from keyring.grants');
    // Anew: another would know a signing key that was cleared away.
    const keyring = await installation.open();
    const project = await makeProject(installation, keyring, { secrets: 1 });
    const { id } = await keyring.rotations.request({ projects: [project.id] });
    expect((await keyring.rotations.run(id)).state).toBe('completed');
    const [old] = await keyring.keys.list({ projectId: project.id });
    await makeAdmins(installation, 'person:ada', 'person:bob');
    return { keyring, keyId: old!.id };
  };
  return {
    plans,
    async prepare() {
      await installation.behindTheFence('delete from keyring.approvals');
      const { keyring, keyId } = await (world ??= makeWorld());
      await installation.behindTheFence(
        `update keyring.encryption_keys set state = 'enabled', destroyed_at = null, wrapped_key = coalesce(wrapped_key, $2),
           retention_until = now() + interval '30 days' where id = $1`,
        [keyId, Buffer.alloc(78)],
      );
      return { keyring, keyId, audited: await auditPosition(installation) };
    },
    async act({ keyId }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await twoPeopleDestroy(struck, keyId);
    },
    async recover({ keyring, keyId, audited }) {
      const status = async () => (await keyring.keys.get(keyId))?.status;
      const states = async () => (await keyring.access.approvals.list()).map(({ state }) => state);
      if ((await status()) !== 'destroyed') {
        expect(await states()).not.toContain('consumed');
        const ada = asPerson(keyring, 'person:ada');
        const [approval] = await keyring.access.approvals.list();
        if (approval?.state === 'approved') await ada.keys.destroy(keyId, early);
        else await twoPeopleDestroy(keyring, keyId);
      }
      expect(await status()).toBe('destroyed');
      expect(await states()).toEqual(['consumed']);
      expect(await auditSince(installation, audited)).toEqual({
        'approval.requested': 1,
        'approval.approved': 1,
        'approval.consumed': 1,
        'key.destroyed': 1,
      });
    },
  };
}
