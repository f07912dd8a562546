import { beforeAll, describe, expect, test } from 'vitest';
import { query } from '../../../../test/support/database.ts';
import {
  envelope,
  isolations,
  makeProject,
  movePointer,
  outcome,
  promote,
  putSecret,
  reencrypt,
  rowsUnder,
  untilItWaits,
  useDatabase,
  type Project,
  type Session,
} from './support.ts';

// A batch of a sweep passes the fence once, in a function that can do nothing but what the fence would let through.
const on = useDatabase();

interface Row {
  readonly id: string;
  readonly place: string;
  readonly old: Buffer;
}

/** These secrets as a sweep reads them, in this order. */
async function read(by: Session, ...ids: string[]): Promise<Row[]> {
  const rows = await by.run<{ id: string; place: string; old: Buffer }>(
    `select s.id, s.ctid::text as place, s.value_encrypted as old
     from unnest($1::uuid[]) with ordinality w (id, at) join public.secrets s on s.id = w.id order by w.at`,
    [ids],
  );
  return rows;
}

/** Moves rows to these keys, one for all or one for each: how many by project. */
async function move(
  by: Session,
  projects: readonly { id: string }[],
  rows: readonly Row[],
  ...keys: readonly string[]
): Promise<Record<string, number>> {
  const moved = await by.run<{ project_id: string; moved: number }>(
    'select project_id, moved::int from keyring.move_secrets__value($1, $2::text[]::tid[], $3, $4, $5)',
    [
      projects.map((project) => project.id),
      rows.map((row) => row.place),
      rows.map((row) => row.id),
      rows.map((row) => row.old),
      rows.map((_, at) => envelope(keys[at] ?? keys[0]!)),
    ],
  );
  return Object.fromEntries(moved.map((row) => [row.project_id, row.moved]));
}

/** A project after a promote, with so many secrets under the version before. */
async function promoted(
  service: Session,
  secrets = 2,
): Promise<{ project: Project; v1: string; v2: string; ids: string[] }> {
  const project = await makeProject(service, 3);
  const [v1, v2] = project.keys;
  const ids: string[] = [];
  for (let made = 0; made < secrets; made++) ids.push(await putSecret(service, project, v1));
  await promote(service, project, v1, v2);
  return { project, v1, v2, ids };
}

const whole = (by: Session, id: string) =>
  by.run('select to_jsonb(s) - $2::text[] as rest from public.secrets s where s.id = $1', [
    id,
    ['value_encrypted', 'encryption_key_id'],
  ]);

test('rows go to the primary versions of their projects, and nothing else of them changes', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const [one, two] = [await promoted(service), await promoted(service, 3)];
  await admin.run('set session_replication_role = replica');
  await admin.run(`update public.secrets set updated_at = '2020-01-01', value_written_at = '2019-01-01'`);
  const before = await whole(service, one.ids[0]!);
  const rows = await read(service, ...one.ids, ...two.ids);
  const keys = [...one.ids.map(() => one.v2), ...two.ids.map(() => two.v2)];
  expect(await move(service, [one.project, two.project], rows, ...keys)).toEqual({
    [one.project.id]: 2,
    [two.project.id]: 3,
  });
  expect(await rowsUnder(admin, one.project, one.v2)).toBe(2);
  expect(await rowsUnder(admin, two.project, two.v2)).toBe(3);
  expect(await whole(service, one.ids[0]!)).toEqual(before);
});

test('a batch under the version before is refused whole', async () => {
  const service = await on.service();
  const { project, v1, v2, ids } = await promoted(service);
  const rows = await read(service, ...ids);
  expect(await outcome(move(service, [project], rows, v2, v1))).toBe('MK001');
  expect(await outcome(move(service, [project], rows, project.keys[2]!))).toBe('MK001');
  expect(await rowsUnder(service, project, v1)).toBe(2);
});

test('a batch with something that is no envelope is refused whole', async () => {
  const service = await on.service();
  const { project, v1, ids } = await promoted(service, 1);
  const [row] = await read(service, ...ids);
  const plain = service.run(
    'select keyring.move_secrets__value(array[$1::uuid], array[$2::text::tid], array[$3::uuid], array[$4::bytea], array[$5::bytea])',
    [project.id, row!.place, row!.id, row!.old, Buffer.from('plaintext')],
  );
  expect(await outcome(plain)).toBe('MK001');
  expect(await rowsUnder(service, project, v1)).toBe(1);
});

test('a row does not go under the key of another project that is named with it', async () => {
  const service = await on.service();
  const [mine, theirs] = [await promoted(service), await promoted(service)];
  const rows = await read(service, mine.ids[0]!, theirs.ids[0]!);
  expect(await outcome(move(service, [mine.project, theirs.project], rows, mine.v2, mine.v2))).toBe('MK001');
  expect(await outcome(move(service, [mine.project, theirs.project], rows, theirs.v2, mine.v2))).toBe('MK001');
  expect(await rowsUnder(service, theirs.project, theirs.v1)).toBe(2);
});

test('a row of a project that is not named stays where it is, whatever its new envelope', async () => {
  const service = await on.service();
  const [mine, theirs] = [await promoted(service), await promoted(service)];
  const rows = await read(service, ...theirs.ids);
  expect(await move(service, [mine.project], rows, theirs.v2)).toEqual({});
  expect(await move(service, [mine.project], rows, mine.v2)).toEqual({});
  expect(await move(service, [], rows, theirs.v2)).toEqual({});
  expect(await rowsUnder(service, theirs.project, theirs.v1)).toBe(2);
});

test('a row that changed, moved or is another one by now is not touched', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const { project, v1, v2, ids } = await promoted(service, 4);
  const rows = await read(service, ...ids);
  const [edited, renamed, gone, kept] = rows as [Row, Row, Row, Row];
  await reencrypt(service, edited.id, v2);
  await service.run(`update public.secrets set key = 'RENAMED' where id = $1`, [renamed.id]);
  await service.run('delete from public.secrets where id = $1', [gone.id]);
  const elsewhere = { ...kept, place: gone.place };
  const [now] = await read(service, edited.id);
  const older = { ...edited, place: now!.place };
  expect(await move(service, [project], [edited, older, renamed, gone, elsewhere], v2)).toEqual({});
  expect(await rowsUnder(admin, project, v1)).toBe(2);
  expect(await read(service, edited.id)).toEqual([now]);
  // Read again, those that still need it are moved.
  expect(await move(service, [project], await read(service, renamed.id, kept.id), v2)).toEqual({ [project.id]: 2 });
});

test('an address that was given to another row does not let that row be moved under it', async () => {
  const [service, owner] = await Promise.all([on.service(), on.owner()]);
  const { project, v1, v2, ids } = await promoted(service, 1);
  const [gone] = await read(service, ...ids);
  await service.run('delete from public.secrets where id = $1', [gone!.id]);
  await owner.run('vacuum public.secrets');
  let reused: string | undefined;
  for (let tries = 0; reused === undefined && tries < 200; tries++) {
    const id = await putSecret(service, project, v2);
    if ((await read(service, id))[0]!.place === gone!.place) reused = id;
  }
  expect(reused).toBeDefined();
  const [before] = await read(service, reused!);
  expect(await move(service, [project], [gone!], v2)).toEqual({});
  expect(await move(service, [project], [{ ...gone!, old: before!.old }], v2)).toEqual({});
  expect(await read(service, reused!)).toEqual([before]);
  expect(await rowsUnder(service, project, v1)).toBe(0);
});

test('a row that is not encrypted yet is not moved', async () => {
  const [service, admin] = await Promise.all([on.service(), on.admin()]);
  const { project, v2, ids } = await promoted(service, 1);
  await admin.run('set session_replication_role = replica');
  await admin.run('update public.secrets set encryption_key_id = null where id = $1', [ids[0]]);
  expect(await move(service, [project], await read(service, ...ids), v2)).toEqual({});
});

describe('nobody waits:', () => {
  test('a row that somebody holds is passed over', async () => {
    const [service, holder] = await Promise.all([on.service(), on.service()]);
    const { project, v2, ids } = await promoted(service, 3);
    const rows = await read(service, ...ids);
    await holder.run('begin');
    await holder.run('select 1 from public.secrets where id = $1 for update', [ids[1]]);
    expect(await move(service, [project], rows, v2)).toEqual({ [project.id]: 2 });
    await holder.run('rollback');
    expect(await move(service, [project], rows, v2)).toEqual({ [project.id]: 1 });
  });

  test('a project whose promote is under way is passed over, and the others of its batch are moved', async () => {
    const [service, promoter] = await Promise.all([on.service(), on.service()]);
    const [busy, free] = [await promoted(service), await promoted(service)];
    const rows = await read(service, ...busy.ids, ...free.ids);
    const keys = [...busy.ids.map(() => busy.v2), ...free.ids.map(() => free.v2)];
    await promoter.run('begin');
    await movePointer(promoter, busy.project, busy.v2, busy.project.keys[2]!);
    expect(await move(service, [busy.project, free.project], rows, ...keys)).toEqual({ [free.project.id]: 2 });
    await promoter.run('commit');
    expect(await outcome(move(service, [busy.project], rows.slice(0, 2), busy.v2))).toBe('MK001');
    expect(await move(service, [busy.project], rows.slice(0, 2), busy.project.keys[2]!)).toEqual({
      [busy.project.id]: 2,
    });
  });

  test('a promote waits for the batch that is under way, and for no other', async () => {
    const [first, second, promoter, admin] = await Promise.all([on.service(), on.service(), on.service(), on.admin()]);
    const { project, v2, ids } = await promoted(first);
    const [one, two] = await read(first, ...ids);
    await first.run('begin');
    expect(await move(first, [project], [one!], v2)).toEqual({ [project.id]: 1 });
    const promoting = outcome(promote(promoter, project, v2, project.keys[2]!));
    await untilItWaits(admin, promoter);
    // The next batch does not go by the promote that waits, and does not wait behind it.
    expect(await move(second, [project], [two!], v2)).toEqual({});
    await first.run('commit');
    expect(await promoting).toBe('done');
    expect(await rowsUnder(admin, project, v2)).toBe(1);
  });
});

describe.each(isolations)('under %s', (isolation) => {
  test('a batch that began before a promote is refused after it', async () => {
    const [service, promoter, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
    const { project, v1, v2, ids } = await promoted(service);
    await service.run(`begin isolation level ${isolation}`);
    const rows = await read(service, ...ids);
    await promote(promoter, project, v2, project.keys[2]!);
    expect(await outcome(move(service, [project], rows, v2))).toBe(isolation === 'read committed' ? 'MK001' : '40001');
    await service.run('rollback');
    expect(await rowsUnder(admin, project, v1)).toBe(2);
  });

  test('a writer and a batch of the same project do not hold each other up', async () => {
    const [service, writer] = await Promise.all([on.service(), on.service()]);
    const { project, v2, ids } = await promoted(service);
    const rows = await read(service, ...ids);
    await writer.run(`begin isolation level ${isolation}`);
    await putSecret(writer, project, v2);
    expect(await move(service, [project], rows, v2)).toEqual({ [project.id]: 2 });
    expect(await outcome(writer.run('commit'))).toBe('done');
  });
});

test('the foreign key still holds, and waits for whoever holds the version', async () => {
  const [service, holder, admin] = await Promise.all([on.service(), on.service(), on.admin()]);
  const { project, v2, ids } = await promoted(service, 1);
  const rows = await read(service, ...ids);
  await admin.run('begin');
  await admin.run('select 1 from keyring.encryption_keys where id = $1 for update', [v2]);
  const moving = move(service, [project], rows, v2);
  await untilItWaits(holder, service);
  await admin.run('commit');
  expect(await moving).toEqual({ [project.id]: 1 });
});

test('without its own role nobody passes the fence of a row: not the service, not the owners', async () => {
  const [service, owner, admin] = await Promise.all([on.service(), on.owner(), on.admin()]);
  const { project, v1, ids } = await promoted(service, 1);
  for (const by of [service, owner, admin]) expect(await outcome(reencrypt(by, ids[0]!, v1))).toBe('MK001');
  for (const role of ['keyring_owner', 'keyring_mover']) {
    expect(await outcome(service.run(`set role ${role}`))).toBe('42501');
  }
  await owner.run('set role keyring_owner');
  expect(await outcome(reencrypt(owner, ids[0]!, project.keys[2]!))).toBe('42501');
});

test('a move does not weaken the fence for what comes after it in its transaction', async () => {
  const service = await on.service();
  const { project, v1, v2, ids } = await promoted(service);
  await service.run('begin');
  await move(service, [project], await read(service, ...ids), v2);
  expect(await outcome(reencrypt(service, ids[0]!, v1))).toBe('MK001');
  await service.run('rollback');
});

// What runs with the function runs as a role that can move rows and nothing else.
describe('a trigger of the table’s owner', () => {
  test('runs as keyring_mover, which reaches nothing in the schema', async () => {
    const [service, owner] = await Promise.all([on.service(), on.owner()]);
    const { project, v2, ids } = await promoted(service, 1);
    const rows = await read(service, ...ids);
    const tries = [
      'update keyring.encrypted_columns set accepts_plaintext = true',
      'select 1 from keyring.encryption_keys',
      'update keyring.keyrings set primary_key_id = primary_key_id',
      'insert into keyring.restore_doors (transaction_id, reason) values (pg_current_xact_id(), $$x$$)',
      `select keyring.open_restore_door('x')`,
      'create function keyring.mine() returns int language sql as $$ select 1 $$',
      'delete from public.secrets',
      'select key from public.secrets',
      `update public.secrets set key = 'x'`,
      'set role keyring_owner',
    ];
    for (const text of tries) {
      await owner.run(`create or replace function public.spy() returns trigger language plpgsql as $spy$
        begin
          if current_user <> 'keyring_mover' then raise exception 'another role' using errcode = 'MKBAD'; end if;
          execute $try$${text}$try$;
          return new;
        end $spy$`);
      await owner.run(
        'create or replace trigger a_spy before update on public.secrets for each row execute function public.spy()',
      );
      expect(await outcome(move(service, [project], rows, v2)), text).toMatch(/^42501$/);
    }
    await owner.run('drop trigger a_spy on public.secrets');
    expect(await move(service, [project], rows, v2)).toEqual({ [project.id]: 1 });
  });

  test.each([
    'id = gen_random_uuid()',
    'encryption_key_id = old.encryption_key_id',
    'value_encrypted = old.value_encrypted',
  ])('that meddles with what is written is found out, though the fence of a row is not asked: %s', async (change) => {
    const [service, owner] = await Promise.all([on.service(), on.owner()]);
    const { project, v1, v2, ids } = await promoted(service);
    const rows = await read(service, ...ids);
    await owner.run(`create or replace function public.meddle() returns trigger language plpgsql as $$
        begin new.${change}; return new; end $$`);
    await owner.run(
      `create trigger a_meddle before update on public.secrets for each row when (old.id = '${ids[1]!}')
         execute function public.meddle()`,
    );
    expect(await outcome(move(service, [project], rows, v2))).toBe('MK003');
    await owner.run('drop trigger a_meddle on public.secrets');
    expect(await rowsUnder(service, project, v1)).toBe(2);
  });

  test('meets the types it names, not those of whoever called', async () => {
    const [service, owner] = await Promise.all([on.service(), on.owner()]);
    const { project, v2, ids } = await promoted(service, 1);
    const rows = await read(service, ...ids);
    await owner.run(`create function public.careless() returns trigger language plpgsql as $$
      declare one uuid := new.id;
      begin return new; end $$`);
    await owner.run(
      'create trigger a_careless before update on public.secrets for each row execute function public.careless()',
    );
    await service.run(`create function pg_temp.spy() returns pg_catalog.bool language plpgsql as $$
      begin raise exception 'the caller''s code ran as %', current_user using errcode = 'MKBAD'; end $$`);
    await service.run('create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.spy())');
    const moved = service.run(
      'select * from keyring.move_secrets__value(array[$1::pg_catalog.uuid], $2::pg_catalog.text[]::pg_catalog.tid[], array[$3::pg_catalog.uuid], array[$4::pg_catalog.bytea], array[$5::pg_catalog.bytea])',
      [project.id, [rows[0]!.place], rows[0]!.id, rows[0]!.old, envelope(v2)],
    );
    expect(await outcome(moved)).toBe('done');
    await owner.run('drop trigger a_careless on public.secrets');
  });
});

describe('of a partitioned table', () => {
  beforeAll(async () => {
    await query(
      on.database.ownerUrl,
      `create table public.tokens (
         id bigint generated always as identity, project_id uuid not null references public.projects on delete cascade,
         kind text not null, token bytea not null, token_key_id uuid, primary key (id, project_id)
       ) partition by hash (project_id)`,
    );
    for (const part of [0, 1, 2]) {
      await query(
        on.database.ownerUrl,
        `create table public.tokens_${String(part)} partition of public.tokens for values with (modulus 3, remainder ${String(part)})`,
      );
    }
    await query(
      on.database.ownerUrl,
      `select keyring.register_encrypted_column('tokens.token', 'public.tokens', 'token', 'token_key_id')`,
    );
  });

  test('rows are found in whichever partition they are, by their ids', async () => {
    const [service, holder] = await Promise.all([on.service(), on.service()]);
    const projects: Project[] = [];
    while (projects.length < 6) projects.push(await makeProject(service));
    for (const { id, keys } of projects) {
      for (let made = 0; made < 2; made++) {
        await service.run(
          `insert into public.tokens (project_id, kind, token, token_key_id) values ($1, 'k', $2, $3)`,
          [id, envelope(keys[0]), keys[0]],
        );
      }
      await promote(service, { id }, ...keys);
    }
    const rows = await service.run<{ id: string; place: string; project_id: string; token: Buffer }>(
      'select id, ctid::text as place, project_id, token from public.tokens order by id',
    );
    const primary = new Map(projects.map(({ id, keys }) => [id, keys[1]]));
    const tokens = (by: Session, key = (row: { project_id: string }) => primary.get(row.project_id)!) =>
      by.run<{ moved: number }>(
        'select moved::int from keyring.move_tokens__token($1, $2::text[]::tid[], $3, $4, $5) order by 1',
        [
          projects.map((project) => project.id),
          rows.map((row) => row.place),
          rows.map((row) => row.id),
          rows.map((row) => row.token),
          rows.map((row) => envelope(key(row))),
        ],
      );
    expect(await outcome(tokens(service, () => projects[0]!.keys[1]))).toBe('MK001');
    await holder.run('begin');
    await holder.run('select 1 from public.tokens where id = $1 for update', [rows[0]!.id]);
    expect((await tokens(service)).map(({ moved }) => moved)).toEqual([1, 2, 2, 2, 2, 2]);
    await holder.run('rollback');
    expect((await tokens(service)).map(({ moved }) => moved)).toEqual([1]);
    expect(
      await service.value('select count(*)::int from public.tokens where token_key_id = any ($1)', [
        projects.map((project) => project.keys[0]),
      ]),
    ).toBe(0);
  });
});

test('nobody else may call it', async () => {
  const admin = await on.admin();
  const who = await admin.run<{ grantee: string }>(
    `select g.grantee::regrole::text as grantee from pg_proc p, aclexplode(p.proacl) g
     where p.oid = 'keyring.move_secrets__value'::regproc order by 1`,
  );
  expect(who.map(({ grantee }) => grantee)).toEqual(['keyring_mover', 'keyring_service']);
});
