import { describe, expect, test } from 'vitest';
import { makeProject, outcome, putSecret, useDatabase, type Session } from './support.ts';

// Every function of the schema, as the catalog has it, called by everybody: with another tenant's ids and names, claims that name that
// tenant, and tables, types and functions of the caller's own in the way.
const on = useDatabase();

type Caller =
  | 'anon'
  | 'authenticated'
  | 'keyring_auditor'
  | 'keyring_service'
  | 'keyring_mover'
  | 'keyring_user'
  | 'keyring_reader';

/** What a function is for, and who may call it besides its owner: no user. One that is not here fails the first test. */
const purposes: Readonly<Record<string, readonly [purpose: string, ...callers: Caller[]]>> = {
  'admit_plaintext(text)': ['opens the door for plaintext again, for who migrates'],
  'archive_audit(bigint,text,text,text,text)': ['takes sealed entries out of the trail, for who migrates'],
  'catalog_problems()': ['names encrypted columns that are not registered or not guarded', 'keyring_service'],
  'envelope_key_id(bytea)': [
    'reads the key id in an envelope, in a constraint of a table that users write',
    ...(['keyring_auditor', 'keyring_service', 'keyring_mover', 'keyring_user', 'keyring_reader'] as const),
  ],
  'exposed_secrets(uuid)': ['what was ever under a version, for the exposure report', 'keyring_service'],
  'exposed_secrets_in_sight(uuid)': ['the same, of a version that a principal sees', 'keyring_user'],
  'finish_adoption(text)': ['closes the door for plaintext', 'keyring_service'],
  'is_approved(text,text)': ['was it approved in this transaction?', 'keyring_service'],
  'lock_primaries(uuid[])': ['the fence of a move', 'keyring_mover'],
  'mirror_audit_log()': ['has entries shown in MeshHook’s own log, for who migrates'],
  'move_body(text,regclass,name,name,name,name)': ['writes the function that moves rows of a column'],
  'move_secrets__value(uuid[],tid[],uuid[],bytea[],bytea[])': ['moves rows', 'keyring_service', 'keyring_mover'],
  'not_asked_before(uuid,timestamp with time zone)': [
    'when a project may be rotated by itself',
    ...(['keyring_service', 'keyring_user'] as const),
  ],
  'open_restore_door(text)': ['lets a restore in, for who migrates'],
  'project_lock(uuid)': ['the number of a project’s lock', 'keyring_service'],
  'projects_of_principal()': ['which projects the policies of users leave', 'keyring_user'],
  'reference_counts(uuid)': ['how many rows name each version', 'keyring_service'],
  'reference_counts_of(uuid[])': ['the same, of some projects', 'keyring_service'],
  'reference_counts_in_sight(uuid[])': ['the same, of those that a principal sees', 'keyring_user'],
  'refuse_stale(text,uuid)': ['the refusal of the fence', 'keyring_mover'],
  'refuse_stale_wrapping(uuid)': ['the refusal of the fence of wrapped keys'],
  'register_encrypted_column(text,regclass,name,name,name,name)': ['takes a column in, for who migrates'],
  'require_sound_catalog()': ['the refusal of the guard of versions where a count could miss rows'],
  'retention_subject(uuid,interval)': ['what an approval of a shorter retention is for', 'keyring_service'],
  'roots_lock()': ['the number of a lock'],
  'rotations_of_principal()': ['which rotations they leave', 'keyring_user'],
  'schema_version()': ['which migration is the newest', 'keyring_service'],
  'seen_exposed_secrets(uuid)': ['one name for both', 'keyring_service', 'keyring_user'],
  'seen_reference_counts(uuid[])': ['one name for both', 'keyring_service', 'keyring_user'],
  'sees_project(uuid)': ['whether the policies of readers leave rows of a project', 'keyring_reader'],
  'two_person_rule()': ['is the rule of two people in force?', 'keyring_service'],
  'unregister_encrypted_column(text)': ['lets a column go, for who migrates'],
  'wrapping_lock()': ['the number of a lock', 'keyring_service'],
};
/** By triggers alone: PostgreSQL calls them for whoever writes, and nobody else can. */
const triggers = [
  ...[
    'begin_audit_entry',
    'check_row_id_type',
    'erase_wrapping_key',
    'fence_secrets__value',
    'fence_wrapped_keys',
    'guard_access_settings',
    'guard_admins',
  ],
  ...['guard_api_token', 'guard_approval', 'guard_audit_checkpoint', 'guard_audit_seals', 'guard_encryption_key'],
  ...['guard_installation', 'guard_key_ends', 'guard_key_usage', 'guard_keyring', 'guard_retention', 'guard_root_key'],
  ...[
    'guard_rotation_project',
    'guard_signing_key',
    'guard_upper_rotation',
    'guard_wrapped_copy',
    'guard_wrapping_key',
  ],
  ...[
    'note_keyring_end',
    'note_notification',
    'note_promotion',
    'note_promotions',
    'refuse_audit_change',
    'refuse_receipt_change',
  ],
  'refuse_truncate',
];
/** What changes something for the service, whose business that is: for all tenants or for the one that it names. */
const changes: ReadonlySet<string> = new Set(['finish_adoption(text)']);

interface Callable {
  readonly oid: string;
  /** Without its schema. */
  readonly name: string;
  readonly isTrigger: boolean;
  readonly types: string[];
  readonly names: string[];
  readonly callers: Caller[];
}

const callers: readonly Caller[] = [
  ...([
    'anon',
    'authenticated',
    'keyring_auditor',
    'keyring_service',
    'keyring_mover',
    'keyring_user',
    'keyring_reader',
  ] as const),
];
// A role of PostgreSQL's own, which may here what `public` may.
const everybody = 'pg_checkpoint';

const functionsOf = async (admin: Session): Promise<Callable[]> => {
  const found = await admin.run<Callable & Record<string, unknown>>(
    `select p.oid::text, substr(p.oid::regprocedure::text, length('keyring.') + 1) as name,
       p.prorettype = 'trigger'::regtype as "isTrigger",
       array(select format_type(t, null) from unnest(p.proargtypes) t) as types, coalesce(p.proargnames, '{}') as names,
       array(select r from unnest($1::text[]) r
         where has_function_privilege(r, p.oid, 'execute') and has_schema_privilege(r, 'keyring', 'usage')) as callers
     from pg_proc p where p.pronamespace = 'keyring'::regnamespace and p.prokind = 'f' order by 2`,
    [[...callers, everybody]],
  );
  return found;
};

/** Of every table of the schema, and of the secrets and projects. */
async function digest(admin: Session): Promise<string> {
  const tables = await admin.run<{ name: string }>(
    `select format('%I.%I', relnamespace::regnamespace, relname) as name from pg_class where relkind = 'r'
       and (relnamespace = 'keyring'::regnamespace or oid in ('public.secrets'::regclass, 'public.projects'::regclass)) order by 1`,
  );
  const one = ({ name }: { name: string }) =>
    `(select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from ${name} t)`;
  return admin.value<string>(`select concat(${tables.map(one).join(', ')})`);
}

// What a caller would give who knows the schema.
const texts: Readonly<Record<string, string>> = {
  column_label: 'secrets.value',
  the_action: 'key.destroy_early',
  ciphertext_column: 'value_encrypted',
  key_id_column: 'encryption_key_id',
  row_id_column: 'id',
  project_column: 'project_id',
};

function argument(type: string, name: string, id: string, row: string): string {
  const values: Readonly<Record<string, string>> = {
    uuid: `'${id}'`,
    'uuid[]': name === 'row_ids' ? `array['${row}']` : `array['${id}']`,
    text: `'${name === 'the_subject' ? `key:${id}` : (texts[name] ?? 'a reason')}'`,
    name: `'${texts[name] ?? 'id'}'`,
    regclass: `'public.secrets'`,
    'tid[]': `array['(0,1)']`,
    'bytea[]': String.raw`array['\x0101']`,
    bytea: String.raw`'\x0101'::pg_catalog.bytea || decode('${id.replaceAll('-', '')}${'00'.repeat(40)}', 'hex')`,
    bigint: '1',
    interval: `'1 day'`,
    'timestamp with time zone': `'2026-01-01'`,
  };
  const value = values[type];
  if (value === undefined) throw new Error(`no argument for ${name} ${type}`);
  const shortNames: Readonly<Record<string, string>> = { 'timestamp with time zone': 'timestamptz', bigint: 'int8' };
  return `(${value})::pg_catalog.${shortNames[type] ?? type}`;
}

const inTheWay = `
  create temp table keyrings (project_id pg_catalog.uuid) on commit drop;
  create temp table secrets (id pg_catalog.uuid, project_id pg_catalog.uuid) on commit drop;
  create temp table approvals (action pg_catalog.text, subject pg_catalog.text, consumed_in pg_catalog.xid8) on commit drop;
  create temp table grants (role pg_catalog.text, person pg_catalog.text) on commit drop;
  create domain pg_temp.uuid as pg_catalog.text;
  create function pg_temp.now() returns pg_catalog.timestamptz language sql as 'select null::timestamptz';
  create function pg_temp.uid() returns pg_catalog.uuid language sql as 'select null::pg_catalog.uuid';
  set local search_path = pg_temp, pg_catalog, keyring, public`;

/** Calls all of them as each role, in a transaction that is undone, and expects nothing to come of it. Gives how many calls there were. */
async function callAll(): Promise<number> {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const [mine, theirs] = [await makeProject(service), await makeProject(service)];
  const row = await putSecret(service, theirs, theirs.keys[0], 'THEIRS');
  const functions = (await functionsOf(admin)).filter(({ isTrigger }) => !isTrigger);
  const ids = [theirs.id, theirs.owner, theirs.keys[0], row];
  let calls = 0;

  /** What they answer, one by one: as JSON, or the code of the refusal. */
  const answers = async (role: string, hostile: boolean): Promise<Map<string, string>> => {
    const told = new Map<string, string>();
    await admin.run('begin');
    // As it is for the digest: names of tables are spelled by it.
    await admin.run(`set local search_path = ''`);
    const before = await digest(admin);
    const claims = { sub: theirs.owner, role: 'service_role', project_id: theirs.id, app_metadata: { admin: true } };
    const own = { sub: mine.owner, role };
    await admin.run(`select pg_catalog.set_config('request.jwt.claims', $1, true)`, [
      // A user's claims are the user's: whoever can forge them is that user.
      JSON.stringify(hostile && role !== 'authenticated' ? claims : own),
    ]);
    await admin.run(
      `set local app.project_id = '${theirs.id}'; set local "request.jwt.claim.project_id" = '${theirs.id}'`,
    );
    // Whom keyring_user reads for is the service's to say; others may set what they like.
    await admin.run(`select pg_catalog.set_config('keyring.principal', $1, true)`, [
      `user:${role === 'keyring_user' || role === 'keyring_reader' ? mine.owner : theirs.owner}`,
    ]);
    if (hostile) await admin.run(inTheWay);
    for (const { name, types, names } of functions) {
      for (const id of ids) {
        const given = types.map((type, at) => argument(type, names[at] ?? '', id, row));
        const call = `keyring.${name.slice(0, name.indexOf('('))}(${given.join(', ')})`;
        await admin.run(`savepoint this_one; set local role ${role}`);
        let rows: unknown;
        const ended = await outcome(
          admin.run(`select (${call})::pg_catalog.text as told`).then((found) => (rows = found)),
        );
        const answer = ended === 'done' ? JSON.stringify(rows) : ended;
        if (ended === 'done' && !(role === 'keyring_service' && changes.has(name))) {
          await admin.run(`reset role; set local search_path = ''`);
          expect(await digest(admin), `${role}: ${call}`).toBe(before);
        }
        await admin.run('rollback to savepoint this_one');
        told.set(call, answer);
        calls += 1;
      }
    }
    await admin.run('rollback');
    return told;
  };

  for (const role of ['anon', 'authenticated', 'keyring_auditor', 'keyring_user', 'keyring_reader', everybody]) {
    for (const [call, answer] of await answers(role, true)) {
      const name = call.slice('keyring.'.length, call.indexOf('('));
      // Of an envelope that somebody has, they may know which key it names.
      if (name === 'envelope_key_id') continue;
      for (const secret of [...ids, theirs.keys[1], 'THEIRS']) expect(answer, `${role}: ${call}`).not.toContain(secret);
      const mayCall = functions.some((one) => one.name.startsWith(`${name}(`) && one.callers.includes(role as Caller));
      if (!mayCall) expect(answer, `${role}: ${call}`).toBe('42501');
    }
  }
  // To the service every project is its own: what it is told, and what it does, depends on no claim and on nothing in the way.
  expect(await answers('keyring_service', true)).toEqual(await answers('keyring_service', false));
  expect(calls).toBe(8 * functions.length * ids.length);
  return calls;
}

describe('every function of the schema', () => {
  test('is listed here, with who may call it, and is called by nobody else', async () => {
    const found = await functionsOf(await on.admin());
    const expected = Object.entries(purposes).map(([name, [, ...may]]) => [name, [...may].toSorted()]);
    const ofTriggers = triggers.map((name) => [`${name}()`, []]);
    expect(found.map(({ name, callers: may }) => [name, [...may].toSorted()])).toEqual(
      [...expected, ...ofTriggers].toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
    );
    expect(found.filter(({ isTrigger }) => isTrigger)).toHaveLength(triggers.length);
  });

  test('tells and changes nothing of another tenant, whatever its caller claims, names and puts in the way', async () => {
    expect(await callAll()).toBeGreaterThan(500);
  });

  test('that told would be found, and so would one that is new', async () => {
    const admin = await on.admin();
    await admin.run(
      `grant usage on schema keyring to authenticated;
       create function keyring.planted(project uuid) returns text language sql security definer set search_path = ''
         as $$ select s.key from public.secrets s where s.project_id = project $$;
       revoke execute on function keyring.planted(uuid) from public;
       grant execute on function keyring.planted(uuid) to authenticated`,
    );
    const planted = (await functionsOf(admin)).find(({ name }) => name === 'planted(uuid)');
    expect(planted).toMatchObject({ callers: ['authenticated'] });
    expect(Object.keys(purposes)).not.toContain(planted?.name);
    await expect(callAll()).rejects.toThrow('authenticated: keyring.planted');
  });
});
