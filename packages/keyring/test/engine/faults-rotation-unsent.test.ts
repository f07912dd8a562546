import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { rotationScenario } from './support/scenarios.ts';
import { addWebhooksTable } from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  await addWebhooksTable(installation);
  keyring = await installation.open();
});
afterAll(() => installation.end());

test.each(['together', 'alone'] as const)(
  'a rotation whose process dies before any one statement is finished by the next one, with every value and one entry each (its projects %s)',
  async (way) => {
    const points = await strikeEveryStatement(rotationScenario(installation, keyring, byTurns.slice(0, 1), way));
    console.log(`rotation, unsent, ${way}: ${String(points)} fault points`);
    expect(points).toBeGreaterThan(8);
  },
);
