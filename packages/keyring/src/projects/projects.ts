import type { Project, Projects } from '../api.ts';
import type { AuditTrail } from '../audit/audit.ts';
import { transaction, type Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireName, requireUuid } from '../validate.ts';
import { insertProject, selectProjects, selectProjectsNamed } from './store.ts';

const NIL_UUID = '00000000-0000-0000-0000-000000000000';

/** MeshHook's projects, as far as a keyring needs them. */
export function projects(database: Database, audit: AuditTrail): Projects {
  return {
    async create({ name, owner = NIL_UUID }) {
      requireName('project name', name);
      requireUuid('owner', owner);
      return transaction(database, async (tx) => {
        const project = await insertProject(tx, name, owner);
        await audit.record(tx, {
          action: 'project.created',
          projectId: project.id,
          subject: `project:${project.id}`,
          details: { name },
        });
        return project;
      });
    },
    list: ({ limit = 1000, among = 'all', search, after } = {}) =>
      selectProjects(database, { limit: Math.min(Math.max(limit, 1), 10_000), among, search, after }),
    async resolve(nameOrId, { among = 'all' } = {}) {
      // No text of PostgreSQL holds a NUL.
      const found = nameOrId.includes('\0')
        ? []
        : await selectProjectsNamed(database, nameOrId, isUuid(nameOrId) ? nameOrId : undefined, among);
      const byId = found.find((project) => project.id === nameOrId.toLowerCase());
      const project = byId ?? found[0];
      if (project === undefined) {
        throw new KeyringError('unknown_project', `There is no project "${nameOrId}".`, {
          remedy: 'Run `mh-keys project list` to see them, or `mh-keys project create NAME`.',
        });
      }
      if (byId === undefined && found.length > 1) throw ambiguous(nameOrId, found);
      return project;
    },
  };
}

function ambiguous(name: string, found: readonly Project[]): KeyringError {
  const ids = found.map((project) => project.id);
  return new KeyringError(
    'ambiguous_project',
    `${String(found.length)} projects are named "${name}": ${ids.join(', ')}`,
    {
      remedy: 'Name the project by its id.',
      details: { ids },
    },
  );
}
