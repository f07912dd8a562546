/**
 * The schema of a database as text, read from PostgreSQL's catalog (the embedded PostgreSQL has no pg_dump). Looks like
 * SQL because that is what it is compared with in a review; it is never run. Equal schemas give equal text: everything
 * is sorted, and nothing in it is random or of one server only. Covers what our migrations use and its neighbours; operators,
 * casts, text search and foreign data are not looked at, foreign tables are refused.
 */
import type pg from 'pg';

/** The roles our migrations make or grant to; of other roles only those that own or are granted something are named. */
const roles = [
  'anon',
  'authenticated',
  'service_role',
  'keyring_owner',
  'keyring_mover',
  'keyring_service',
  'keyring_user',
  'keyring_reader',
];

/** What a relation of `pg_class` may be for the dump to know it. Any other kind fails rather than being left out. */
const knownKinds = ['r', 'p', 'v', 'm', 'i', 'I', 'S', 't'];

// `granted` turns an ACL into text: one entry per grantee and grant option, privileges sorted, PUBLIC spelled out.
const granted = (acl: string): string => `
  (select coalesce(array_agg(line order by line), '{}') from (
    select string_agg(lower(x.privilege_type), ', ' order by x.privilege_type) || ' to '
      || case when x.grantee = 0 then 'public' else pg_get_userbyid(x.grantee)::text end
      || case when x.is_grantable then ' with grant option' else '' end as line
    from aclexplode(${acl}) x group by x.grantee, x.is_grantable) g)`;

const queries = {
  extensions: `select extname as name from pg_extension where extname <> 'plpgsql' order by 1`,

  roles: `
    select rolname as name, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
      coalesce(array_to_string(rolconfig, ', '), '') as config
    from pg_roles where rolname = any ($1) order by 1`,

  memberships: `
    select distinct pg_get_userbyid(roleid)::text as role, pg_get_userbyid(member)::text as member,
      bool_or(inherit_option) as inherits, bool_or(set_option) as sets, bool_or(admin_option) as administers
    from pg_auth_members
    where pg_get_userbyid(roleid) = any ($1) or pg_get_userbyid(member) = any ($1)
    group by roleid, member order by 1, 2`,

  schemas: `
    select nspname as name, pg_get_userbyid(nspowner)::text as owner, obj_description(oid, 'pg_namespace') as comment,
      ${granted(`coalesce(nspacl, acldefault('n', nspowner))`)} as grants
    from pg_namespace where nspname = any ($1) order by 1`,

  defaultGrants: `
    select pg_get_userbyid(d.defaclrole)::text as role, coalesce('in schema ' || n.nspname, 'everywhere') as place,
      d.defaclobjtype::text as kind, ${granted('d.defaclacl')} as grants
    from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace
    where n.nspname is null or n.nspname = any ($1) order by 1, 2, 3`,

  types: `
    select n.nspname as schema, t.typname as name, t.typtype::text as kind, pg_get_userbyid(t.typowner)::text as owner,
      case t.typtype
        when 'e' then 'enum (' || (select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
          from pg_enum e where e.enumtypid = t.oid) || ')'
        when 'd' then format_type(t.typbasetype, t.typtypmod) || case when t.typnotnull then ' not null' else '' end
          || coalesce(' default ' || t.typdefault, '') || coalesce((select string_agg(' ' || pg_get_constraintdef(c.oid), ''
            order by c.conname) from pg_constraint c where c.contypid = t.oid and c.contype = 'c'), '')
        when 'c' then '(' || (select string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', '
          order by a.attnum) from pg_attribute a where a.attrelid = t.typrelid and not a.attisdropped) || ')'
        else 'range'
      end as definition,
      ${granted(`coalesce(t.typacl, acldefault('T', t.typowner))`)} as grants
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where n.nspname = any ($1) and (t.typtype in ('e', 'd', 'r')
      or t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
    order by 1, 2`,

  relations: `
    select c.oid::int8::text as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
      pg_get_userbyid(c.relowner)::text as owner, c.relpersistence::text as persistence,
      c.relrowsecurity as row_security, c.relforcerowsecurity as force_row_security, c.relreplident::text as identity,
      coalesce(array_to_string(array(select unnest(c.reloptions) order by 1), ', '), '') as options,
      case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end as partition_by,
      case when c.relispartition then (select i.inhparent::regclass::text from pg_inherits i where i.inhrelid = c.oid)
        || ' ' || pg_get_expr(c.relpartbound, c.oid) end as partition_of,
      case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid, true) end as definition,
      obj_description(c.oid, 'pg_class') as comment,
      ${granted(`coalesce(c.relacl, acldefault('r', c.relowner))`)} as grants
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) and c.relkind in ('r', 'p', 'v', 'm') order by 2, 3`,

  columns: `
    select a.attrelid::int8::text as relation, quote_ident(a.attname) as name, format_type(a.atttypid, a.atttypmod) as type,
      a.attnotnull as not_null, a.attidentity::text as identity, a.attgenerated::text as generated,
      pg_get_expr(d.adbin, d.adrelid) as default_value, col_description(a.attrelid, a.attnum) as comment,
      case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end as collation,
      case when a.attstorage <> t.typstorage then a.attstorage::text end as storage,
      ${granted('a.attacl')} as grants
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where n.nspname = any ($1) and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped
    order by a.attrelid, a.attnum`,

  constraints: `
    select c.conrelid::int8::text as relation, c.conname as name, pg_get_constraintdef(c.oid) as definition
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
    where n.nspname = any ($1) and c.conrelid <> 0 and not (c.contype = 'n' and c.convalidated) order by 1, 2`,

  indexes: `
    select i.indrelid::int8::text as relation, pg_get_indexdef(i.indexrelid) as definition, i.indisvalid as valid
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1)
      and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
    order by 1, 2`,

  triggers: `
    select t.tgrelid::int8::text as relation, t.tgname as name, t.tgenabled::text as enabled,
      pg_get_triggerdef(t.oid, true) as definition
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) and not t.tgisinternal order by 1, 2`,

  policies: `
    select p.polrelid::int8::text as relation, quote_ident(p.polname) as name, p.polpermissive as permissive, p.polcmd::text as command,
      (select string_agg(case when r = 0 then 'public' else pg_get_userbyid(r)::text end, ', '
        order by case when r = 0 then 'public' else pg_get_userbyid(r)::text end) from unnest(p.polroles) r) as roles,
      pg_get_expr(p.polqual, p.polrelid) as using_clause, pg_get_expr(p.polwithcheck, p.polrelid) as check_clause
    from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) order by 1, 2`,

  rules: `
    select r.ev_class::int8::text as relation, pg_get_ruledef(r.oid, true) as definition
    from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) and r.rulename <> '_RETURN' order by 1, 2`,

  sequences: `
    select n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner)::text as owner,
      format_type(s.seqtypid, null) || ' start ' || s.seqstart || ' increment ' || s.seqincrement as definition,
      coalesce((select d.refobjid::regclass::text || case d.deptype when 'i' then ' (identity)' else '' end
        from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and d.refobjsubid > 0), 'none') as owned_by,
      ${granted(`coalesce(c.relacl, acldefault('s', c.relowner))`)} as grants
    from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) order by 1, 2`,

  functions: `
    select p.oid::regprocedure::text as signature, pg_get_userbyid(p.proowner)::text as owner,
      case when p.prokind = 'a' then null else pg_get_functiondef(p.oid) end as definition,
      obj_description(p.oid, 'pg_proc') as comment,
      ${granted(`coalesce(p.proacl, acldefault('f', p.proowner))`)} as grants
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = any ($1) order by n.nspname, 1`,

  eventTriggers: `
    select evtname || ' on ' || evtevent || ' execute ' || evtfoid::regproc::text as definition
    from pg_event_trigger order by 1`,

  strangers: `
    select n.nspname || '.' || c.relname as name, c.relkind::text as kind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any ($1) and c.relkind <> all ($2) and c.relkind <> 'c' order by 1`,
} as const;

type Row = Readonly<Record<string, unknown>> & { readonly grants?: readonly string[] };

const text = (value: unknown): string =>
  typeof value === 'string' ? value : value === null || value === undefined ? '' : JSON.stringify(value);
const literal = (value: unknown): string => `'${text(value).replaceAll("'", "''")}'`;

/**
 * The text of `schemas`, made in one snapshot.
 * @throws Error for a kind of object it does not know: a dump that leaves something out is worse than none.
 */
export async function describeSchemas(client: pg.Client, schemas: readonly string[]): Promise<string> {
  await client.query('begin isolation level repeatable read read only');
  try {
    // So that every name is printed with its schema.
    await client.query(`set local search_path = ''`);
    const read = async (sql: string, ...values: unknown[]): Promise<Row[]> =>
      (await client.query<Row>(sql, values)).rows;

    const strangers = await read(queries.strangers, schemas, knownKinds);
    if (strangers.length > 0) {
      throw new Error(
        `the schema dump does not know ${strangers.map((one) => `${text(one['name'])} (${text(one['kind'])})`).join(', ')}`,
      );
    }
    const aboutSchemas = async (sql: string): Promise<Row[]> => read(sql, schemas);
    const parts = new Map<string, Map<string, Row[]>>();
    for (const part of ['columns', 'constraints', 'indexes', 'triggers', 'policies', 'rules'] as const) {
      parts.set(
        part,
        Map.groupBy(await aboutSchemas(queries[part]), (row) => text(row['relation'])),
      );
    }
    const of = (part: string, relation: Row): Row[] => parts.get(part)?.get(text(relation['oid'])) ?? [];

    const blocks = [
      ...(await read(queries.extensions)).map((one) => `create extension ${text(one['name'])};`),
      ...(await read(queries.roles, roles)).map(describeRole),
      (await read(queries.memberships, roles)).map(describeMembership).join('\n'),
      ...(await aboutSchemas(queries.schemas)).map((one) => describeSchema(one)),
      ...(await aboutSchemas(queries.defaultGrants)).map(describeDefaultGrant),
      ...(await aboutSchemas(queries.types)).map(describeType),
      ...(await aboutSchemas(queries.relations)).map((relation) => describeRelation(relation, of)),
      ...(await aboutSchemas(queries.sequences)).map(describeSequence),
      ...(await aboutSchemas(queries.functions)).map(describeFunction),
      ...(await read(queries.eventTriggers)).map((one) => `create event trigger ${text(one['definition'])};`),
    ];
    return blocks.filter((block) => block !== '').join('\n\n') + '\n';
  } finally {
    await client.query('rollback');
  }
}

/** All there is to hold, by what it is on: an owner who holds this much is not worth a line. */
const everything: Readonly<Record<string, string>> = {
  schema: 'create, usage',
  table: 'delete, insert, maintain, references, select, trigger, truncate, update',
  sequence: 'select, update, usage',
  function: 'execute',
  type: 'usage',
};

/** Every grant but the owner's own, and the owner's where it is less than everything. */
function grantsOn(kind: string, name: string, row: Row): string[] {
  const full = everything[kind] ?? everything[kind.endsWith('view') ? 'table' : 'type'] ?? '';
  const owner = text(row['owner']);
  const lines = row.grants ?? [];
  return [
    ...(lines.some((line) => line.endsWith(` to ${owner}`)) ? [] : [`revoke all on ${kind} ${name} from ${owner};`]),
    ...lines
      .filter((line) => line !== `${full} to ${owner}`)
      .map((line) => `grant ${line.replace(' to ', ` on ${kind} ${name} to `)};`),
  ];
}

function describeRole(role: Row): string {
  const flags = ['super', 'inherit', 'createrole', 'createdb', 'canlogin', 'replication', 'bypassrls'];
  const said = flags.map((flag) => (role[`rol${flag}`] === true ? flag : `no${flag}`));
  const config = text(role['config']);
  return `create role ${text(role['name'])} ${said.join(' ')}${config === '' ? '' : ` set ${config}`};`;
}

function describeMembership(row: Row): string {
  const options = [`inherit ${text(row['inherits'])}`, `set ${text(row['sets'])}`, `admin ${text(row['administers'])}`];
  return `grant ${text(row['role'])} to ${text(row['member'])} with ${options.join(', ')};`;
}

function describeSchema(schema: Row): string {
  const name = text(schema['name']);
  return [
    `create schema ${name} authorization ${text(schema['owner'])};`,
    ...(schema['comment'] === null ? [] : [`comment on schema ${name} is ${literal(schema['comment'])};`]),
    ...grantsOn('schema', name, schema),
  ].join('\n');
}

function describeDefaultGrant(row: Row): string {
  const kinds: Record<string, string> = { r: 'tables', S: 'sequences', f: 'functions', T: 'types', n: 'schemas' };
  const granted = row.grants?.join('; ') ?? '';
  return `alter default privileges for role ${text(row['role'])} ${text(row['place'])}: ${kinds[text(row['kind'])] ?? text(row['kind'])} get ${granted};`;
}

function describeType(type: Row): string {
  const name = `${text(type['schema'])}.${text(type['name'])}`;
  const keyword = type['kind'] === 'd' ? 'domain' : 'type';
  return [
    `create ${keyword} ${name} as ${text(type['definition'])};`,
    `alter ${keyword} ${name} owner to ${text(type['owner'])};`,
    ...grantsOn(keyword, name, type),
  ].join('\n');
}

function describeRelation(relation: Row, of: (part: string, relation: Row) => Row[]): string {
  const name = `${text(relation['schema'])}.${text(relation['name'])}`;
  const kind = { r: 'table', p: 'table', v: 'view', m: 'materialized view' }[text(relation['kind'])] ?? 'table';
  const persistence = { u: 'unlogged ', t: 'temporary ' }[text(relation['persistence'])] ?? '';
  const columns = of('columns', relation);
  const isTable = kind === 'table';
  const options = relation['options'] === '' ? '' : ` with (${text(relation['options'])})`;

  const body = isTable
    ? [
        ...columns.map(describeColumn),
        ...of('constraints', relation).map((one) => `constraint ${text(one['name'])} ${text(one['definition'])}`),
      ]
    : columns.map((column) => `${text(column['name'])} ${text(column['type'])}`);
  const lines = [
    `create ${persistence}${kind} ${name} (`,
    body.map((line) => `  ${line}`).join(',\n'),
    `)${relation['partition_by'] === null ? '' : ` partition by ${text(relation['partition_by'])}`}${options}${isTable ? ';' : ' as'}`,
    ...(isTable ? [] : [text(relation['definition'])]),
    ...(relation['partition_of'] === null ? [] : [`-- partition of ${text(relation['partition_of'])}`]),
    `alter ${kind} ${name} owner to ${text(relation['owner'])};`,
  ];
  if (isTable) {
    lines.push(`alter table ${name} ${relation['row_security'] === true ? 'enable' : 'disable'} row level security;`);
    lines.push(
      `alter table ${name} ${relation['force_row_security'] === true ? 'force' : 'no force'} row level security;`,
    );
    const identity = { f: 'full', n: 'nothing', i: 'using an index' }[text(relation['identity'])];
    if (identity !== undefined) lines.push(`alter table ${name} replica identity ${identity};`);
  }
  for (const index of of('indexes', relation)) {
    lines.push(`${text(index['definition'])};${index['valid'] === true ? '' : ' -- invalid'}`);
  }
  for (const trigger of of('triggers', relation)) {
    lines.push(`${text(trigger['definition'])};`);
    if (trigger['enabled'] !== 'O')
      lines.push(`alter table ${name} trigger ${text(trigger['name'])} is ${text(trigger['enabled'])};`);
  }
  for (const rule of of('rules', relation)) lines.push(text(rule['definition']));
  for (const policy of of('policies', relation)) lines.push(describePolicy(name, policy));
  if (relation['comment'] !== null) lines.push(`comment on ${kind} ${name} is ${literal(relation['comment'])};`);
  for (const column of columns) {
    if (column['comment'] !== null)
      lines.push(`comment on column ${name}.${text(column['name'])} is ${literal(column['comment'])};`);
  }
  lines.push(...grantsOn(kind, name, relation));
  for (const column of columns) {
    for (const line of column.grants ?? []) {
      lines.push(`grant ${line.replace(' to ', ` on column ${name}.${text(column['name'])} to `)};`);
    }
  }
  return lines.join('\n');
}

function describeColumn(column: Row): string {
  const value = column['default_value'] === null ? '' : text(column['default_value']);
  const words = [text(column['name']), text(column['type'])];
  if (column['collation'] !== null) words.push(`collate ${text(column['collation'])}`);
  if (column['storage'] !== null) words.push(`storage ${text(column['storage'])}`);
  if (column['not_null'] === true) words.push('not null');
  if (column['identity'] !== '')
    words.push(`generated ${column['identity'] === 'a' ? 'always' : 'by default'} as identity`);
  if (column['generated'] !== '')
    words.push(`generated always as (${value}) ${column['generated'] === 's' ? 'stored' : 'virtual'}`);
  else if (value !== '') words.push(`default ${value}`);
  return words.join(' ');
}

function describePolicy(table: string, policy: Row): string {
  const command = { r: 'select', a: 'insert', w: 'update', d: 'delete', '*': 'all' }[text(policy['command'])] ?? '';
  const clauses = [
    `create policy ${text(policy['name'])} on ${table}${policy['permissive'] === true ? '' : ' as restrictive'}`,
    `for ${command} to ${text(policy['roles'])}`,
  ];
  if (policy['using_clause'] !== null) clauses.push(`using (${text(policy['using_clause'])})`);
  if (policy['check_clause'] !== null) clauses.push(`with check (${text(policy['check_clause'])})`);
  return `${clauses.join(' ')};`;
}

function describeSequence(sequence: Row): string {
  const name = `${text(sequence['schema'])}.${text(sequence['name'])}`;
  return [
    `create sequence ${name} as ${text(sequence['definition'])} owned by ${text(sequence['owned_by'])};`,
    `alter sequence ${name} owner to ${text(sequence['owner'])};`,
    ...grantsOn('sequence', name, sequence),
  ].join('\n');
}

function describeFunction(one: Row): string {
  const signature = text(one['signature']);
  return [
    one['definition'] === null ? `-- aggregate ${signature}` : `${text(one['definition']).trimEnd()};`,
    `alter function ${signature} owner to ${text(one['owner'])};`,
    ...(one['comment'] === null ? [] : [`comment on function ${signature} is ${literal(one['comment'])};`]),
    ...grantsOn('function', signature, one),
  ].join('\n');
}
