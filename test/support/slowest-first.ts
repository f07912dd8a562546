import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take longest, the longest first: one that begins when all others have ended leaves a core without work. Vitest knows this
 * only from an earlier run, and CI has none. What is not here comes after them, as Vitest would have it.
 */
const slowest = [
  'storm/storm',
  'engine/crashes',
  'engine/faults-rollback',
  'engine/faults-wrapping',
  'engine/faults-emergency',
  'engine/faults-rotation-unsent',
  'engine/faults-rotation-unheard',
  'worker/test/processes',
  'worker/test/two-years',
  'interleaving/triples',
  'engine/faults-root',
  'engine/concurrency',
  'interleaving/pairs',
  'engine/faults-elsewhere',
  'admin/test/axe',
  'admin/test/server',
  'embedded/test/cluster',
  'embedded/test/host',
  'memory/memory',
  'engine/blocks',
  'database/migrations',
  'cli/test/rotations',
  'cli/test/upper-keys',
  'engine/faults-audit',
  'cli/test/session',
  'test/monitoring',
  'test/readme',
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
