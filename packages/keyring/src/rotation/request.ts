import { randomUUID } from 'node:crypto';
import type { RotationRequest } from '../api.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog } from '../keyring/columns.ts';
import { requireReason, requireUuid } from '../validate.ts';
import type { RotationContext } from './context.ts';
import {
  insertRotationProjects,
  selectKeyringProjects,
  selectMatchingProjects,
  selectOpenElsewhere,
} from './scope-store.ts';
import { AlreadyMade, nameRequest, requestName, rotationMadeBy } from './idempotency.ts';
import { pacingDetails, requirePacing } from './pacing.ts';
import { insertRotation } from './rotation-store.ts';

/** Which projects a request means. Those that were named must all be free; of the others, the busy are left out. */
export interface Choice {
  readonly ids: readonly string[] | 'all';
  readonly named: boolean;
}

/** Records a rotation of the chosen projects and gives its id. Nothing moves until somebody runs it. */
export async function requestRotation(context: RotationContext, request: RotationRequest): Promise<string> {
  const pacing = requirePacing(request, { pace: 'polite', maxRate: undefined });
  const { audit } = context;
  const name = request.idempotency && requestName(audit.actor.name, request.idempotency);
  const made = name && (await rotationMadeBy(context.database, name));
  if (made !== undefined) return made;
  const choice = await choose(context, request);
  await requireSoundCatalog(context.database);
  const { reason, trigger = 'manual' } = request;
  const id = randomUUID();
  try {
    await transaction(context.database, async (tx) => {
      const scope = choice.ids === 'all' ? 'all' : 'projects';
      await insertRotation(tx, { id, scope, trigger, requestedBy: audit.actor.name, reason, pacing });
      // Before the projects: their index, too, would refuse what another one of the same name took.
      if (name !== undefined) await nameRequest(tx, name, id);
      const added = await insertRotationProjects(tx, id, choice.ids, choice.named);
      if (added === 0) throw await nothingAdded(tx, choice);
      await audit.record(tx, {
        action: 'rotation.requested',
        projectId: choice.ids !== 'all' && choice.ids.length === 1 ? choice.ids[0] : undefined,
        subject: `rotation:${id}`,
        reason,
        details: { scope, projects: added, trigger, ...pacingDetails(pacing) },
      });
    });
  } catch (error) {
    if (error instanceof AlreadyMade) return requestRotation(context, request);
    if (sqlState(error) !== sqlStates.uniqueViolation) throw error;
    throw alreadyOpen(await selectOpenElsewhere(context.database, choice.ids));
  }
  return id;
}

/** The projects that a request means, if there are any. */
export async function choose(
  { database }: RotationContext,
  { projects, among = 'all', reason }: RotationRequest,
): Promise<Choice> {
  requireReason(reason);
  if (projects === 'all') {
    if (among === 'all') return { ids: 'all', named: false };
    const found = await selectKeyringProjects(database, among);
    return { ids: [...found].filter(([, { hasKeyring }]) => hasKeyring).map(([id]) => id), named: false };
  }
  if ('due' in projects || 'madeBefore' in projects) {
    const madeBefore = 'madeBefore' in projects ? projects.madeBefore : undefined;
    const ids = await selectMatchingProjects(database, madeBefore, among);
    if (ids.length > 0) return { ids, named: false };
    if ('madeBefore' in projects) {
      throw new KeyringError('nothing_to_rotate', 'No project matches.', {
        remedy: '`mh-keys status` shows their ages.',
      });
    }
    throw new KeyringError('nothing_to_rotate', 'No project is due.', {
      remedy:
        'Not due for a day is a project whose rotation was turned back, canceled or failed, and by use not in the first hour of ' +
        'a version: `mh-keys rotate --project …` rotates it all the same.',
    });
  }
  if (projects.length === 0) throw new KeyringError('invalid_argument', 'No project was named.');
  for (const id of projects) requireUuid('project id', id);
  const ids = projects.map((id) => id.toLowerCase());
  const found = await selectKeyringProjects(database, ids);
  for (const id of ids) {
    const project = found.get(id);
    if (project === undefined) throw new KeyringError('unknown_project', `There is no project ${id}.`);
    if (!project.hasKeyring) {
      throw new KeyringError('nothing_to_rotate', `The project "${project.name}" has no key yet.`, {
        remedy: 'Its first secret makes version 1: `mh-keys secrets set NAME --project …`.',
      });
    }
  }
  return { ids, named: true };
}

async function nothingAdded(tx: Queryable, { ids }: Choice): Promise<KeyringError> {
  const open = await selectOpenElsewhere(tx, ids);
  if (open.length > 0) return alreadyOpen(open);
  return new KeyringError('nothing_to_rotate', 'No project has a key yet.', {
    remedy: 'The first secret of a project makes its version 1.',
  });
}

function alreadyOpen(open: readonly { projectName: string; rotationId: string }[]): KeyringError {
  const [first] = open;
  return new KeyringError(
    'rotation_in_progress',
    first === undefined
      ? 'Another rotation of the project is open.'
      : `The project "${first.projectName}" is in the open rotation ${first.rotationId}.`,
    {
      remedy: `Let it finish, or look at it: \`mh-keys rotations ${first?.rotationId ?? ''}\`.`,
      details: { rotationIds: [...new Set(open.map((one) => one.rotationId))] },
    },
  );
}
