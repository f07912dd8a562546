import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRootKeyFile, openKeyring, type Keyring } from '@meshhook/keyring';
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts';

export { failToStart, startServer, type Ended, type Server } from './launch.ts';

/** A home, a root key and a database for a server of one's own, and a keyring that looks at the same database. */
export interface Place extends AsyncDisposable {
  readonly home: string;
  readonly database: TestDatabase;
  readonly environment: { DATABASE_URL: string; MESHHOOK_ROOT_KEY: string; MESHHOOK_HOME: string };
  readonly keyring: Keyring;
  /** The header that a caller sends. */
  authorization(): Promise<string>;
}

export async function makePlace(): Promise<Place> {
  const home = await temporaryFolder();
  const database = await createTestDatabase();
  const rootKey = `file:${path.join(home, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const keyring = await openKeyring({ database: database.serviceUrl, rootKey, actor: 'test' });
  return {
    home,
    database,
    keyring,
    environment: { DATABASE_URL: database.serviceUrl, MESHHOOK_ROOT_KEY: rootKey, MESHHOOK_HOME: home },
    authorization: async () => `Bearer ${(await readFile(path.join(home, 'api-token'), 'utf8')).trim()}`,
    async [Symbol.asyncDispose]() {
      await keyring.close();
      await database.drop();
      await rm(home, { recursive: true, force: true });
    },
  };
}

export function temporaryFolder(): Promise<string> {
  return mkdtemp(path.join(tmpdir(), 'keyring-admin-'));
}

/** A project with that many secrets, put by a few writers at once. */
export async function fillProject(keyring: Keyring, name: string, secrets: number): Promise<string> {
  const { id } = await keyring.projects.create({ name });
  const left = Array.from({ length: secrets }, (_, index) => index);
  const write = async (): Promise<void> => {
    for (let index = left.pop(); index !== undefined; index = left.pop()) {
      await keyring.secrets.put(id, `SECRET_${index}`, `value ${index}`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, write));
  return id;
}

/** Asks until it is so, or fails saying what it last was. */
export async function until<T>(ask: () => Promise<T>, isSo: (answer: T) => boolean, timeoutMs = 120_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`It never came to that; last it was ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
