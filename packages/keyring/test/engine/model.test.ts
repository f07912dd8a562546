import { expect, test } from 'vitest';
import { runModel } from './support/model-runs.ts';

test('random commands of two processes do what a model in memory says, whatever their order', async () => {
  const commands = await runModel(15, 20261123);
  console.log(`model: ${String(commands)} commands`);
  expect(commands).toBeGreaterThan(100);
});
