import { randomUUID } from 'node:crypto';
import type { Compromise, KeyVersion, NamedRequest, Rotation } from '../api.ts';
import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import { transaction, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { unknownKey } from '../keyring/refusal.ts';
import { markCompromised, markRolledBack, movePrimary, selectLatestVersion, selectPrimary } from '../keyring/store.ts';
import { boundedTransaction } from './bounded.ts';
import type { RotationContext } from './context.ts';
import { promotedEntry } from './entries.ts';
import { AlreadyMade, nameRequest, requestName, rotationMadeBy } from './idempotency.ts';
import { insertPromotedProject, isInOpenRotation, overtakeProject, selectOpenEmergency } from './project-store.ts';
import { insertRotation } from './rotation-store.ts';
import { settleRotation } from './settle.ts';
import { backoffMs, pause } from '../db/wait.ts';

// No politeness here, but no endless queue of the project's writers either: they get in between two tries.
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 2_000;

/** Undoes a try that found the keyring changed under it. */
class Changed extends Error {}

interface CompromiseParts {
  readonly readKey: (keyId: string) => Promise<KeyVersion | undefined>;
  readonly readRotation: (rotationId: string) => Promise<Rotation>;
}

/**
 * The emergency: the next version is made, committed, read back and tried; then one transaction overtakes what is open, moves
 * the pointer to it, and marks the leaked one.
 */
export async function compromiseKey(
  context: RotationContext,
  { readKey, readRotation }: CompromiseParts,
  keyId: string,
  { reason, idempotency }: { readonly reason: string; readonly idempotency?: NamedRequest },
): Promise<Compromise> {
  const key = await readKey(keyId);
  if (key === undefined) throw unknownKey(keyId);
  if (key.status === 'destroyed') {
    throw new KeyringError('key_destroyed', `Version ${String(key.version)} of ${key.projectName} was destroyed.`, {
      remedy: 'Nothing is under it. The exposure report still says what was.',
    });
  }
  const { database, dataKeys } = context;
  const name = idempotency && requestName(context.audit.actor.name, idempotency);
  const answer = async (rotationId: string | undefined, overtaken: readonly string[]): Promise<Compromise> => ({
    key: (await readKey(keyId)) ?? key,
    rotation: rotationId === undefined ? undefined : await readRotation(rotationId),
    overtaken,
  });
  const made = name && (await rotationMadeBy(database, name));
  if (made !== undefined) return answer(made, []);
  if (!key.active && key.rows === 0 && !(await isInOpenRotation(database, key.projectId, keyId))) {
    await transaction(database, (tx) => mark(context, tx, key, reason));
    return answer(undefined, []);
  }
  // Asked for again, as by somebody who never got the answer: its emergency is open already.
  const open = key.status === 'compromised' ? await selectOpenEmergency(database, key.projectId) : undefined;
  if (open !== undefined) return answer(open, []);

  let next: { id: string } | undefined;
  let waitedMs = 0;
  for (let attempt = 1; ; attempt++) {
    const waitMs = backoffMs(attempt, FIRST_WAIT_MS, LONGEST_WAIT_MS);
    try {
      next ??= await stageNext(context, key.projectId);
      const { id } = next;
      const done = await boundedTransaction(database, async (tx) => {
        const exchanged = await exchange(context, tx, key, id, reason, waitMs);
        if (name !== undefined) await nameRequest(tx, name, exchanged.rotationId);
        return exchanged;
      });
      dataKeys.forgetPrimary(key.projectId);
      return await answer(done.rotationId, done.overtaken);
    } catch (error) {
      const made = error instanceof AlreadyMade && name ? await rotationMadeBy(database, name) : undefined;
      if (made !== undefined) return answer(made, []);
      const state = sqlState(error);
      const waited = state === sqlStates.canceled || state === sqlStates.lockNotAvailable;
      const again = error instanceof Changed || isTransient(error) || waited;
      if (!again && state !== sqlStates.uniqueViolation && state !== sqlStates.staleWrapping) throw error;
      if (waitedMs >= context.lockPatienceMs) throw contended(key);
      waitedMs += waitMs;
      await pause(waited ? 50 : 0, new AbortController().signal);
    }
  }
}

async function stageNext(context: RotationContext, projectId: string): Promise<{ id: string }> {
  const latest = await selectLatestVersion(context.database, projectId);
  if (latest === undefined) throw new Changed();
  const next = await context.dataKeys.create(projectId, latest.version + 1);
  await transaction(context.database, (tx) => context.dataKeys.insert(tx, next));
  await context.dataKeys.selfTest(projectId, next.id);
  return next;
}

async function exchange(
  context: RotationContext,
  tx: Queryable,
  key: KeyVersion,
  nextId: string,
  reason: string,
  waitMs: number,
): Promise<{ rotationId: string; overtaken: string[] }> {
  const { audit } = context;
  const { projectId } = key;
  const source = await selectPrimary(tx, projectId);
  if (source === undefined) throw new Changed();
  if (!(await movePrimary(tx, { projectId, from: source, to: nextId, waitMs }))) throw new Changed();
  await mark(context, tx, key, reason);
  const open = await overtakeProject(tx, projectId);
  for (const { rotationId, targetKeyId, promoted } of open) {
    // A version that was staged and never used is never used.
    if (targetKeyId !== undefined && !promoted) await markRolledBack(tx, [targetKeyId]);
    await audit.record(tx, {
      action: 'rotation.project_overtaken',
      projectId,
      subject: `rotation:${rotationId}`,
      reason,
    });
    await settleRotation(context, tx, rotationId);
  }
  const rotationId = randomUUID();
  await insertRotation(tx, {
    id: rotationId,
    scope: 'projects',
    trigger: 'compromise',
    requestedBy: audit.actor.name,
    reason,
    pacing: { pace: 'full', maxRate: undefined },
  });
  await insertPromotedProject(tx, { rotationId, projectId, sourceKeyId: source, targetKeyId: nextId });
  await audit.record(tx, { action: 'rotation.requested', projectId, subject: `rotation:${rotationId}`, reason });
  const promoted = promotedEntry(rotationId, { projectId, sourceKeyId: source, targetKeyId: nextId });
  await audit.record(tx, { ...promoted, reason });
  return { rotationId, overtaken: open.map((one) => one.rotationId) };
}

async function mark(context: RotationContext, tx: Queryable, key: KeyVersion, reason: string): Promise<void> {
  if (!(await markCompromised(tx, key.id))) return;
  await context.audit.record(tx, {
    action: 'key.compromised',
    projectId: key.projectId,
    subject: `key:${key.id}`,
    reason,
    details: { version: key.version },
  });
}

function contended(key: KeyVersion): KeyringError {
  return new KeyringError('contended', `A transaction of ${key.projectName} stays open and holds its keyring.`, {
    remedy: 'End it (docs/runbooks/a-rotation-does-not-finish.md says how to find it), then run this again.',
    details: { projectId: key.projectId },
  });
}
