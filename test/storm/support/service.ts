import { pick } from '../../../packages/keyring/test/engine/support/random.ts';
import { somewhere, type Site } from './site.ts';
import type { Storm } from './storm.ts';

const WRITERS = 8;
const READERS = 8;
// As many as leave the two cores something for the rotations.
const PAUSE_MS = 80;

/** Writers and readers who know what they must find. */
export function startService(storm: Storm, site: Site): Promise<void>[] {
  const { service } = site;
  const writers = Array.from({ length: WRITERS }, (_, index) =>
    storm.act(`writer ${String(index)}`, PAUSE_MS, (random) =>
      somewhere(site, random).write(pick(service, random), pick(service, random), random),
    ),
  );
  const readers = Array.from({ length: READERS }, (_, index) =>
    storm.act(`reader ${String(index)}`, PAUSE_MS, (random) =>
      somewhere(site, random).read(pick(service, random), random),
    ),
  );
  return [...writers, ...readers];
}
