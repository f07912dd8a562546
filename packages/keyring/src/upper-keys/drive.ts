import type { Instance, UpperRunOptions } from '../api-upper-keys.ts';
import { isTransient, isUnreachable, sqlState, sqlStates } from '../db/failures.ts';
import { transaction } from '../db/port.ts';
import { backoffMs, pause } from '../db/wait.ts';
import { KeyringError } from '../errors.ts';
import { requireUuid } from '../validate.ts';
import { Overtaken, type UpperContext } from './context.ts';
import { listInstances } from './instance-store.ts';
import { noteForced, selectUpperRotation, type UpperRotation } from './rotation-store.ts';

/** What a step came to: the rotation stands elsewhere now, or live instances cannot follow yet. */
export type Stepped = 'again' | { readonly without: readonly string[] };

export type Step = (rotation: UpperRotation, signal: AbortSignal, tell: () => void) => Promise<Stepped>;

const LOOK_AGAIN_MS = 250;
// Far more than processes that drive the same rotation can cost each other, far less than for ever.
const MOST_OVERTAKEN = 50;

const ended: ReadonlySet<string> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);

export const hasEnded = ({ state }: Pick<UpperRotation, 'state'>): boolean => ended.has(state);

/**
 * Takes a rotation from where it stands to where it comes to rest, a step at a time; each begins with what the rotation's row says,
 * and does one thing by compare-and-set, so that any process can die anywhere, and two can do it at once.
 */
export async function driveUpper(
  context: UpperContext,
  id: string,
  kind: UpperRotation['kind'],
  options: UpperRunOptions<UpperRotation>,
  step: Step,
): Promise<UpperRotation> {
  const { database, lockPatienceMs } = context;
  const signal = options.signal ?? new AbortController().signal;
  const forcePast = (options.forcePast ?? []).map((one) => requireUuid('instance', one));
  let waitingFor: readonly Instance[] = [];
  let overtaken = 0;
  let failures = 0;
  let waitedMs = 0;
  for (;;) {
    try {
      const rotation = await requireUpper(context, id, kind);
      options.onProgress?.(rotation, waitingFor);
      if (hasEnded(rotation) || rotation.state === 'blocked') return rotation;
      if (signal.aborted) throw interrupted(rotation);
      const stepped = await step(rotation, signal, () => options.onProgress?.(rotation, []));
      if (stepped === 'again') waitingFor = [];
      else {
        if (await force(context, rotation, stepped.without, forcePast)) continue;
        const live = new Set(stepped.without);
        waitingFor = (await listInstances(database)).filter((one) => live.has(one.id));
        options.onProgress?.(rotation, waitingFor);
        if (options.whenLagging === 'leave') return rotation;
        await pause(LOOK_AGAIN_MS, signal);
      }
      overtaken = 0;
      failures = 0;
      waitedMs = 0;
    } catch (error) {
      if (signal.aborted) throw interrupted({ id, kind });
      if (isLost(error)) {
        if (++overtaken > MOST_OVERTAKEN) throw contended(id);
        continue;
      }
      // A database that restarts is worth waiting for: everything that was committed is where it was.
      const waitMs = backoffMs(++failures, 100, 5_000);
      if (!isUnreachable(error) || waitedMs + waitMs > lockPatienceMs) throw error;
      await pause(waitMs, signal);
      waitedMs += waitMs;
    }
  }
}

/** @throws KeyringError `unknown_rotation`. */
export async function requireUpper(
  { database }: Pick<UpperContext, 'database'>,
  id: string,
  kind: UpperRotation['kind'],
): Promise<UpperRotation> {
  const rotation = await selectUpperRotation(database, requireUuid('rotation', id));
  if (rotation?.kind === kind) return rotation;
  throw new KeyringError('unknown_rotation', `There is no rotation ${id} of the ${kind} key.`, {
    remedy: `Run \`mh-keys ${kind}-key rotations\`.`,
  });
}

/** Notes those that it does not wait for. Gives whether there was any. */
async function force(
  { database, audit }: UpperContext,
  rotation: UpperRotation,
  without: readonly string[],
  forcePast: readonly string[],
): Promise<boolean> {
  const past = without.filter((id) => forcePast.includes(id));
  for (const id of past) {
    await transaction(database, async (tx) => {
      if (!(await noteForced(tx, rotation.id, id))) return;
      await audit.record(tx, {
        action: 'instance.forced_past',
        subject: `instance:${id}`,
        reason: rotation.reason,
        details: { rotation: rotation.id },
      });
    });
  }
  return past.length > 0;
}

/** Somebody else took the step first or takes it now, or PostgreSQL gave ours up for theirs. */
function isLost(error: unknown): boolean {
  const state = sqlState(error);
  return (
    error instanceof Overtaken ||
    isTransient(error) ||
    state === sqlStates.staleWrapping ||
    state === sqlStates.lockNotAvailable ||
    state === sqlStates.uniqueViolation
  );
}

function contended(id: string): KeyringError {
  return new KeyringError('contended', 'Something else keeps changing this rotation.', {
    remedy:
      'Run it again; if it stays so, cancel it and ask for another: what it was prepared with may have changed since.',
    details: { rotationId: id },
  });
}

function interrupted({ id, kind }: Pick<UpperRotation, 'id' | 'kind'>): KeyringError {
  return new KeyringError(
    'interrupted',
    'The rotation was interrupted. Nothing is lost: it goes on where it stopped.',
    {
      remedy:
        kind === 'root'
          ? 'Run `mh-keys root-key rotate --to URI` again, with the same URI; `mh-keys root-key cancel` takes it back.'
          : 'Run `mh-keys wrapping-key rotate` again.',
      details: { rotationId: id },
    },
  );
}
