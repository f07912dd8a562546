import type { Installation } from './installation.ts';
import { auditPosition } from './world.ts';

/**
 * The state that every point of a scenario starts from: made once, and brought back for each point after the first, because most
 * take longer to make than to strike; and where the trail stands then. `tidy` comes after it was brought back.
 */
export function madeOnce<World extends object>(
  installation: Installation,
  make: () => Promise<World>,
  tidy: (installation: Installation) => Promise<void> = () => Promise.resolve(),
): () => Promise<World & { readonly audited: string }> {
  let kept: { readonly world: World; readonly bringBack: () => Promise<void> } | undefined;
  return async () => {
    if (kept === undefined) {
      const world = await make();
      kept = { world, bringBack: await keepStanding(installation) };
    } else {
      await kept.bringBack();
      await tidy(installation);
    }
    return { ...kept.world, audited: await auditPosition(installation) };
  };
}

/** Keeps what stands in the database now, and gives what brings it back. The trail is left alone: it only ever grows. */
async function keepStanding({ sql }: Installation): Promise<() => Promise<void>> {
  const tables = await sql<{ name: string; copy: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name, format('kept.%I', n.nspname || '_' || c.relname) as copy
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('public', 'keyring') and c.relkind = 'r' and c.relname not like 'audit\\_%'`,
  );
  await sql('drop schema if exists kept cascade; create schema kept');
  for (const { name, copy } of tables) await sql(`create table ${copy} as table ${name}`);
  const statements = [
    'begin',
    'set local session_replication_role = replica',
    ...tables.map(({ name }) => `delete from ${name}`),
    ...tables.map(({ name, copy }) => `insert into ${name} overriding system value table ${copy}`),
    'commit',
  ].join(';');
  return async () => {
    await sql(statements);
  };
}
