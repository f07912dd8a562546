import { retried } from '../db/retried.ts';
import { KeyringError } from '../errors.ts';
import type { RotationContext } from './context.ts';
import { recordCanceled } from './endings.ts';
import { cancelUnpromoted } from './project-store.ts';
import { lockRotation } from './rotation-store.ts';
import { settleRotation } from './settle.ts';

/**
 * Takes the projects out of a rotation that are not promoted yet, and ends it when none is left. One that is being promoted at
 * this moment is waited for, and stays in. @throws KeyringError `illegal_state` when there is none.
 */
export async function cancelRotation(context: RotationContext, rotationId: string): Promise<void> {
  await retried(context.database, async (tx) => {
    await lockRotation(tx, rotationId);
    const canceled = await cancelUnpromoted(tx, rotationId);
    if (canceled.length === 0) {
      throw new KeyringError('illegal_state', 'Every project of the rotation is promoted, or at its end.', {
        remedy: `Turn back what is not finalized: \`mh-keys rotations rollback ${rotationId}\`.`,
      });
    }
    await context.audit.record(tx, {
      action: 'rotation.cancel_requested',
      subject: `rotation:${rotationId}`,
      details: { projects: canceled.length },
    });
    await recordCanceled(context, tx, rotationId, canceled);
    await settleRotation(context, tx, rotationId);
  });
}
