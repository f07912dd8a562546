import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { rollbackScenario } from './support/scenarios.ts';
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
  'a rollback that loses any one statement is finished by the next process, with every value and one entry each (its projects %s)',
  async (way) => {
    const points = await strikeEveryStatement(rollbackScenario(installation, keyring, byTurns, way));
    console.log(`rollback, ${way}: ${String(points)} fault points`);
    expect(points).toBeGreaterThan(8);
  },
);
