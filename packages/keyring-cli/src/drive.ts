import { KeyringError, type Keyring, type RotationDetail } from '@meshhook/keyring';
import type { App } from './session.ts';
import { rotationProgress } from './terminal/rotation-progress.ts';
import { count, plural } from './terminal/text.ts';

/**
 * Drives a rotation to where it comes to rest, showing its progress. Interrupted, it is left resumable.
 * @throws KeyringError `interrupted`, whose remedy says how it goes on.
 */
export async function drive(app: App, keyring: Keyring, id: string): Promise<RotationDetail> {
  const { terminal, signal } = app;
  try {
    await keyring.rotations.run(id, { signal, onProgress: rotationProgress(terminal) });
  } catch (error) {
    const wasInterrupted = error instanceof KeyringError && error.code === 'interrupted';
    throw wasInterrupted ? ((await leftBehind(keyring, id).catch(() => undefined)) ?? error) : error;
  } finally {
    terminal.clearStatus();
  }
  return detail(keyring, id);
}

export async function detail(keyring: Keyring, id: string): Promise<RotationDetail> {
  const rotation = await keyring.rotations.get(id);
  if (rotation === undefined)
    throw new KeyringError('unknown_rotation', `There is no rotation ${id}.`, {
      remedy: 'Run `mh-keys rotations`.',
    });
  return rotation;
}

/** @throws KeyringError when the rotation, whose result has been shown, is not where it was meant to go. */
export function requireEnd({ id, state }: RotationDetail, wanted: 'completed' | 'rolled_back'): void {
  // A rotation that is turned back before anything was promoted is canceled.
  if (state === wanted || (wanted === 'rolled_back' && state === 'canceled')) return;
  const details = { rotationId: id, state };
  if (state === 'blocked') {
    throw new KeyringError('rotation_blocked', `The rotation ${id} is blocked; what blocks it is named above.`, {
      remedy: `Mend that (docs/runbooks/a-rotation-does-not-finish.md), then \`mh-keys rotate --resume ${id}\`.`,
      details,
    });
  }
  if (state === 'failed') {
    throw new KeyringError('rotation_blocked', `The rotation ${id} failed; why is named above.`, {
      remedy: 'Run `mh-keys doctor`, then rotate again.',
      details,
    });
  }
  throw new KeyringError('rotation_not_open', `Somebody else made the rotation ${id} ${state.replace('_', ' ')}.`, {
    remedy:
      state === 'paused' ? `Go on with \`mh-keys rotate --resume ${id}\`.` : `Look at it: \`mh-keys rotations ${id}\`.`,
    details,
  });
}

async function leftBehind(keyring: Keyring, id: string): Promise<KeyringError> {
  const { rows, runner, state } = await detail(keyring, id);
  const moved = `${count(rows.moved)} of ${plural(rows.total, 'row')} moved`;
  return new KeyringError('interrupted', `Interrupted with ${moved}. Nothing is lost; every secret stays readable.`, {
    remedy:
      runner === undefined
        ? `Go on with \`mh-keys rotate --resume ${id}\`; a server that runs on this database goes on by itself.`
        : `${runner} goes on with it. Watch it with \`mh-keys rotate --resume ${id}\`.`,
    details: { rotationId: id, state, moved: rows.moved, total: rows.total, runner: runner ?? null },
  });
}
