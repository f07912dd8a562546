import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const NAME = '.meshhook';

/**
 * The home that is meant by whoever names none and stands in `from`: the one in that folder, else the caller's own in the nearest
 * folder above it, as a repository is found; else the one that will be made in `from`. So a command that is typed in a subfolder
 * makes no second vault. One above that is somebody else's is passed by: it would bring its own database and root key.
 * @param uid the caller's; undefined where there are no such ids.
 */
export function nearestHome(from = '.', uid = process.getuid?.()): string {
  if (existsSync(join(from, NAME))) return join(from, NAME);
  let folder = resolve(from);
  while (folder !== dirname(folder)) {
    folder = dirname(folder);
    const found = statSync(join(folder, NAME), { throwIfNoEntry: false });
    if (found?.isDirectory() === true && (uid === undefined || found.uid === uid)) return join(folder, NAME);
  }
  return join(from, NAME);
}
