import { describe, expect, test } from 'vitest';
import { useMeshhookDatabase } from './meshhook.ts';
import { outcome, useDatabase } from './support.ts';

const origins = [
  ['our baseline', useDatabase()],
  ['MeshHook’s own schema', useMeshhookDatabase()],
] as const;

const unqualifiedType =
  String.raw`'::\s*(?!pg_catalog\.)\w+|^\s*\w+\s+(uuid|text|name|record|jsonb|regclass|timestamptz|bytea)\s*(;|:=)'`.replaceAll(
    '\\\\',
    '\\',
  );

/** What the catalog may not hold: each query names the offenders. */
const offenders: Record<string, string> = {
  'a table in keyring or keyring_jobs without row-level security, enabled and forced': `
    select c.oid::regclass from pg_class c
    where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace) and c.relkind in ('r', 'p')
      and not (c.relrowsecurity and c.relforcerowsecurity)`,
  'secrets without forced row-level security': `
    select c.oid::regclass from pg_class c
    where c.oid = 'public.secrets'::regclass and not (c.relrowsecurity and c.relforcerowsecurity)`,
  'a view in keyring that reads with its owner’s eyes': `
    select c.oid::regclass from pg_class c
    where c.relnamespace = 'keyring'::regnamespace and c.relkind = 'v'
      and not coalesce(c.reloptions @> array['security_invoker=true'], false)`,
  // What moves rows runs the triggers of their table with it, whose authors need not have qualified every type: for these the
  // caller's temporary schema comes last.
  'a definer without an empty search_path, or for moves one that looks at the caller’s types last': `
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace in ('keyring'::regnamespace, 'public'::regnamespace) and p.prosecdef
      and not coalesce(p.proconfig @> array[case when p.proowner = 'keyring_mover'::regrole
        then 'search_path=pg_catalog, pg_temp' else 'search_path=""' end], false)
      and p.oid not in (select objid from pg_depend where deptype = 'e')`,
  'a definer that everybody may execute': `
    select p.oid::regprocedure from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    where p.pronamespace in ('keyring'::regnamespace, 'public'::regnamespace) and p.prosecdef and g.grantee = 0`,
  'a definer in keyring that does not run as keyring_owner, or for moves as keyring_mover': `
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'keyring'::regnamespace
      and p.proowner <> case when p.proname like 'move\\_%' and p.prosecdef then 'keyring_mover'::regrole
        else 'keyring_owner'::regrole end`,
  // An empty search_path still finds a caller's temporary types before PostgreSQL's own: definers.test.ts.
  'a type in a definer without its schema': `
    select p.oid::regprocedure, found.match from pg_proc p,
      regexp_matches(p.prosrc, ${unqualifiedType}, 'gn') as found (match)
    where p.pronamespace in ('keyring'::regnamespace, 'public'::regnamespace)
      and (p.prosecdef or p.proname = 'envelope_key_id')`,
  // Whole tables; of others, columns: keyring_auditor's are below.
  'a grant on a table in keyring or keyring_jobs to others than the owner, the service, and to look the auditor and users': `
    select c.oid::regclass, g.grantee::regrole, g.privilege_type
    from pg_class c, aclexplode(c.relacl) g
    where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace)
      and g.grantee not in ('keyring_owner'::regrole, 'keyring_service'::regrole)
      and not (g.grantee in ('keyring_auditor'::regrole, 'keyring_user'::regrole) and g.privilege_type = 'SELECT')`,
  'a grant on a function in keyring to others than the owner, the service, and of those that look to users': `
    select p.oid::regprocedure, g.grantee from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    where p.pronamespace = 'keyring'::regnamespace and p.proname <> 'envelope_key_id'
      and g.grantee not in ('keyring_owner'::regrole, 'keyring_service'::regrole)
      and not (g.grantee = 'keyring_mover'::regrole
        and (p.proowner = g.grantee or p.proname in ('lock_primaries', 'refuse_stale')))
      and not (g.grantee in ('keyring_user'::regrole, 'keyring_reader'::regrole) and p.provolatile = 's')`,
  'a table or function in keyring_jobs that is not keyring_owner’s': `
    select c.relname from pg_class c
    where c.relnamespace = 'keyring_jobs'::regnamespace and c.relowner <> 'keyring_owner'::regrole
    union all
    select p.proname from pg_proc p
    where p.pronamespace = 'keyring_jobs'::regnamespace and p.proowner <> 'keyring_owner'::regrole`,
  'a function in keyring_jobs, but its clock, that anybody but the owner may execute, or that runs as the owner': `
    select p.oid::regprocedure, g.grantee from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    where p.pronamespace = 'keyring_jobs'::regnamespace and (p.prosecdef or g.grantee <> 'keyring_owner'::regrole)
      and not (p.proname = 'job_now' and g.grantee = 'keyring_service'::regrole)`,
  'a grant on schema keyring or keyring_jobs to others than the owner and the service, and to our other roles more than its use': `
    select g.grantee::regrole, g.privilege_type from pg_namespace n, aclexplode(n.nspacl) g
    where n.nspname in ('keyring', 'keyring_jobs') and g.grantee not in ('keyring_owner'::regrole, 'keyring_service'::regrole)
      and not (n.nspname = 'keyring' and g.grantee in ('keyring_mover'::regrole, 'keyring_auditor'::regrole, 'keyring_user'::regrole,
          'keyring_reader'::regrole) and g.privilege_type = 'USAGE')`,
  'a key, a ciphertext or a digest that the auditor may read, or anything that it may change': `
    select a.attrelid::regclass, a.attname, p from pg_attribute a join pg_class c on c.oid = a.attrelid,
      unnest(array['select', 'insert', 'update', 'references']) p
    where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace, 'public'::regnamespace)
      and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
      and has_column_privilege('keyring_auditor', a.attrelid, a.attnum, p)
      and (p <> 'select' or a.attname ~ '(wrapped|encrypted|digest|ciphertext)' or c.oid = 'public.secrets'::regclass)
    union all
    select c.oid::regclass, 'rows', 'delete' from pg_class c
    where c.relkind in ('r', 'p') and c.relnamespace in ('keyring'::regnamespace, 'public'::regnamespace)
      and (has_table_privilege('keyring_auditor', c.oid, 'delete') or has_table_privilege('keyring_auditor', c.oid, 'truncate'))`,
  // Supabase's own schemas, and whatever else is in the database.
  'a schema besides its own, and those that everybody uses, that the service may use': `
    select nspname from pg_namespace
    where has_schema_privilege('keyring_service', oid, 'usage')
      and nspname not in ('keyring', 'keyring_jobs', 'public', 'auth', 'pg_catalog', 'information_schema')
      and nspname !~ '^pg_(toast|temp)'`,
  'a way for the service to change an entry of the trail, a receipt, or what a token may do': `
    select a.attrelid::regclass, a.attname from pg_attribute a
    where a.attnum > 0 and (
      a.attrelid in ('keyring.audit_log'::regclass, 'keyring.receipts'::regclass)
        and has_column_privilege('keyring_service', a.attrelid, a.attnum, 'update')
      or a.attrelid = 'keyring.api_tokens'::regclass and has_column_privilege('keyring_service', a.attrelid, a.attnum, 'update')
        and a.attname not in ('last_used_at', 'revoked_at', 'revoked_by'))
    union all
    select t, 'rows' from unnest(array['keyring.audit_log'::regclass, 'keyring.receipts', 'keyring.approvals']) t
    where has_table_privilege('keyring_service', t, 'delete') or has_table_privilege('keyring_service', t, 'truncate')`,
  'a privilege of users that the service has without becoming one': `
    select c.oid::regclass from pg_class c
    where c.oid = 'public.projects'::regclass and has_table_privilege('keyring_service', c.oid, 'delete')`,
  'anything that keyring_service owns, or keyring_mover but for its functions': `
    select classid::regclass, objid from pg_shdepend
    where dbid = (select oid from pg_database where datname = current_database()) and deptype = 'o'
      and (refobjid = 'keyring_service'::regrole
        or refobjid = 'keyring_mover'::regrole and classid <> 'pg_proc'::regclass)`,
  'a table that keyring_mover may do more with than move rows': `
    select c.oid::regclass, g.privilege_type from pg_class c, aclexplode(c.relacl) g where g.grantee = 'keyring_mover'::regrole
    union all
    select a.attrelid::regclass, g.privilege_type || ' ' || a.attname from pg_attribute a, aclexplode(a.attacl) g
    where g.grantee = 'keyring_mover'::regrole and not (a.attrelid = 'public.secrets'::regclass and (
      g.privilege_type = 'SELECT'
        and a.attname in ('id', 'project_id', 'value_encrypted', 'encryption_key_id', 'ctid', 'tableoid')
      or g.privilege_type = 'UPDATE' and a.attname in ('value_encrypted', 'encryption_key_id')))`,
  'a way for a request’s role to become one of ours': `
    select member::regrole, roleid::regrole from pg_auth_members
    where roleid in ('keyring_owner'::regrole, 'keyring_mover'::regrole, 'keyring_service'::regrole, 'keyring_auditor'::regrole,
        'keyring_user'::regrole, 'keyring_reader'::regrole)
      and (member::regrole)::text in ('anon', 'authenticated', 'service_role', 'keyring_service', 'keyring_auditor', 'keyring_user',
        'keyring_reader')
      and not (roleid in ('keyring_user'::regrole, 'keyring_reader'::regrole) and member = 'keyring_service'::regrole)`,
  // Its policies take away: from the service, too, if it were keyring_user all the time.
  'a right of users that the service has without becoming one': `
    select r from unnest(array['keyring_user', 'keyring_reader']) r
    where pg_has_role('keyring_service', r, 'usage') or not pg_has_role('keyring_service', r, 'member')`,
  'a role of ours that could log in, bypass policies or rule': `
    select rolname from pg_roles
    where rolname in ('keyring_owner', 'keyring_mover', 'keyring_service', 'keyring_auditor', 'keyring_user', 'keyring_reader')
      and (rolcanlogin or rolbypassrls or rolsuper or rolcreaterole or rolcreatedb or rolreplication)`,
  'a column that keyring_reader may read besides those of a get, or anything that it may change': `
    select a.attrelid::regclass, a.attname, p from pg_attribute a join pg_class c on c.oid = a.attrelid,
      unnest(array['select', 'insert', 'update', 'references']) p
    where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace, 'public'::regnamespace)
      and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped
      and has_column_privilege('keyring_reader', a.attrelid, a.attnum, p)
      and not (p = 'select' and (c.oid, a.attname) in (
        ('keyring.keyrings'::regclass, 'project_id'), ('keyring.keyrings'::regclass, 'primary_key_id'),
        ('public.projects'::regclass, 'id'), ('public.projects'::regclass, 'owner'),
        ('public.secrets'::regclass, 'id'), ('public.secrets'::regclass, 'project_id'), ('public.secrets'::regclass, 'key'),
        ('public.secrets'::regclass, 'value_encrypted'), ('public.secrets'::regclass, 'encryption_key_id'),
        ('public.secrets'::regclass, 'value_written_at')))`,
  'a privilege of a request’s role on ciphertext': `
    select r, p from unnest(array['anon', 'authenticated', 'service_role']) r, unnest(array['select', 'insert', 'update']) p
    where has_column_privilege(r, 'public.secrets', 'value_encrypted', p)
      or p <> 'select' and has_column_privilege(r, 'public.secrets', 'encryption_key_id', p)`,
  'a table whose rows cannot be changed in a database that publishes all its tables': `
    select c.oid::regclass from pg_class c
    where c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace) and c.relkind in ('r', 'p')
      and case c.relreplident when 'd' then not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
        else c.relreplident = 'n' end`,
  'a foreign key out of the audit log': `
    select conname from pg_constraint where conrelid = 'keyring.audit_log'::regclass and contype = 'f'`,
  'an index that has a key id and no project': `
    select i.indexrelid::regclass from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.secrets'::regclass and a.attname = 'encryption_key_id'`,
  'a foreign key to key versions that leaves the project out': `
    select c.conrelid::regclass, c.conname from pg_constraint c
    where c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::regclass and cardinality(c.conkey) <> 2`,
  'a problem that the registry knows of': 'select * from keyring.catalog_problems()',
};

describe.each(origins)('on %s there is not', (_, on) => {
  test.each(Object.keys(offenders))('%s', async (what) => {
    const admin = await on.admin();
    expect(await admin.run(offenders[what]!)).toEqual([]);
  });

  test('a superuser behind the migrations', async () => {
    const owner = await on.owner();
    const [role] = await owner.run(
      'select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = current_user',
    );
    expect(role).toEqual({ rolsuper: false, rolbypassrls: false, rolcreaterole: true });
  });
});

test.each(['x := y::uuid', 'declare\n  one uuid;', 'declare\n  one text := 1', 'y:: jsonb ->> z'])(
  'an unqualified type is found in a source: %s',
  async (source) => {
    const admin = await origins[0][1].admin();
    expect(await admin.value(`select count(*)::int from regexp_matches($1, ${unqualifiedType}, 'gn')`, [source])).toBe(
      1,
    );
  },
);

test('only keyring_owner may delete, truncate or alter what it owns: the service’s grants, by name', async () => {
  const admin = await origins[0][1].admin();
  const grants = await admin.run<{ table: string; may: string }>(
    `select c.relname as table, string_agg(lower(g.privilege_type), ' ' order by g.privilege_type) as may
     from pg_class c, aclexplode(c.relacl) g
     where c.relnamespace = 'keyring'::regnamespace and g.grantee = 'keyring_service'::regrole group by 1 order by 1`,
  );
  const may = Object.fromEntries(grants.map((grant) => [grant.table, grant.may]));
  expect(may['audit_log']).toBe('select');
  expect(may['audit_seals']).toBe('insert select');
  expect(may['audit_checkpoints']).toBe('select');
  expect(may['audit_archives']).toBe('select');
  expect(may['audit_sealer']).toBe('select');
  expect(may['encrypted_columns']).toBe('select');
  expect(may['encryption_keys']).toBe('insert select');
  expect(may['keyrings']).toBe('insert select');
  expect(may['key_inventory']).toBe('select');
  expect(may['root_keys']).toBe('insert select');
  expect(may['wrapping_keys']).toBe('insert select');
  expect(may['workers']).toBe('delete insert select update');
  const jobs = await admin.run<{ table: string; may: string }>(
    `select c.relname as table, string_agg(lower(g.privilege_type), ' ' order by g.privilege_type) as may
     from pg_class c, aclexplode(c.relacl) g
     where c.relnamespace = 'keyring_jobs'::regnamespace and g.grantee = 'keyring_service'::regrole group by 1 order by 1`,
  );
  expect(Object.fromEntries(jobs.map((grant) => [grant.table, grant.may]))).toEqual({
    job: 'insert',
    job_common: 'delete insert select update',
    queue: 'select',
    version: 'select',
  });
});

test('the service appends to the audit log, and chooses neither the place nor the time of an entry', async () => {
  const [, first] = origins[0];
  const service = await first.service();
  const columns = `actor, action, outcome, subject`;
  const values = `'test', 'test.done', 'succeeded', 'test:1'`;
  expect(await outcome(service.run(`insert into keyring.audit_log (${columns}) values (${values})`))).toBe('done');
  expect(
    await outcome(service.run(`insert into keyring.audit_log (${columns}, at) values (${values}, '2020-01-01')`)),
  ).toBe('42501');
  expect(
    await outcome(
      service.run(`insert into keyring.audit_log (${columns}, id) overriding system value values (${values}, 1)`),
    ),
  ).toBe('42501');
});
