import type { Database } from '../db/port.ts';
import { selectRootKeys } from '../keyring/wrapping-store.ts';
import { selectOpenUpperRotation } from '../upper-keys/rotation-store.ts';
import { selectWrappingKeyVersions } from '../upper-keys/wrapping-rotation-store.ts';

type Finding = (code: string, message: string, remedy: string) => void;

const EXAMPLES = 20;

/** What is wrong with the keys above the data keys, as far as the database knows. */
export async function examineUpperKeys({
  database,
  error,
  warning,
}: {
  readonly database: Database;
  readonly error: Finding;
  readonly warning: Finding;
}): Promise<void> {
  const open = await selectOpenUpperRotation(database);
  if (open?.state === 'blocked') {
    const keys = open.blockedBy.slice(0, EXAMPLES).map(({ kind, id, reason }) => `${kind} key ${id} (${reason})`);
    error(
      'wrapping_rotation_blocked',
      `The rotation ${open.id} of the wrapping key is blocked by ${keys.join(', ')}.`,
      'Restore these keys from a backup, then `mh-keys wrapping-key rotate` goes on.',
    );
  }
  const roots = await selectRootKeys(database);
  if (roots.length > 1 && open === undefined) {
    warning(
      'root_keys_left',
      `Several root keys are in use, and none is on its way out: ${roots.map(({ uri }) => uri).join(', ')}.`,
      'Run `mh-keys root-key rotate --to` the one that stays; one that is gone counts as a way in until then.',
    );
  }
  for (const key of await selectWrappingKeyVersions(database)) {
    if (!key.active && key.keys > 0 && open === undefined) {
      warning(
        'stale_wrapping',
        `${String(key.keys)} keys are under wrapping key version ${String(key.version)}, which is not the primary one.`,
        'Run `mh-keys wrapping-key rotate`: keys restored from a backup move with it.',
      );
    }
    if (key.active && key.exposedAt !== undefined && open === undefined) {
      error(
        'wrapping_key_exposed',
        `The wrapping key was under a root key that leaked (${key.exposedAt.toISOString()}).`,
        'Run `mh-keys wrapping-key rotate`; see docs/runbooks/root-key-leaked.md.',
      );
    }
  }
}
