import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runChaos } from '../../packages/keyring/test/engine/support/chaos.ts';
import { crashPostgres, killRotatingProcesses } from '../../packages/keyring/test/engine/support/crashes.ts';
import { emergencyScenario } from '../../packages/keyring/test/engine/support/emergency-scenarios.ts';
import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import { startInstallation, type Installation } from '../../packages/keyring/test/engine/support/installation.ts';
import { runModel } from '../../packages/keyring/test/engine/support/model-runs.ts';
import {
  adoptScenario,
  firstPutScenario,
  healingScenario,
  rollbackScenario,
  rotationScenario,
} from '../../packages/keyring/test/engine/support/scenarios.ts';
import { seededRandom } from '../../packages/keyring/test/engine/support/random.ts';
import { addWebhooksTable } from '../../packages/keyring/test/engine/support/world.ts';

const LONG = 1_800_000;
const wanted = process.env['MESHHOOK_LONG'] === '1';

/** What takes minutes: the same proofs as in packages/keyring/test/engine, at more points. */
describe.skipIf(!wanted)('long proofs (MESHHOOK_LONG=1)', () => {
  describe('every statement, lost in every way', () => {
    let installation: Installation;
    beforeAll(async () => {
      installation = await startInstallation();
      await addWebhooksTable(installation);
    });
    afterAll(() => installation.end());

    const scenarios: Record<string, (keyring: Keyring) => Promise<number>> = {
      ...Object.fromEntries(
        (['together', 'alone'] as const).flatMap((way): [string, (keyring: Keyring) => Promise<number>][] => [
          [
            `a rotation, its projects ${way},`,
            (keyring) => strikeEveryStatement(rotationScenario(installation, keyring, everyWay, way)),
          ],
          [
            `a rotation with patience, its projects ${way},`,
            (keyring) => strikeEveryStatement(healingScenario(installation, keyring, everyWay, way)),
          ],
          [
            `a rollback, its projects ${way},`,
            (keyring) => strikeEveryStatement(rollbackScenario(installation, keyring, everyWay, way)),
          ],
        ]),
      ),
      'an emergency': (keyring) => strikeEveryStatement(emergencyScenario(installation, keyring, everyWay)),
      'a first put': (keyring) => strikeEveryStatement(firstPutScenario(installation, keyring, everyWay)),
      'an adoption': (keyring) => strikeEveryStatement(adoptScenario(installation, keyring, everyWay)),
    };
    test.each(Object.entries(scenarios))(
      '%s is finished by the next process',
      async (name, strike) => {
        const points = await strike(await installation.open());
        console.log(`${name}: ${String(points)} fault points`);
        expect(points).toBeGreaterThan(50);
      },
      LONG,
    );
  });

  test(
    '25 processes killed at random moments of a rotation lose nothing',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}: ${await killRotatingProcesses(25, seededRandom(seed))}`);
      expect(seed).toBeGreaterThan(0);
    },
    LONG,
  );

  test(
    'ten crashes of PostgreSQL at random statements lose nothing',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}: ${await crashPostgres(10, seededRandom(seed))}`);
      expect(seed).toBeGreaterThan(0);
    },
    LONG,
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
    LONG,
  );

  test(
    'a thousand random sequences of commands do what the model says',
    async () => {
      const seed = Date.now();
      console.log(`seed ${String(seed)}`);
      expect(await runModel(1000, seed)).toBeGreaterThan(1000);
    },
    LONG,
  );
});
