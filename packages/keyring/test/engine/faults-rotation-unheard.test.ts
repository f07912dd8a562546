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
  'a rotation that never hears what became of any one statement is finished by the next process, all the same (its projects %s)',
  async (way) => {
    const points = await strikeEveryStatement(rotationScenario(installation, keyring, byTurns.slice(1, 2), way));
    console.log(`rotation, unheard, ${way}: ${String(points)} fault points`);
    expect(points).toBeGreaterThan(8);
  },
);
