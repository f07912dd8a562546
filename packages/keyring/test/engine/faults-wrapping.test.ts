import type { Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import {
  healingWrappingScenario,
  wrappingCancelScenario,
  wrappingRollbackScenario,
  wrappingScenario,
} from './support/wrapping-scenarios.ts';

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
});
afterAll(() => installation.end());

test('a rotation of the wrapping key that loses any one statement is finished by the next process, with one entry each', async () => {
  const points = await strikeEveryStatement(wrappingScenario(installation, keyring, byTurns));
  console.log(`wrapping key: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(10);
});

test('a rotation of the wrapping key goes on by itself when it loses the answer to any one statement', async () => {
  const points = await strikeEveryStatement(healingWrappingScenario(installation, keyring, byTurns));
  console.log(`wrapping key, by itself: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(5);
});

test('a rollback of the wrapping key that loses any one statement is finished by the next process, with one entry each', async () => {
  const points = await strikeEveryStatement(wrappingRollbackScenario(installation, keyring, byTurns));
  console.log(`wrapping key, rollback: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(7);
});

test('a cancel that loses any one statement has happened or not, once', async () => {
  const points = await strikeEveryStatement(wrappingCancelScenario(installation, keyring, byTurns));
  console.log(`wrapping key, cancel: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(1);
});
