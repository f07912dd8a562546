import { afterAll, beforeAll, expect, test } from 'vitest';
import { archiveScenario, sealScenario } from './support/audit-scenarios.ts';
import { bothWays, byTurns, strikeEveryStatement } from './support/faults.ts';
import { startInstallation, type Installation } from './support/installation.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await startInstallation();
});
afterAll(() => installation.end());

test('a sealer that loses any one statement leaves one chain, which the next one goes on with, and every checkpoint that it handed out holds', async () => {
  const points = await strikeEveryStatement(sealScenario(installation, byTurns));
  console.log(`seal: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(5);
});

test('an archive that loses any one statement has taken its range or not, and no entry is gone that is not in a file that verifies', async () => {
  const points = await strikeEveryStatement(archiveScenario(installation, bothWays));
  console.log(`archive: ${String(points)} fault points`);
  expect(points).toBeGreaterThan(15);
});
