import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take longest, the longest first: one that begins when all others have ended leaves a core without work. Vitest knows this
 * only from an earlier run, and CI has none. What is not here comes after them, as Vitest would have it.
 */
const slowest = [
  'storm/storm',
  'engine/crashes',
  'worker/test/processes',
  'worker/test/worker',
  'admin/test/server',
  'engine/faults-wrapping',
  'engine/faults-rollback',
  'engine/faults-rotation-unsent',
  'engine/fleet',
  'embedded/test/placement',
  'engine/faults-rotation-unheard',
  'worker/test/two-years',
  'engine/faults-emergency',
  'interleaving/broken',
  'engine/faults-elsewhere',
  'admin/test/axe',
  'engine/concurrency',
  'memory/memory',
  'embedded/test/cluster',
  'interleaving/pairs',
  'admin/test/page',
  'http/test/openapi',
  'engine/wrapping-rotation',
  'test/monitoring',
  'cli/test/session',
  'cli/test/rotations',
  'engine/faults-root',
  'providers/azurekms',
  'interleaving/triples',
  'admin/test/rotation',
  'cli/test/recovery-drill',
  'cli/test/root-key',
  'cli/test/upper-keys',
  'cli/test/runbooks',
  'cli/test/refusals',
  'engine/fleet-reading',
  'providers/client-libraries',
  'cli/test/guides',
  'cli/test/backup',
  'cli/test/root-key-rotate',
  'embedded/test/host',
  'admin/test/visitors',
  'test/readme',
  'database/migrations',
];

export default class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = slowest.findIndex((name) => moduleId.endsWith(`${name}.test.ts`));
      return at === -1 ? slowest.length : at;
    };
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}
