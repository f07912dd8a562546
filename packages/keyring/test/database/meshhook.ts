import { readFile } from 'node:fs/promises';
import { beforeAll } from 'vitest';
import { migrate } from '../../src/db/migrate.ts';
import { connect, useDatabase, type Connections, type Session } from './support.ts';

const fixture = new URL('../../../../test/fixtures/meshhook.sql', import.meta.url);

export async function loadMeshhook(adminUrl: string): Promise<void> {
  const admin = await connect(adminUrl);
  try {
    await admin.run(await readFile(fixture, 'utf8'));
  } finally {
    await admin.client.end();
  }
}

/** A database as MeshHook's own migrations leave it, with ours on top. */
export function useMeshhookDatabase(): Connections {
  const on = useDatabase({ template: false });
  beforeAll(async () => {
    await loadMeshhook(on.database.adminUrl);
    await migrate({ connectionString: on.database.ownerUrl });
  });
  return on;
}

/** Runs statements as PostgREST does for a request: a role, and the claims of a user. */
export async function asUser<T>(
  admin: Session,
  { role = 'authenticated', user }: { role?: string; user?: string },
  work: () => Promise<T>,
): Promise<T> {
  await admin.run('begin');
  try {
    await admin.run(`set local role ${role}`);
    const claims = user === undefined ? '' : JSON.stringify({ sub: user, role });
    await admin.run(`select set_config('request.jwt.claims', $1, true)`, [claims]);
    return await work();
  } finally {
    await admin.run('rollback');
  }
}
