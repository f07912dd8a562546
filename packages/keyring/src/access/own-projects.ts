import { transaction, type Database } from '../db/port.ts';

const MOST = 10_000;

/**
 * Ids of the projects that belong to a user of Supabase Auth, read as that user: the policies of `public.projects` decide what is
 * seen, whatever they are. `set local`, so that it ends with the transaction, also behind a pooler.
 * @throws KeyringError `database_refused` when the service may not become `authenticated`.
 */
export async function selectOwnProjects(database: Database, userId: string): Promise<string[]> {
  const claims = JSON.stringify({ sub: userId, role: 'authenticated' });
  return transaction(database, async (tx) => {
    await tx.query({ text: 'set local role authenticated' });
    await tx.query({
      text: `select pg_catalog.set_config('request.jwt.claims', $1, true), pg_catalog.set_config('request.jwt.claim.sub', $2, true)`,
      values: [claims, userId],
    });
    const { rows } = await tx.query<{ id: string }>({
      text: 'select p.id from public.projects p where p.owner = $1 order by p.id limit $2',
      values: [userId, MOST],
    });
    return rows.map(({ id }) => id);
  });
}
