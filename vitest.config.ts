import { defineConfig } from 'vitest/config';
import SlowestFirst from './test/support/slowest-first.ts';

// The sources of the workspace's packages, not what was built of them: see "exports" in their package.json.
const resolve = { conditions: ['@meshhook/source', 'node', 'development|production'] };

export default defineConfig({
  // Two places where modules run: tests in `ssr`, the global setup in an environment of Vitest's own.
  environments: { ssr: { resolve }, __vitest__: { resolve } },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'apps/*/test/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: 'test/support/global-setup.ts',
    setupFiles: ['test/support/watch-keys.ts'],
    pool: 'forks',
    maxWorkers: 3,
    // Room for what a file makes, so that little time goes into looking for what of it is garbage.
    execArgv: ['--min-semi-space-size=16', '--max-semi-space-size=32', '--initial-heap-size=256'],
    sequence: { sequencer: SlowestFirst },
    // They tell that a test hangs, not that it is slow: the longest takes half a minute, and on a busy machine ten times as long.
    testTimeout: 420_000,
    hookTimeout: 420_000,
    expect: { poll: { timeout: 120_000 } },
    reporters: ['default', './test/support/suite-times.ts'],
  },
});
