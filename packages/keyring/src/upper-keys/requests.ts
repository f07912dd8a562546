import { isTransient, sqlState, sqlStates } from '../db/failures.ts';
import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { Overtaken } from './context.ts';
import { selectOpenUpperRotation } from './rotation-store.ts';

const ATTEMPTS = 10;

/** Does it again when a rotation moved on meanwhile: what is asked of it then may be something else. */
export async function orRetried<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const lost = error instanceof Overtaken || isTransient(error) || sqlState(error) === sqlStates.lockNotAvailable;
      if (!lost) throw error;
      if (attempt === ATTEMPTS) throw new KeyringError('contended', 'Something else keeps changing this rotation.');
    }
  }
}

/** What a second open rotation is told, by the one unique index that there is for both kinds. */
export async function alreadyOpen(database: Queryable, refusal: unknown): Promise<unknown> {
  const open = await selectOpenUpperRotation(database);
  if (open === undefined) {
    return new KeyringError('rotation_in_progress', 'Another rotation was open, and has ended meanwhile.', {
      remedy: 'Ask again.',
      cause: refusal,
    });
  }
  return new KeyringError(
    'rotation_in_progress',
    `A rotation of the ${open.kind} key is open already (${open.id}, ${open.state.replace('_', ' ')}).`,
    {
      remedy: `Go on with it (\`mh-keys ${open.kind}-key rotate\`), or cancel it (\`mh-keys ${open.kind}-key cancel\`).`,
      details: { rotationId: open.id, kind: open.kind, state: open.state },
    },
  );
}
