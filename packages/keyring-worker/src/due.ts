import { KeyringError, type Keyring } from '@meshhook/keyring';

const quiet: ReadonlySet<string> = new Set(['nothing_to_rotate', 'rotation_in_progress']);

/**
 * Asks for the rotation of every project whose policy wants one, by age or by use, and gives its id; undefined when there is
 * none, or all of them are in an open rotation. Asked by many at the same time, it makes one rotation.
 */
export async function requestDue(rotations: Pick<Keyring['rotations'], 'request'>): Promise<string | undefined> {
  try {
    return (await rotations.request({ projects: { due: true }, trigger: 'usage' })).id;
  } catch (error) {
    if (error instanceof KeyringError && quiet.has(error.code)) return undefined;
    throw error;
  }
}
