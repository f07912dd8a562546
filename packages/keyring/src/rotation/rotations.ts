import type { Keys, Rotation, Rotations } from '../api.ts';
import { retried } from '../db/retried.ts';
import { KeyringError } from '../errors.ts';
import { isUuid, requireGivenReason, requireUuid } from '../validate.ts';
import { cancelRotation } from './cancel.ts';
import { compromiseKey } from './compromise.ts';
import type { RotationContext } from './context.ts';
import {
  hasUnfinished,
  reopenBlocked,
  selectNoWayBack,
  selectProjectDetails,
  selectProjects,
} from './project-store.ts';
import { pacingDetails, requirePacing } from './pacing.ts';
import { requestName, rotationMadeBy } from './idempotency.ts';
import { selectQuarantine } from './quarantine-store.ts';
import { previewRotation } from './preview.ts';
import { selectReceipts } from './receipt-store.ts';
import { requestRotation } from './request.ts';
import {
  isRotationAmong,
  lockRotation,
  selectRotationById,
  selectRotations,
  selectWaiting,
  updatePacing,
  updateRotationState,
} from './rotation-store.ts';
import { runRotation } from './runner.ts';
import { requireUnit, work } from './work.ts';

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
      return known(await requestRotation(context, request));
    },

    preview: (request, options = {}) => previewRotation(context, request, options),

    async run(rotationId, options = {}) {
      await known(rotationId);
      return runRotation(context, rotationId, options);
    },

    async work(unit, { signal = new AbortController().signal } = {}) {
      return work(context, requireUnit(unit), signal);
    },

    waiting: ({ trigger } = {}) => selectWaiting(database, trigger),

    async pause(rotationId) {
      await known(rotationId);
      await retried(database, async (tx) => {
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
      await retried(database, async (tx) => {
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

    async cancel(rotationId) {
      const { state } = await known(rotationId);
      if (ended.has(state)) throw notOpen(rotationId, state);
      await cancelRotation(context, rotationId);
      return known(rotationId);
    },

    async rollback(rotationId) {
      const { trigger } = await known(rotationId);
      if (trigger === 'compromise') {
        throw new KeyringError('illegal_state', 'There is no way back to a compromised version.', {
          remedy: 'Let the rotation finish; to leave its version too, rotate again.',
        });
      }
      await retried(database, async (tx) => {
        const rotation = await lockRotation(tx, rotationId);
        if (rotation === undefined) throw notOpen(rotationId, undefined);
        if (rotation.state === 'rolling_back') return;
        if (!(await hasUnfinished(tx, rotationId))) throw notOpen(rotationId, rotation.state);
        const stuck = await selectNoWayBack(tx, rotationId);
        if (stuck.length > 0) {
          throw new KeyringError(
            'illegal_state',
            `There is no way back for ${stuck.join(', ')}: their old version is not enabled.`,
            {
              remedy: `Let the rotation finish: \`mh-keys rotate --resume ${rotationId}\`.`,
            },
          );
        }
        if (rotation.direction === 'back') await reopenBlocked(tx, rotationId);
        await updateRotationState(tx, rotationId, { state: 'rolling_back', direction: 'back' });
        await audit.record(tx, { action: 'rotation.rollback_requested', subject: `rotation:${rotationId}` });
      });
      return known(rotationId);
    },

    async setPace(rotationId, change) {
      const { trigger } = await known(rotationId);
      if (change.pace === undefined && change.maxRate === undefined) {
        throw new KeyringError('invalid_argument', 'Neither a pace nor a rate was given.');
      }
      if (trigger === 'compromise') {
        throw new KeyringError('illegal_state', 'An emergency always runs at full speed.', {
          remedy: 'Pause it if it has to wait.',
        });
      }
      await retried(database, async (tx) => {
        const rotation = await lockRotation(tx, rotationId);
        if (rotation === undefined || (!pausable.has(rotation.state) && rotation.state !== 'paused')) {
          throw notOpen(rotationId, rotation?.state);
        }
        const { pacing } = rotation;
        const next = requirePacing(change, pacing);
        if (next.pace === pacing.pace && next.maxRate === pacing.maxRate) return;
        await updatePacing(tx, rotationId, next);
        await audit.record(tx, {
          action: 'rotation.pace_changed',
          subject: `rotation:${rotationId}`,
          details: { ...pacingDetails(next), before: pacingDetails(pacing) },
        });
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

    standing: async (rotationId) => (isUuid(rotationId) ? selectRotationById(database, rotationId) : undefined),

    probeRead: () => context.pacers.probe(),

    async madeBy(request) {
      const id = await rotationMadeBy(database, requestName(audit.actor.name, request));
      return id === undefined ? undefined : known(id);
    },

    async compromise(keyId, options) {
      requireGivenReason(options.reason);
      return compromiseKey(context, { readKey, readRotation: known }, keyId, options);
    },

    async projects(rotationId, { state, after, limit = 1_000 } = {}) {
      await known(rotationId);
      if (after !== undefined) requireUuid('project id', after);
      return selectProjects(database, rotationId, { state, after, limit: Math.min(Math.max(limit, 1), 1_000) });
    },

    async receipts(rotationId, { projectId, after, limit = 1_000 } = {}) {
      await known(rotationId);
      if (projectId !== undefined && !isUuid(projectId)) return [];
      if (after !== undefined) requireUuid('project id', after);
      return selectReceipts(database, rotationId, { projectId, after, limit: Math.min(Math.max(limit, 1), 1_000) });
    },

    async list({ limit = 50, before, among, state, projectId } = {}) {
      if (before !== undefined) requireUuid('rotation id', before);
      if (projectId !== undefined) requireUuid('project id', projectId);
      const most = Math.min(Math.max(limit, 1), 500);
      return selectRotations(database, { limit: most, before, among, state, projectId });
    },

    isAmong: async (rotationId, projects) =>
      isUuid(rotationId) && (await isRotationAmong(database, rotationId, projects)),
  };
}

const pausable: ReadonlySet<string> = new Set(['requested', 'running', 'rolling_back', 'blocked']);
const ended: ReadonlySet<string> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);
const underWay: ReadonlySet<string> = new Set(['requested', 'running', 'rolling_back']);

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
