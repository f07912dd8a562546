import { randomUUID } from 'node:crypto';
import type { Keys, QuarantinedRow, Rotation, RotationPreview, RotationRequest, Rotations } from '../api.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireSoundCatalog } from '../keyring/columns.ts';
import { isUuid, requireUuid } from '../validate.ts';
import { compromiseKey } from './compromise.ts';
import type { RotationContext } from './context.ts';
import {
  insertRotationProjects,
  reopenBlocked,
  selectKeyringProjects,
  selectOpenElsewhere,
  selectProjectDetails,
  selectUnfinished,
} from './project-store.ts';
import { selectQuarantine } from './quarantine-store.ts';
import { selectReceipts } from './receipt-store.ts';
import {
  insertRotation,
  lockRotation,
  selectRotationById,
  selectRotations,
  selectWaiting,
  updateRotationState,
} from './rotation-store.ts';
import { runRotation } from './runner.ts';
import { verifyProject } from './verify.ts';

const MAX_REASON = 1000;

/** Rotations as their users see them: asked for, driven, paused, turned back, looked at. */
export function rotations(context: RotationContext, readKey: Keys['get']): Rotations {
  const { database, audit } = context;

  const known = async (id: string): Promise<Rotation> => {
    const rotation = isUuid(id) ? await selectRotationById(database, id) : undefined;
    if (rotation !== undefined) return rotation;
    throw new KeyringError('unknown_rotation', `There is no rotation ${id}.`, { remedy: 'Run `mh-keys rotations`.' });
  };

  return {
    async request(request) {
      await checkRequest(context, request);
      await requireSoundCatalog(database);
      const id = randomUUID();
      try {
        await transaction(database, (tx) => insertRequest(context, tx, id, request));
      } catch (error) {
        if (sqlState(error) === sqlStates.uniqueViolation) throw await inProgress(context, request);
        throw error;
      }
      return known(id);
    },

    async preview(request) {
      await checkRequest(context, request);
      return preview(context, request);
    },

    async run(rotationId, options = {}) {
      await known(rotationId);
      return runRotation(context, rotationId, options);
    },

    waiting: () => selectWaiting(database),

    async pause(rotationId) {
      await known(rotationId);
      await transaction(database, async (tx) => {
        const rotation = await lockRotation(tx, rotationId);
        if (rotation?.state === 'paused') return;
        if (rotation === undefined || !pausable.has(rotation.state)) throw notOpen(rotationId, rotation?.state);
        await updateRotationState(tx, rotationId, { state: 'paused' });
        await audit.record(tx, { action: 'rotation.paused', subject: `rotation:${rotationId}` });
      });
      return known(rotationId);
    },

    async resume(rotationId) {
      await known(rotationId);
      await transaction(database, async (tx) => {
        const rotation = await lockRotation(tx, rotationId);
        if (rotation !== undefined && underWay.has(rotation.state)) return;
        if (rotation?.state !== 'paused' && rotation?.state !== 'blocked') throw notOpen(rotationId, rotation?.state);
        await reopenBlocked(tx, rotationId);
        await updateRotationState(tx, rotationId, {
          state: rotation.direction === 'back' ? 'rolling_back' : 'running',
        });
        await audit.record(tx, { action: 'rotation.resumed', subject: `rotation:${rotationId}` });
      });
      return known(rotationId);
    },

    async rollback(rotationId) {
      const { trigger } = await known(rotationId);
      if (trigger === 'compromise') {
        throw new KeyringError('illegal_state', 'There is no way back to a compromised version.', {
          remedy: 'Let the rotation finish; to leave its version too, rotate again.',
        });
      }
      await transaction(database, async (tx) => {
        const rotation = await lockRotation(tx, rotationId);
        if (rotation === undefined) throw notOpen(rotationId, undefined);
        if (rotation.state === 'rolling_back') return;
        if ((await selectUnfinished(tx, rotationId)).length === 0) throw notOpen(rotationId, rotation.state);
        if (rotation.direction === 'back') await reopenBlocked(tx, rotationId);
        await updateRotationState(tx, rotationId, { state: 'rolling_back', direction: 'back' });
        await audit.record(tx, { action: 'rotation.rollback_requested', subject: `rotation:${rotationId}` });
      });
      return known(rotationId);
    },

    async get(rotationId) {
      const rotation = isUuid(rotationId) ? await selectRotationById(database, rotationId) : undefined;
      if (rotation === undefined) return undefined;
      return {
        ...rotation,
        projectDetails: await selectProjectDetails(database, rotationId),
        quarantine: await selectQuarantine(database, rotationId),
      };
    },

    async compromise(keyId, { reason }) {
      if (reason.trim() === '' || reason.length > MAX_REASON) {
        throw new KeyringError('invalid_argument', `A reason of 1 to ${String(MAX_REASON)} characters is wanted.`);
      }
      return compromiseKey(context, { readKey, readRotation: known }, keyId, reason);
    },

    async receipts(rotationId) {
      await known(rotationId);
      return selectReceipts(database, rotationId);
    },

    async list({ limit = 50, before } = {}) {
      if (before !== undefined) requireUuid('rotation id', before);
      return selectRotations(database, { limit: Math.min(Math.max(limit, 1), 500), before });
    },
  };
}

const pausable: ReadonlySet<string> = new Set(['requested', 'running', 'rolling_back', 'blocked']);
const underWay: ReadonlySet<string> = new Set(['requested', 'running', 'rolling_back']);

async function checkRequest({ database }: RotationContext, { projects, reason }: RotationRequest): Promise<void> {
  if (reason !== undefined && reason.length > MAX_REASON) {
    throw new KeyringError('invalid_argument', `The reason has more than ${String(MAX_REASON)} characters.`);
  }
  if (projects === 'all') return;
  if (projects.length === 0) throw new KeyringError('invalid_argument', 'No project was named.');
  for (const id of projects) requireUuid('project id', id);
  const found = await selectKeyringProjects(database, projects);
  for (const id of projects) {
    const project = found.get(id.toLowerCase());
    if (project === undefined) throw new KeyringError('unknown_project', `There is no project ${id}.`);
    if (!project.hasKeyring) {
      throw new KeyringError('nothing_to_rotate', `The project "${project.name}" has no key yet.`, {
        remedy: 'Its first secret makes version 1: `mh-keys secrets set NAME --project …`.',
      });
    }
  }
}

async function insertRequest(
  { audit }: RotationContext,
  tx: Parameters<typeof insertRotation>[0],
  id: string,
  { projects, reason, trigger = 'manual' }: RotationRequest,
): Promise<void> {
  const scope = projects === 'all' ? 'all' : 'projects';
  await insertRotation(tx, { id, scope, trigger, requestedBy: audit.actor, reason });
  const added = await insertRotationProjects(
    tx,
    id,
    projects === 'all' ? 'all' : projects.map((one) => one.toLowerCase()),
  );
  if (added === 0) {
    const [open] = await selectOpenElsewhere(tx, 'all');
    if (open !== undefined) throw alreadyOpen([open]);
    throw new KeyringError('nothing_to_rotate', 'No project has a key yet.', {
      remedy: 'The first secret of a project makes its version 1.',
    });
  }
  const only = projects !== 'all' && projects.length === 1 ? projects[0] : undefined;
  await audit.record(tx, {
    action: 'rotation.requested',
    projectId: only,
    subject: `rotation:${id}`,
    reason,
    details: { scope, projects: added, trigger },
  });
}

/** Opens every row that a rotation of these projects would move, and moves none. */
async function preview(context: RotationContext, { projects }: RotationRequest): Promise<RotationPreview> {
  const columns = await requireSoundCatalog(context.database);
  const chosen = await selectKeyringProjects(context.database, projects);
  const never = new AbortController().signal;
  const unreadable: QuarantinedRow[] = [];
  let rows = 0;
  for (const projectId of chosen.keys()) {
    const result = await verifyProject(context, projectId, undefined, columns, never);
    rows += result.opened;
    for (const [label, lost] of result.unreadable) {
      rows += lost.length;
      for (const { row, reason } of lost) {
        unreadable.push({ projectId, label, rowId: row.id, keyId: row.keyId, reason, noticedAt: new Date() });
      }
    }
  }
  return { projects: chosen.size, rows, unreadable };
}

async function inProgress({ database }: RotationContext, { projects }: RotationRequest): Promise<KeyringError> {
  return alreadyOpen(await selectOpenElsewhere(database, projects));
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

function notOpen(id: string, state: string | undefined): KeyringError {
  return new KeyringError(
    'rotation_not_open',
    `The rotation ${id} is ${state ?? 'gone'}: there is nothing left to change.`,
    {
      remedy: 'A finalized rotation stays; to leave its version, rotate again.',
      details: { rotationId: id, state },
    },
  );
}
