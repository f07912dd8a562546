import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { emergencyScenario, suspensionScenario } from './support/emergency-scenarios.ts';
import { bothWays, byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { addWebhooksTable } from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  await addWebhooksTable(installation);
  keyring = await installation.open();
});
afterAll(() => installation.end());

test('an emergency that loses any one statement is one emergency, whoever asks for it again', async () => {
  const points = await strikeEveryStatement(emergencyScenario(installation, keyring, byTurns));
  console.log(`emergency: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(10);
});

test('a suspension that loses any one statement is there or not, and is taken back like any other', async () => {
  const points = await strikeEveryStatement(suspensionScenario(installation, keyring, bothWays));
  console.log(`suspension: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(10);
});
