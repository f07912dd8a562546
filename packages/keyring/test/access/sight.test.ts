import { randomUUID } from 'node:crypto';
import type { Keyring, Sight } from '@meshhook/keyring';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { codeOf } from '../engine/support/world.ts';

// What a principal sees under an identity of its own in PostgreSQL, with no other wall before it: everything is asked for of all projects.

let installation: Installation;
let keyring: Keyring;
let mine: Tenant;
let theirs: Tenant;
let ofBoth: string;

/** Somebody who has something in every table, and every id that belongs to them. */
interface Tenant {
  readonly owner: string;
  readonly project: string;
  readonly rotation: string;
  readonly key: string;
  readonly token: string;
  readonly grant: string;
  readonly ids: readonly string[];
}

async function makeTenant(name: string): Promise<Tenant> {
  const owner = randomUUID();
  const { id: project } = await keyring.projects.create({ name, owner });
  await keyring.secrets.put(project, 'KEY', `value of ${name}`);
  const { id: rotation } = await keyring.rotations.request({ projects: [project] });
  await keyring.rotations.run(rotation);
  const keys = await keyring.keys.list({ projectId: project });
  const { entry } = await keyring.access.tokens.create({ name, role: 'project_admin', projects: [project] });
  const grant = await keyring.access.grants.add({ person: `person:${name}`, role: 'auditor', projectId: project });
  await keyring.policies.set({ rotateAfterMs: 90 * 86_400_000 }, { projectId: project, revision: 0 });
  const ids = [project, owner, rotation, entry.id, grant.id, `person:${name}`, ...keys.map((key) => key.id)];
  return { owner, project, rotation, key: keys[0]?.id ?? '', token: entry.id, grant: grant.id, ids };
}

beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  mine = await makeTenant('mine');
  theirs = await makeTenant('theirs');
  ofBoth = (await keyring.rotations.request({ projects: [mine.project, theirs.project] })).id;
  await keyring.rotations.run(ofBoth);
  for (const { rotation, project } of [mine, theirs]) {
    await installation.sql(
      `insert into keyring.quarantine (rotation_id, project_id, label, row_id, reason)
       values ($1, $2, 'secrets.value', $3, 'does_not_open')`,
      [rotation, project, randomUUID()],
    );
  }
});
afterAll(() => installation.end());

/** Ids of the projects that are listed. Of the two tenants a value is told if its project is, and not otherwise. */
async function projectsOf(principal: string): Promise<string[]> {
  const sight = keyring.seenBy(principal);
  const listed = (await sight.projects.list()).map(({ id }) => id);
  for (const { project } of [mine, theirs]) {
    const told = (await sight.secrets.get(project, 'KEY')) !== undefined;
    expect(told, `a value of ${project} for ${principal}`).toBe(listed.includes(project));
  }
  return listed;
}

type Role = 'keyring_user' | 'keyring_reader';

/** Transaction of a principal's, for what takes more than one statement. */
async function seenWith<T>(principal: string, role: Role, work: () => Promise<T>): Promise<T> {
  await installation.sql('begin');
  try {
    await installation.sql(`set local role ${role}`);
    await installation.sql(`select set_config('keyring.principal', $1, true)`, [principal]);
    return await work();
  } finally {
    await installation.sql('rollback');
  }
}

/** Rows of a relation, as text, of the columns that the role may read. */
async function rowsOf(relation: string, principal: string | undefined, role: Role = 'keyring_user'): Promise<string[]> {
  const columns = await installation.sql<{ name: string }>(
    `select quote_ident(attname) as name from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped and has_column_privilege($2, attrelid, attnum, 'select')`,
    [relation, role],
  );
  const text = `select t::text as row from (select ${columns.map(({ name }) => name).join(', ')} from ${relation}) t`;
  if (principal === undefined) return (await installation.sql<{ row: string }>(text)).map(({ row }) => row);
  return seenWith(principal, role, async () => (await installation.sql<{ row: string }>(text)).map(({ row }) => row));
}

const granted = () =>
  installation.sql<{ relation: string }>(
    `select c.oid::regclass::text as relation from pg_class c
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
       and (has_table_privilege('keyring_user', c.oid, 'select') or has_any_column_privilege('keyring_user', c.oid, 'select'))
     order by 1`,
  );
const named = (row: string, { ids }: Tenant) => ids.some((id) => row.includes(id));

describe('of every table that users are granted', () => {
  test('a principal sees its own rows, and none of another tenant’s', async () => {
    const relations = (await granted()).map(({ relation }) => relation);
    expect(relations.length).toBeGreaterThan(12);
    for (const relation of relations) {
      // Public halves of keys that sign for all tenants, and since when the trail of all of them is archived.
      if (/\.(signing_keys|audit_archives|audit_checkpoints)$/.test(relation)) continue;
      const all = await rowsOf(relation, undefined);
      expect(
        all.some((row) => named(row, theirs)),
        `${relation} has rows of both`,
      ).toBe(true);
      for (const principal of [`user:${mine.owner}`, `token:${mine.token}`, 'person:mine']) {
        const seen = await rowsOf(relation, principal);
        expect(
          seen.filter((row) => named(row, theirs)),
          `${relation} seen by ${principal}`,
        ).toEqual([]);
        expect(
          seen.some((row) => named(row, mine)),
          `${relation} seen by ${principal}`,
        ).toBe(true);
      }
    }
  });

  test('as a reader of values a principal sees rows of its own, and none of another tenant’s', async () => {
    for (const relation of ['public.projects', 'public.secrets', 'keyring.keyrings']) {
      for (const principal of [`user:${mine.owner}`, `token:${mine.token}`, 'person:mine', '']) {
        const seen = await rowsOf(relation, principal, 'keyring_reader');
        // Of projects no more is asked than who owns them.
        const sees = relation === 'public.projects' ? principal.startsWith('user:') : principal !== '';
        const answer = [relation, principal, seen.map((row) => named(row, mine))];
        expect(answer).toEqual([relation, principal, sees ? [true] : []]);
      }
    }
  });

  test.each(['', 'user:', 'operator', 'person:nobody', `user:${randomUUID()}`, `token:${randomUUID()}`, 'anything'])(
    'who is "%s" sees no tenant’s row',
    async (principal) => {
      for (const { relation } of await granted()) {
        const seen = await rowsOf(relation, principal);
        expect(
          seen.filter((row) => named(row, mine) || named(row, theirs)),
          relation,
        ).toEqual([]);
      }
    },
  );

  test('none holds a wrapped key, a digest or a secret of ours; ciphertext is in one; and all is to look at', async () => {
    const columns = await installation.sql<{ column: string }>(
      `select a.attrelid::regclass || '.' || a.attname as column from pg_attribute a join pg_class c on c.oid = a.attrelid
       where c.relkind in ('r', 'p', 'v') and c.relnamespace in ('keyring'::regnamespace, 'keyring_jobs'::regnamespace, 'public'::regnamespace)
         and a.attnum > 0 and not a.attisdropped and has_column_privilege('keyring_user', a.attrelid, a.attnum, 'select')`,
    );
    const names = columns.map(({ column }) => column);
    expect(names.filter((name) => /wrapped|digest|cipher|encrypted$|private|signing_secret/.test(name))).toEqual([
      'secrets.value_encrypted',
    ]);
    const changes = await installation.sql(
      `select c.oid::regclass, p from pg_class c, unnest(array['insert', 'update', 'references']) p
       where c.relkind in ('r', 'p', 'v') and c.relnamespace <> 'pg_catalog'::regnamespace and has_any_column_privilege('keyring_user', c.oid, p)
       union all
       select c.oid::regclass, p from pg_class c, unnest(array['delete', 'truncate', 'trigger']) p
       where c.relkind in ('r', 'p', 'v') and c.relnamespace <> 'pg_catalog'::regnamespace and has_table_privilege('keyring_user', c.oid, p)`,
    );
    expect(changes).toEqual([]);
  });

  test('a rotation of both tenants is neither’s, though each sees what became of its own project in it', async () => {
    for (const { owner } of [mine, theirs]) {
      const sight = keyring.seenBy(`user:${owner}`);
      expect(await sight.rotations.get(ofBoth)).toBeUndefined();
      expect(await sight.rotations.isAmong(ofBoth, 'all')).toBe(false);
      expect((await sight.rotations.list()).map(({ id }) => id)).not.toContain(ofBoth);
      const parts = await rowsOf('keyring.rotation_projects', `user:${owner}`);
      expect(parts.filter((row) => row.includes(ofBoth))).toHaveLength(1);
    }
  });

  test('a policy of the application that shows everything to everybody shows a principal no more', async () => {
    await installation.asOwner(
      'create policy "all" on public.projects for select to public using (true)',
      'create policy "all" on public.secrets for select to public using (true)',
    );
    try {
      expect(await projectsOf(`user:${mine.owner}`)).toEqual([mine.project]);
      const seen = await rowsOf('public.secrets', `user:${mine.owner}`);
      expect(seen).toHaveLength(1);
    } finally {
      await installation.asOwner('drop policy "all" on public.projects', 'drop policy "all" on public.secrets');
    }
  });

  test('an application that takes the policies off its projects shows a principal no other value or pointer', async () => {
    await installation.asOwner('alter table public.projects disable row level security');
    try {
      for (const principal of [`user:${mine.owner}`, `token:${mine.token}`, 'person:mine']) {
        for (const relation of ['public.secrets', 'keyring.keyrings']) {
          for (const role of ['keyring_user', 'keyring_reader'] as const) {
            const seen = await rowsOf(relation, principal, role);
            const answer = [relation, role, principal, seen.map((row) => named(row, mine))];
            expect(answer).toEqual([relation, role, principal, [true]]);
          }
        }
        const { secrets } = keyring.seenBy(principal);
        expect((await secrets.get(mine.project, 'KEY'))?.value).toBe('value of mine');
        expect(await secrets.get(theirs.project, 'KEY')).toBeUndefined();
      }
    } finally {
      await installation.asOwner('alter table public.projects enable row level security');
    }
  });

  test('an application that hides projects from everybody hides no value from whom it belongs to', async () => {
    await installation.asOwner(
      'create policy nobody on public.projects as restrictive to keyring_reader using (false)',
    );
    try {
      expect((await keyring.seenBy(`user:${mine.owner}`).secrets.get(mine.project, 'KEY'))?.value).toBe(
        'value of mine',
      );
    } finally {
      await installation.asOwner('drop policy nobody on public.projects');
    }
  });
});

describe('with the wall of the statements taken away', () => {
  const looks: Readonly<Record<string, (sight: Sight, of: Tenant) => Promise<unknown>>> = {
    projects: ({ projects }) => projects.list({ among: 'all' }),
    secrets: ({ secrets }, { project }) => secrets.list(project),
    'a value': async ({ secrets }, { project }) => (await secrets.get(project, 'KEY'))?.value,
    'all keys': ({ keys }) => keys.page({ among: 'all' }),
    'keys that are due': ({ keys }) => keys.page({ among: 'all', due: false }),
    'a key': ({ keys }, { key }) => keys.get(key),
    rotations: ({ rotations }) => rotations.list({ among: 'all' }),
    'a rotation': ({ rotations }, { rotation }) => rotations.get(rotation),
    'how it stands': ({ rotations }, { rotation }) => rotations.standing(rotation),
    policies: ({ policies }) => policies.list({ among: 'all' }),
    'what is overdue': ({ policies }) => policies.overdue({ among: 'all' }),
    quarantine: ({ quarantine }) => quarantine.list({ among: 'all' }),
    'the trail': ({ audit }) => audit.list(),
    'the trail, exported': async ({ audit }) => {
      const entries = [];
      for await (const entry of audit.export()) entries.push(entry);
      return entries;
    },
    tokens: ({ access }) => access.tokens.list({ among: 'all' }),
    grants: ({ access }) => access.grants.list({ among: 'all' }),
    'how all stands': ({ overview }) => overview({ among: 'all' }),
  };

  test.each(Object.entries(looks))('%s: nothing foreign is told', async (_name, look) => {
    const sight = keyring.seenBy(`user:${mine.owner}`);
    const told = JSON.stringify([await look(sight, mine), await look(sight, theirs)]);
    expect(theirs.ids.filter((id) => told.includes(id))).toEqual([]);
    expect(told).not.toContain('theirs');
  });

  test('what is one’s own is the same as the service would tell', async () => {
    const sight = keyring.seenBy(`user:${mine.owner}`);
    const among = [mine.project];
    expect(await sight.keys.page({ among })).toEqual(await keyring.keys.page({ among }));
    expect(await sight.keys.exposure(mine.key)).toEqual(await keyring.keys.exposure(mine.key));
    expect(await sight.rotations.get(mine.rotation)).toEqual(await keyring.rotations.get(mine.rotation));
    expect(await sight.rotations.receipts(mine.rotation)).toEqual(await keyring.rotations.receipts(mine.rotation));
    expect(await sight.rotations.list({ among })).toEqual(await keyring.rotations.list({ among }));
    expect(await sight.quarantine.list({ among })).toEqual(await keyring.quarantine.list({ among }));
    expect(await sight.audit.list({ projectIds: among })).toEqual(await keyring.audit.list({ projectIds: among }));
    expect(await sight.policies.show(mine.project)).toEqual(await keyring.policies.show(mine.project));
    const [own, service] = [await sight.overview({ among }), await keyring.overview({ among })];
    expect({ ...own, at: 0 }).toEqual({ ...service, at: 0 });
    expect((await sight.secrets.get(mine.project, 'KEY'))?.value).toBe('value of mine');
  });

  test('of what is foreign it is as if it were not there', async () => {
    const sight = keyring.seenBy(`user:${mine.owner}`);
    expect(await sight.secrets.get(theirs.project, 'KEY')).toBeUndefined();
    expect(await sight.secrets.reveal(theirs.project, 'KEY', { reason: 'a test' })).toBeUndefined();
    expect(await codeOf(sight.keys.exposure(theirs.key))).toBe('unknown_key');
    expect(await codeOf(sight.rotations.receipts(theirs.rotation))).toBe('unknown_rotation');
    expect(await codeOf(sight.policies.show(theirs.project))).toBe('unknown_project');
    expect(await codeOf(sight.projects.resolve(theirs.project))).toBe('unknown_project');
  });

  test('a value is revealed under the identity, and the entry is written by the service', async () => {
    const sight = keyring.as({ name: 'ada', kind: 'user' }).seenBy(`user:${mine.owner}`);
    expect((await sight.secrets.reveal(mine.project, 'KEY', { reason: 'a look' }))?.value).toBe('value of mine');
    const [entry] = await keyring.audit.list({ action: 'secret.revealed' });
    expect(entry).toMatchObject({ actor: 'ada', projectId: mine.project, reason: 'a look' });
  });
});

describe('one project and all of them', () => {
  const guest = randomUUID();
  const kinds: Record<string, () => string> = {
    'an owner': () => `user:${mine.owner}`,
    'a user with a grant': () => `user:${guest}`,
    'a person with a grant': () => 'person:mine',
    'nobody’s token': () => `token:${mine.token}`,
    nobody: () => `user:${randomUUID()}`,
    'who says nothing': () => '',
  };
  beforeAll(async () => {
    await keyring.access.grants.add({ person: `user:${guest}`, role: 'auditor', projectId: mine.project });
  });

  test.each(Object.entries(kinds))('are seen alike by %s', async (kind, principal) => {
    const asked = [mine.project, theirs.project, mine.project, randomUUID()];
    const ask = (role: Role, does: string) =>
      seenWith(principal(), role, () =>
        installation.sql<{ does: boolean }>(`select ${does} as does from unnest($1::uuid[]) p (id)`, [asked]),
      );
    const one = await ask('keyring_reader', 'keyring.sees_project(id)');
    const all = await ask('keyring_user', 'id = any (keyring.projects_of_principal())');
    const holds = kind !== 'nobody' && kind !== 'who says nothing';
    for (const answers of [one, all]) expect(answers.map(({ does }) => does)).toEqual([holds, false, holds, false]);
  });

  test('an owner is known by the project’s row: nothing is worked out for a value', async () => {
    const worked = await seenWith(`user:${mine.owner}`, 'keyring_reader', async () => {
      const secret = `select s.id, r.primary_key_id from public.secrets s left join keyring.keyrings r on r.project_id = s.project_id
        where s.project_id = $1 and s.key = 'KEY'`;
      expect(await installation.sql(secret, [mine.project])).toMatchObject([
        { primary_key_id: expect.any(String) as string },
      ]);
      return installation.sql(`select nullif(current_setting(n, true), '') as noted
        from unnest(array['keyring.sight', 'keyring.project_in_sight']) n`);
    });
    expect(worked).toEqual([{ noted: null }, { noted: null }]);
  });

  test('what was noted of one principal is no other’s', async () => {
    const seen = (who: string) =>
      installation.sql<{ seen: boolean }>(
        `select keyring.sees_project($2) as seen from set_config('keyring.principal', $1, true)`,
        [who, mine.project],
      );
    const answers = await seenWith('', 'keyring_reader', async () => [
      await seen(`token:${mine.token}`),
      await seen(`token:${theirs.token}`),
      await seen(`user:${theirs.owner}`),
    ]);
    expect(answers.flat()).toEqual([{ seen: true }, { seen: false }, { seen: false }]);
  });
});

describe('sight is lost at once', () => {
  test('by a token that is revoked, and by one that expires', async () => {
    const { entry } = await keyring.access.tokens.create({ name: 'short', role: 'auditor', projects: [mine.project] });
    expect(await projectsOf(`token:${entry.id}`)).toEqual([mine.project]);
    await keyring.access.tokens.revoke(entry.id);
    expect(await projectsOf(`token:${entry.id}`)).toEqual([]);
    const late = await keyring.access.tokens.create({ name: 'late', role: 'auditor', projects: [mine.project] });
    await installation.behindTheFence(`update keyring.api_tokens set expires_at = now() where id = $1`, [
      late.entry.id,
    ]);
    expect(await projectsOf(`token:${late.entry.id}`)).toEqual([]);
  });

  test('by a person whose grant is taken away, and by every token that is theirs', async () => {
    const person = 'person:ada';
    const { id } = await keyring.access.grants.add({ person, role: 'project_admin', projectId: mine.project });
    const both = [mine.project, theirs.project];
    const { entry } = await keyring.access.tokens.create({ name: 'ada', role: 'auditor', projects: both, person });
    const everywhere = await keyring.access.tokens.create({ name: 'ada, everywhere', role: 'auditor', person });
    for (const who of [person, `token:${entry.id}`, `token:${everywhere.entry.id}`])
      expect(await projectsOf(who)).toEqual([mine.project]);
    await keyring.access.grants.remove(id);
    for (const who of [person, `token:${entry.id}`, `token:${everywhere.entry.id}`])
      expect(await projectsOf(who)).toEqual([]);
    // Of one who may look everywhere, a token sees what it is for.
    await keyring.access.grants.add({ person, role: 'auditor' });
    expect((await projectsOf(`token:${entry.id}`)).toSorted()).toEqual(both.toSorted());
  });

  test('by an owner whose project is given away', async () => {
    const [ada, bob] = [randomUUID(), randomUUID()];
    const { id } = await keyring.projects.create({ name: 'given', owner: ada });
    await keyring.secrets.put(id, 'KEY', 'given');
    const told = async (who: string) => (await keyring.seenBy(`user:${who}`).secrets.get(id, 'KEY'))?.value;
    expect(await projectsOf(`user:${ada}`)).toEqual([id]);
    // One after the other over one connection: from the sixth on, PostgreSQL has one plan for all.
    for (let time = 0; time < 8; time++) expect([await told(ada), await told(bob)]).toEqual(['given', undefined]);
    await installation.sql('update public.projects set owner = $2 where id = $1', [id, bob]);
    expect(await projectsOf(`user:${ada}`)).toEqual([]);
    expect(await projectsOf(`user:${bob}`)).toEqual([id]);
    expect([await told(ada), await told(bob)]).toEqual([undefined, 'given']);
  });

  test('by an owner whose project is given away between two statements of one transaction', async () => {
    const seen = await seenWith(`user:${mine.owner}`, 'keyring_reader', async () => {
      const values = () => installation.sql('select key from public.secrets where project_id = $1', [mine.project]);
      const before = await values();
      await installation.sql('reset role');
      await installation.sql('update public.projects set owner = $2 where id = $1', [mine.project, randomUUID()]);
      await installation.sql('set local role keyring_reader');
      return { before, after: await values() };
    });
    expect(seen).toEqual({ before: [{ key: 'KEY' }], after: [] });
  });
});

describe('an identity', () => {
  test('is nobody’s but the service’s to take', async () => {
    for (const role of ['anon', 'authenticated', 'service_role', 'keyring_auditor', 'keyring_mover']) {
      const [may] = await installation.sql<{ may: boolean }>(
        `select pg_has_role($1, 'keyring_user', 'member') or pg_has_role($1, 'keyring_reader', 'member') as may`,
        [role],
      );
      expect([role, may?.may]).toEqual([role, false]);
    }
  });

  test('that others claim changes nothing of what they see', async () => {
    for (const role of ['authenticated', 'keyring_auditor', 'keyring_service']) {
      const seen = async (principal: string) => {
        await installation.sql('begin');
        try {
          await installation.sql(`set local role ${role}`);
          await installation.sql(`select set_config('keyring.principal', $1, true)`, [principal]);
          return await installation.sql('select id from public.projects order by id');
        } finally {
          await installation.sql('rollback');
        }
      };
      expect(await seen(`user:${theirs.owner}`)).toEqual(await seen(''));
    }
  });

  test('that the database could not know is refused before it is asked', () => {
    for (const principal of ['operator', 'token:deploy', 'user:1', "person:' or true", ''])
      expect(() => keyring.seenBy(principal)).toThrow(TypeError);
  });

  test('is to look, not to act: PostgreSQL refuses', async () => {
    const acting = keyring.seenBy(`user:${mine.owner}`) as unknown as Keyring;
    expect(await codeOf(acting.projects.create({ name: 'x' }))).toBe('database_refused');
    expect(await codeOf(acting.keys.disable(mine.key, { reason: 'a test' }))).toBe('database_refused');
    expect(await codeOf(acting.access.grants.remove(mine.grant))).toBe('database_refused');
    expect(await codeOf(acting.rotations.request({ projects: [mine.project] }))).toBe('database_refused');
  });
});
