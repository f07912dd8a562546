import { expect } from 'vitest';
import type { Installation } from './installation.ts';
import { interceptDatabase } from './intercept.ts';

/** A rotation of all projects that was left in the middle of its sweep: of some rows the old version is named still. Gives its id. */
export async function halfSwept(installation: Installation): Promise<string> {
  const stopping = new AbortController();
  let batches = 0;
  const keyring = await installation.open({
    sweepBatchSize: 5,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (/move_secrets__value/.test(statement.text) && ++batches === 3) stopping.abort();
        return answer;
      }),
  });
  const { id } = await keyring.rotations.request({ projects: 'all' });
  await keyring.rotations.run(id, { signal: stopping.signal }).catch(() => undefined);
  await keyring.close();
  await expectHalfSwept(installation, id);
  return id;
}

async function expectHalfSwept({ sql }: Installation, id: string): Promise<void> {
  const [rows] = await sql<{ moved: number; left: number }>(
    `select (count(*) filter (where s.encryption_key_id = r.primary_key_id))::int as moved,
       (count(*) filter (where s.encryption_key_id <> r.primary_key_id))::int as left
     from public.secrets s join keyring.keyrings r using (project_id)
     join keyring.rotation_projects g on g.project_id = s.project_id and g.rotation_id = $1`,
    [id],
  );
  expect(rows?.moved).toBeGreaterThan(0);
  expect(rows?.left).toBeGreaterThan(0);
}
