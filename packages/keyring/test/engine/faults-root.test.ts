import { afterAll, beforeAll, expect, test } from 'vitest';
import { byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { rootCancelScenario, rootScenario, type RootPlace } from './support/root-scenarios.ts';

let installation: Installation;
let place: RootPlace;
beforeAll(async () => {
  installation = await startInstallation();
  await installation.open();
  place = { root: installation.rootKey };
});
afterAll(() => installation.end());

test('a rotation of the root key that loses any one statement is finished by the next process, with one entry each', async () => {
  const points = await strikeEveryStatement(rootScenario(installation, place, byTurns));
  console.log(`root key: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(5);
});

test('a cancel of it that loses any one statement has happened or not, once', async () => {
  const points = await strikeEveryStatement(rootCancelScenario(installation, place, byTurns));
  console.log(`root key, cancel: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(1);
});

test('a leaked root key: a new root and a new wrapping key, whatever statement of the whole job is lost', async () => {
  const points = await strikeEveryStatement(rootScenario(installation, place, byTurns, true));
  console.log(`root key, leaked: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(15);
});
