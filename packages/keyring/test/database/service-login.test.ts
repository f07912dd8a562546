import { randomBytes } from 'node:crypto';
import { pgDatabase } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, query, type TestDatabase } from '../../../../test/support/database.ts';
import { selectServiceTrouble } from '../../src/doctor/store.ts';

// What doctor says of the login that a service uses, which all of its other statements take as it is.
let database: TestDatabase;
const login = `login_${randomBytes(6).toString('hex')}`;
const password = randomBytes(12).toString('hex');

beforeAll(async () => {
  database = await createTestDatabase();
  await query(database.adminUrl, `create role ${login} login password '${password}'`);
});
afterAll(async () => {
  await query(database.adminUrl, `drop role ${login}`);
  await database.drop();
});

async function told(roles: readonly string[]): Promise<string[]> {
  for (const role of roles) await query(database.adminUrl, `grant ${role} to ${login}`);
  const url = Object.assign(new URL(database.adminUrl), { username: login, password });
  const service = pgDatabase({ connectionString: url.href, maxConnections: 1 });
  try {
    return (await selectServiceTrouble(service)).map(({ code }) => code);
  } finally {
    await service.close();
    for (const role of roles) await query(database.adminUrl, `revoke ${role} from ${login}`);
  }
}

test('doctor finds nothing with a login that is granted the service’s role alone', async () => {
  expect(await told(['keyring_service'])).toEqual([]);
});

test.each([
  [['keyring_owner'], 'service_is_owner'],
  [['keyring_service', 'keyring_mover'], 'service_is_mover'],
  [[], 'service_cannot_read_for_others'],
  [['keyring_user'], 'service_cannot_read_for_others'],
  [['keyring_reader'], 'service_cannot_read_for_others'],
])('doctor tells of a login that is granted %j: %s', async (roles, code) => {
  expect(await told(roles)).toEqual([code]);
});

test('doctor tells of a superuser', async () => {
  const admin = pgDatabase({ connectionString: database.adminUrl, maxConnections: 1 });
  expect((await selectServiceTrouble(admin)).map(({ code }) => code)).toEqual(['service_is_superuser']);
  await admin.close();
});
