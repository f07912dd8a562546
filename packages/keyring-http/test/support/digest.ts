import { query } from '../../../../test/support/database.ts';

// What processes write about themselves all the time.
const restless = new Set(['keyring.instances', 'keyring.workers']);
// And what they sum up once a minute, whatever is asked then.
const summaries: Readonly<Record<string, string>> = {
  'keyring.audit_log': "where action not in ('access.refused', 'secret.read')",
};

/** Of every table of ours, the digest of its rows. */
export async function digestOfTables(adminUrl: string): Promise<Record<string, string>> {
  const tables = await query<{ name: string }>(
    adminUrl,
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
     where schemaname = 'keyring' or schemaname = 'public' order by 1`,
  );
  const digests: Record<string, string> = {};
  for (const { name } of tables.filter((table) => !restless.has(table.name))) {
    const [row] = await query<{ digest: string }>(
      adminUrl,
      `select count(*) || ' ' || coalesce(md5(string_agg(t::text, e'\n' order by t::text)), '') as digest
       from ${name} t ${summaries[name] ?? ''}`,
    );
    digests[name] = row?.digest ?? '';
  }
  return digests;
}
