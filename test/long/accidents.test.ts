import { onTestFinished, expect, test } from 'vitest';
import { runChaos } from '../../packages/keyring/test/engine/support/chaos.ts';
import { crashPostgres, killRotatingProcesses } from '../../packages/keyring/test/engine/support/crashes.ts';
import { startInstallation } from '../../packages/keyring/test/engine/support/installation.ts';
import { runModel } from '../../packages/keyring/test/engine/support/model-runs.ts';
import { seededRandom } from '../../packages/keyring/test/engine/support/random.ts';
import { seed } from '../support/seeded.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

describeLong('accidents at random (MESHHOOK_LONG=1)', () => {
  test(
    '25 processes killed at random moments of a rotation lose nothing',
    async ({ task }) => {
      task.meta.seed = seed;
      const summary = await killRotatingProcesses(25, seededRandom(seed));
      console.log(summary);
      expect(summary).toContain('25 kills');
    },
    LONG_MS,
  );

  test(
    'ten crashes of PostgreSQL at random statements lose nothing',
    async ({ task }) => {
      task.meta.seed = seed;
      const summary = await crashPostgres(10, seededRandom(seed));
      console.log(summary);
      expect(summary).toContain('10 crashes');
    },
    LONG_MS,
  );

  test.for([1, 2])(
    'eight writers and eight readers, more of everything (%i)',
    { timeout: LONG_MS },
    async (round, { task }) => {
      task.meta.seed = seed;
      const installation = await startInstallation();
      onTestFinished(() => installation.end());
      const summary = await runChaos(installation, { seed: seed + round, operations: 600 });
      console.log(summary);
      expect(summary).toContain('rotations');
    },
  );

  test(
    'four hundred random sequences of commands do what the model says',
    async ({ task }) => {
      task.meta.seed = seed;
      expect(await runModel(400, seed)).toBeGreaterThan(400);
    },
    LONG_MS,
  );
});
