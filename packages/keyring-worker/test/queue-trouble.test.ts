import { KeyringError, pgDatabase } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { Jobs } from '../src/jobs.ts';

let scratch: TestDatabase;
beforeAll(async () => {
  scratch = await createTestDatabase();
});
afterAll(() => scratch.drop());

// pg-boss looks for its queues once a minute, and told of what went wrong there by a copy that was no error: the log had no code for it.
test.each([
  new KeyringError('database_unreachable', 'The database cannot be used.', { remedy: 'Start it.' }),
  new Error('something else'),
])('what pg-boss meets by itself is told as it was: %o', async (trouble) => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const database = pgDatabase({ connectionString: scratch.serviceUrl, maxConnections: 1 });
  onTestFinished(() => database.close());
  let down = false;
  const told: unknown[] = [];
  const jobs = new Jobs(
    { ...database, query: (statement) => (down ? Promise.reject(trouble) : database.query<never>(statement)) },
    (error) => told.push(error),
  );
  await jobs.open();
  down = true;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(told.length).toBeGreaterThan(0);
  for (const one of told) {
    expect(one).toBeInstanceOf(trouble.constructor);
    expect(one).toMatchObject({ message: trouble.message, stack: trouble.stack });
    if (trouble instanceof KeyringError) expect(one).toMatchObject({ code: trouble.code, remedy: trouble.remedy });
  }
  down = false;
  await jobs.close();
});
