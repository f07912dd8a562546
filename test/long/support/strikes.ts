import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../../../packages/keyring/test/engine/support/installation.ts';
import { addWebhooksTable } from '../../../packages/keyring/test/engine/support/world.ts';
import { describeLong, LONG_MS } from './wanted.ts';

/** Runs `strikeEveryStatement` for one scenario and says how many points there were. */
export type Strike = (installation: Installation, keyring: Keyring) => Promise<number>;

/** One test for each scenario: every statement of it is lost in every way, and the next process finishes it. */
export function strikeAll(scenarios: Readonly<Record<string, Strike>>): void {
  describeLong('every statement, lost in every way (MESHHOOK_LONG=1)', () => {
    let installation: Installation;
    beforeAll(async () => {
      installation = await startInstallation();
      await addWebhooksTable(installation);
    });
    afterAll(() => installation.end());

    test.each(Object.entries(scenarios))(
      '%s is finished by the next process',
      async (name, strike) => {
        const points = await strike(installation, await installation.open());
        console.log(`${name}: ${String(points)} fault points`);
        expect(points).toBeGreaterThan(50);
      },
      LONG_MS,
    );
  });
}
