import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { destroyRetiredScenario, destroyScenario } from './support/destroy-scenarios.ts';
import { bothWays, byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { adoptScenario, firstPutScenario, openingScenario } from './support/scenarios.ts';
import { addWebhooksTable } from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  await addWebhooksTable(installation);
  keyring = await installation.open();
});
afterAll(() => installation.end());

test('a put that loses any one statement leaves one version 1, and no value that its trail does not tell', async () => {
  const points = await strikeEveryStatement(firstPutScenario(installation, keyring, bothWays));
  console.log(`first put: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(30);
});

test('a destroy that loses any one statement has erased the version or not, and says so once', async () => {
  const points = await strikeEveryStatement(destroyScenario(installation, keyring, bothWays));
  console.log(`destroy: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(10);
});

test('a destruction of old versions that loses any one statement has erased some of them, and another look the others', async () => {
  const points = await strikeEveryStatement(destroyRetiredScenario(installation, keyring, bothWays));
  console.log(`destroy old versions: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(15);
});

test('an adoption that loses any one statement goes on where it stopped', async () => {
  const points = await strikeEveryStatement(adoptScenario(installation, keyring, byTurns));
  console.log(`adopt: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(4);
});

test('a first opening that loses any one statement leaves one wrapping key', async () => {
  const points = await strikeEveryStatement(openingScenario(installation, bothWays));
  console.log(`first opening: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(15);
});
