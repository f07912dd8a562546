import type { Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from './faults.ts';
import type { Installation } from './installation.ts';
import { madeOnce } from './snapshot.ts';
import {
  auditSince,
  clearProjects,
  expectEverySecretFresh,
  expectHealthy,
  expectValues,
  makeProject,
  retire,
  type KnownProject,
} from './world.ts';

interface DestroyWorld {
  readonly project: KnownProject;
  readonly keyId: string;
  readonly audited: string;
}

/** Destroy a version whose retention is over. */
export function destroyScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<DestroyWorld> {
  return {
    plans,
    prepare: madeOnce(installation, async () => {
      await clearProjects(installation);
      const project = await makeProject(installation, keyring, { secrets: 1, webhooks: 1 });
      await installation.sql(`insert into keyring.rotation_policies (project_id, retention) values ($1, '0')`, [
        project.id,
      ]);
      return { project, keyId: await retire(installation, keyring, project) };
    }),
    async act({ keyId }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.keys.destroy(keyId, { reason: 'test' });
    },
    async recover({ project, keyId, audited }) {
      const next = await installation.open();
      expect((await next.keys.destroy(keyId, { reason: 'again' })).status).toBe('destroyed');
      const [row] = await installation.sql(
        'select state, wrapped_key, destroyed_at is not null as timed from keyring.encryption_keys where id = $1',
        [keyId],
      );
      expect(row).toEqual({ state: 'destroyed', wrapped_key: null, timed: true });
      expect(await auditSince(installation, audited)).toEqual({ 'key.destroyed': 1 });
      await expectEverySecretFresh(installation, next, [project]);
      await expectHealthy(next);
    },
  };
}

interface RetiredWorld {
  readonly projects: readonly KnownProject[];
  readonly keyIds: readonly string[];
  readonly named: string;
  readonly audited: string;
}

/** Destroy a set of old versions, one of which a row names. */
export function destroyRetiredScenario(
  installation: Installation,
  keyring: Keyring,
  plans: readonly FaultWay[],
): FaultScenario<RetiredWorld> {
  return {
    plans,
    prepare: madeOnce(installation, async () => {
      await clearProjects(installation);
      const projects: KnownProject[] = [];
      for (let n = 0; n < 3; n++) projects.push(await makeProject(installation, keyring, { secrets: 1, webhooks: 1 }));
      await installation.sql('create temp table if not exists kept_row (like public.secrets)');
      await installation.sql('truncate kept_row');
      await installation.sql('insert into kept_row select * from public.secrets where project_id = $1', [
        projects[0]!.id,
      ]);
      const rotating = await installation.open();
      await rotating.rotations.run((await rotating.rotations.request({ projects: 'all' })).id);
      const old = await installation.sql<{ id: string; project_id: string }>(
        'select id, project_id from keyring.encryption_keys where retention_until is not null order by id',
      );
      await installation.behindTheFence(
        'update keyring.encryption_keys set retention_until = now() where retention_until is not null',
      );
      await installation.behindTheFence(
        `update public.secrets s set value_encrypted = k.value_encrypted, encryption_key_id = k.encryption_key_id
         from kept_row k where k.id = s.id`,
      );
      await installation.sql(`update keyring.schedule_turns set last_at = '-infinity'`);
      const named = old.find(({ project_id }) => project_id === projects[0]!.id)!.id;
      return { projects, keyIds: old.map(({ id }) => id), named };
    }),
    async act(_, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      await struck.policies.destroyRetired();
    },
    async recover({ projects, keyIds, named, audited }) {
      await installation.sql(`update keyring.schedule_turns set last_at = '-infinity'`);
      const next = await installation.open();
      const { inUse, more } = await next.policies.destroyRetired();
      expect({ more, named: inUse.versions.map(({ keyId }) => keyId) }).toEqual({ more: false, named: [named] });
      const rows = await installation.sql<{ id: string }>(
        `select id from keyring.encryption_keys
         where state = 'destroyed' and wrapped_key is null and destroyed_at is not null order by id`,
      );
      expect(rows.map(({ id }) => id)).toEqual(keyIds.filter((id) => id !== named));
      // Each says so once.
      expect(await auditSince(installation, audited)).toEqual({ 'key.destroyed': keyIds.length - 1 });
      for (const project of projects) await expectValues(installation, next, project);
    },
  };
}
