import { expect, test } from 'vitest';
import { crashPostgres, killRotatingProcesses } from './support/crashes.ts';
import { seededRandom } from './support/random.ts';

test('a process that is killed in the middle of a rotation leaves nothing that the next one cannot finish', async () => {
  const summary = await killRotatingProcesses(3, seededRandom(1), 30);
  console.log(summary);
  expect(summary).toContain('3 kills');
});

test('a rotation goes on by itself when PostgreSQL was stopped under it as by a crash', async () => {
  const summary = await crashPostgres(2, seededRandom(2), 30);
  console.log(summary);
  expect(summary).toContain('2 crashes');
});
