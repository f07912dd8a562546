import { expect, test } from 'vitest';
import { runChaos } from '../../packages/keyring/test/engine/support/chaos.ts';
import { crashPostgres, killRotatingProcesses } from '../../packages/keyring/test/engine/support/crashes.ts';
import { startInstallation } from '../../packages/keyring/test/engine/support/installation.ts';
import { runModel } from '../../packages/keyring/test/engine/support/model-runs.ts';
import { seededRandom } from '../../packages/keyring/test/engine/support/random.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

describeLong('accidents at random (MESHHOOK_LONG=1)', () => {
  test(
    '25 processes killed at random moments of a rotation lose nothing',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}: ${await killRotatingProcesses(25, seededRandom(seed))}`);
      expect(seed).toBeGreaterThan(0);
    },
    LONG_MS,
  );

  test(
    'ten crashes of PostgreSQL at random statements lose nothing',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}: ${await crashPostgres(10, seededRandom(seed))}`);
      expect(seed).toBeGreaterThan(0);
    },
    LONG_MS,
  );

  test.each([1, 2, 3, 4, 5])(
    'eight writers and eight readers, more of everything (%i)',
    async (round) => {
      const installation = await startInstallation();
      try {
        console.log(await runChaos(installation, { seed: Date.now() + round, operations: 600 }));
      } finally {
        await installation.end();
      }
      expect(round).toBeGreaterThan(0);
    },
    LONG_MS,
  );

  test(
    'a thousand random sequences of commands do what the model says',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}`);
      expect(await runModel(1000, seed)).toBeGreaterThan(1000);
    },
    LONG_MS,
  );
});
