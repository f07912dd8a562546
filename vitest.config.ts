import { defineConfig } from 'vitest/config';

// The sources of the workspace's packages, not what was built of them: see "exports" in their package.json.
const resolve = { conditions: ['@meshhook/source', 'node', 'development|production'] };

export default defineConfig({
  // Two places where modules run: tests in `ssr`, the global setup in an environment of Vitest's own.
  environments: { ssr: { resolve }, __vitest__: { resolve } },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'apps/*/test/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: 'test/support/global-setup.ts',
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', './test/support/suite-times.ts'],
  },
});
