import { setTimeout as sleep } from 'node:timers/promises';
import { readFile } from 'node:fs/promises';
import type { AuditProblem, AuditVerification, Database, Keyring } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { seed } from '../../../../test/support/seeded.ts';
import { verifyTrail } from '../../src/audit/verify.ts';
import { secondVerify, type SecondEntry, type SecondTrail } from '../support/second-audit-verifier.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { apply, randomEdit, randomFrom, type Sealed } from './support/tampering.ts';

const ENTRIES = 60;
const EDITS = 200;

let installation: Installation;
let keyring: Keyring;
let publicKeys: Buffer[];
let checkpoint: string;
let sealed: Sealed;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  for (let number = 1; number <= ENTRIES; number++) {
    await installation.sql(
      `insert into keyring.audit_log (actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details)
       values ('ada', $1, $6, 'test.noted', 'succeeded', $2, $3, $4, $5)`,
      [
        number % 3 === 0 ? null : 'user',
        number % 2 === 0 ? null : '11111111-1111-4111-8111-111111111111',
        `thïng:${String(number)}`,
        number % 5 === 0 ? null : `because ünï ${String(number)}`,
        JSON.stringify({ number, nothing: null, one: 1, nested: { list: [1, 2.5, null], text: 'ж"\\\u0001' } }),
        number % 7 === 0 ? '192.0.2.7' : null,
      ],
    );
    // An id that is handed out and not used.
    if (number % 4 === 0) await installation.sql(`select nextval('keyring.audit_log_id_seq')`);
    if (number % 10 === 0) await keyring.audit.seal();
  }
  // Not before every transaction of the server that was open meanwhile has ended, those of other tests too.
  const newest = await installation.sql<{ id: string }>('select max(id)::text as id from keyring.audit_log');
  for (let floor = 0; floor < Number(newest[0]?.id);) {
    await keyring.audit.seal();
    floor = Number((await keyring.audit.checkpoint())?.floor ?? 0);
    await sleep(20);
  }
  checkpoint = (await keyring.audit.checkpoint())?.note ?? '';
  publicKeys = (
    await installation.sql<{ public_key: Buffer }>(
      `select public_key from keyring.signing_keys where purpose = 'audit'`,
    )
  ).map((row) => row.public_key);
  const ids = (
    await installation.sql<{ id: string }>('select entry_id::text as id from keyring.audit_seals order by place')
  ).map((row) => row.id);
  const [first, last] = [Number(ids[0]), Number(ids.at(-1))];
  const used = new Set(ids);
  const gaps = Array.from({ length: last - first }, (_, index) => String(first + index)).filter((id) => !used.has(id));
  sealed = { ids, gaps };
});
afterAll(async () => {
  await keyring.close();
  await installation.end();
});

type Client = Awaited<ReturnType<typeof session>>;

/** The database as it is within a transaction that is never committed. */
function within(client: Client): Database {
  const query = async ({ text, values }: { text: string; values?: readonly unknown[] }) => {
    if (/^(begin|commit|rollback|set transaction)/.test(text)) return { rows: [], rowCount: 0 };
    const { rows, rowCount } = await client.query(text, [...(values ?? [])]);
    return { rows, rowCount: rowCount ?? 0 };
  };
  const database = { query: query as Database['query'], close: () => Promise.resolve() };
  return { ...database, connect: () => Promise.resolve({ query: database.query, release: () => undefined }) };
}

async function trailOf(client: Client): Promise<SecondTrail> {
  const { rows: entries } = await client.query<SecondEntry>(
    `select id::text, case when at > '290000-01-01' then 9223372036854775807 else (extract(epoch from at) * 1000000)::bigint end::text as at_us,
       actor, principal_kind, source_address, action, outcome,
       project_id::text, subject, reason, details::text from keyring.audit_log`,
  );
  const { rows: seals } = await client.query<{ place: number; entryId: string; hash: Buffer }>(
    `select place::int, entry_id::text as "entryId", hash from keyring.audit_seals`,
  );
  const { rows: notes } = await client.query<{ note: string; size: number; floor: string }>(
    'select note, size::int, floor_id::text as floor from keyring.audit_checkpoints',
  );
  const { rows } = await client.query<{ id: string }>('select id from keyring.installation');
  return {
    ...{ entries, seals, publicKeys, installation: rows[0]?.id ?? '' },
    notes: [...notes, { note: checkpoint }],
  };
}

const verifyIn = (client: Client): Promise<AuditVerification> =>
  verifyTrail({ database: within(client), publicKeys, checkpoint });

test('an untouched trail is intact, for the library and for the second implementation', async () => {
  await using client = await session(installation.test.adminUrl, 'reader');
  expect(await verifyIn(client)).toMatchObject({ intact: true, given: 'matches' });
  expect(await secondVerify(await trailOf(client))).toBe(true);
});

test(`each of ${String(EDITS)} random edits by a superuser is found where it is, seed ${String(seed)}`, async () => {
  const random = randomFrom(seed);
  await using client = await session(installation.test.adminUrl, 'superuser');
  const seen = new Map<string, number>();
  for (let edits = 1; edits <= EDITS;) {
    const edit = randomEdit(sealed, random);
    await client.query('begin');
    await client.query('set local session_replication_role = replica');
    if (!(await apply(client, edit))) {
      await client.query('rollback');
      continue;
    }
    const { intact, problem } = await verifyIn(client);
    const second = await secondVerify(await trailOf(client));
    await client.query('rollback');
    const told = `edit ${String(edits)}: ${edit.what}; told: ${JSON.stringify(problem)}`;
    expect(intact, told).toBe(false);
    expect(edit.kinds, told).toContain(problem?.kind);
    if (edit.place !== undefined) expect(problem?.place, told).toBe(edit.place);
    if (edit.entryId !== undefined) expect(problem?.entryId ?? edit.entryId, told).toBe(edit.entryId);
    expect(second, told).toBe(false);
    seen.set(edit.what, (seen.get(edit.what) ?? 0) + 1);
    edits += 1;
  }
  expect(seen.size).toBeGreaterThanOrEqual(8);
  expect(await verifyIn(client)).toMatchObject({ intact: true });
});

test('a superuser who knows the specification and seals anew is found out by what was signed, and by what was kept elsewhere', async () => {
  await using client = await session(installation.test.adminUrl, 'superuser');
  const { chainNext, chainStart, leafOf } = await import('../../src/audit/chain.ts');
  for (const forget of [false, true]) {
    await client.query('begin');
    await client.query('set local session_replication_role = replica');
    await client.query(`update keyring.audit_log set actor = 'eve' where id = $1`, [sealed.ids[29]]);
    const trail = await trailOf(client);
    const byId = new Map(trail.entries.map((entry) => [entry.id, entry]));
    let head = chainStart(trail.installation);
    for (const { place, entryId } of trail.seals.toSorted((a, b) => a.place - b.place)) {
      head = chainNext(head, place, leafOf(byId.get(entryId)!));
      await client.query('update keyring.audit_seals set hash = $2 where place = $1', [place, head]);
    }
    if (forget) await client.query('delete from keyring.audit_checkpoints where size < $1', [sealed.ids.length]);
    const { problem } = await verifyIn(client);
    await client.query('rollback');
    expect(problem?.kind).toBe('rewritten');
    expect(problem?.after).toBeLessThan(30);
    expect(problem?.place).toBeGreaterThanOrEqual(30);
  }
});

test.each<readonly [string, readonly string[], Partial<AuditProblem>]>([
  [
    'a time that is none',
    [`update keyring.audit_log set at = 'infinity' where id = :5`],
    { kind: 'altered', place: 5 },
  ],
  [
    'a time past 64 bits',
    [`update keyring.audit_log set at = '294276-12-31' where id = :5`],
    { kind: 'altered', place: 5 },
  ],
  [
    'a second entry with the id of another',
    [
      'alter table keyring.audit_log drop constraint audit_log_pkey',
      `insert into keyring.audit_log (id, actor, action, outcome, subject) overriding system value
       values (:5, 'eve', 'test.forged', 'succeeded', 'x:1')`,
    ],
    {},
  ],
  [
    'a copy of an entry',
    [
      'alter table keyring.audit_log drop constraint audit_log_pkey',
      'insert into keyring.audit_log overriding system value select * from keyring.audit_log where id = :5',
    ],
    { kind: 'inserted', entryId: ':5' },
  ],
  [
    'an entry in a table that inherits',
    [
      'create table keyring.more () inherits (keyring.audit_log)',
      `insert into keyring.more (id, actor, action, outcome, subject) values (:gap, 'eve', 'test.forged', 'succeeded', 'x:1')`,
    ],
    { kind: 'inserted', entryId: ':gap' },
  ],
  ...[0, -7].map(
    (place) =>
      [
        `an entry below the floor with the place ${String(place)}`,
        [
          'alter table keyring.audit_seals drop constraint audit_seals_place_check',
          `insert into keyring.audit_log (id, actor, action, outcome, subject) overriding system value
           values (:gap, 'eve', 'test.forged', 'succeeded', 'x:1')`,
          `insert into keyring.audit_seals values (${String(place)}, :gap, sha256('x'))`,
        ],
        { kind: 'inserted', place, entryId: ':gap' },
      ] as const,
  ),
  ...[12, ENTRIES].map(
    (place) =>
      [
        `an entry below the floor with the place ${String(place)}, which is another's`,
        [
          'alter table keyring.audit_seals drop constraint audit_seals_pkey',
          `insert into keyring.audit_log (id, actor, action, outcome, subject) overriding system value
           values (:gap, 'eve', 'test.forged', 'succeeded', 'x:1')`,
          `insert into keyring.audit_seals values (${String(place)}, :gap, sha256('x'))`,
        ],
        {},
      ] as const,
  ),
  [
    'a place that is null',
    [
      'alter table keyring.audit_seals drop constraint audit_seals_pkey, alter place drop not null',
      `insert into keyring.audit_log (id, actor, action, outcome, subject) overriding system value
       values (:gap, 'eve', 'test.forged', 'succeeded', 'x:1')`,
      `insert into keyring.audit_seals values (null, :gap, sha256('x'))`,
    ],
    { kind: 'inserted' },
  ],
  [
    'another installation id',
    ['update keyring.installation set id = gen_random_uuid()'],
    { kind: 'altered', place: 1 },
  ],
  [
    'an archive that nobody signed',
    [
      `insert into keyring.audit_archives (through, note) values (7, 'honestly')`,
      'delete from keyring.audit_log l using keyring.audit_seals s where s.entry_id = l.id and s.place <= 7',
      'delete from keyring.audit_seals where place <= 7',
    ],
    { kind: 'checkpoint', place: 7 },
  ],
])('a superuser who also changes the tables: %s', async (_, statements, expected) => {
  await using client = await session(installation.test.adminUrl, 'superuser');
  const [fifth = '', gap = ''] = [sealed.ids[4], sealed.gaps[0]];
  const put = (text: string): string => text.replaceAll(':5', fifth).replaceAll(':gap', gap);
  await client.query('begin');
  await client.query('set local session_replication_role = replica');
  for (const text of statements) await client.query(put(text));
  const found = await verifyIn(client);
  await client.query('rollback');
  expect(found.intact).toBe(false);
  const { entryId } = expected;
  expect(found.problem).toMatchObject({ ...expected, ...(entryId === undefined ? {} : { entryId: put(entryId) }) });
});

test('who also wipes the keys is found out by a checkpoint that names this installation', async () => {
  await using client = await session(installation.test.adminUrl, 'superuser');
  await client.query('begin');
  await client.query('set local session_replication_role = replica');
  for (const table of ['audit_log', 'audit_seals', 'audit_checkpoints'])
    await client.query(`delete from keyring.${table}`);
  const wiped = (given: string): Promise<AuditVerification> =>
    verifyTrail({ database: within(client), publicKeys: [], checkpoint: given });
  expect((await wiped(checkpoint)).problem).toMatchObject({ kind: 'truncated', place: 1 });
  await expect(wiped('no note')).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(wiped(checkpoint.replace(/audit\/[0-9a-f]{4}/, 'audit/0000'))).rejects.toMatchObject({
    code: 'invalid_argument',
  });
  await client.query('rollback');
  // Half of it: what is left was signed by nobody who is known.
  expect((await verifyTrail({ database: within(client), publicKeys: [], checkpoint })).problem).toMatchObject({
    kind: 'checkpoint',
  });
});

test('all columns of an entry go into the chain', async () => {
  const columns = await installation.sql<{ name: string }>(
    `select attname::text as name from pg_attribute
     where attrelid = 'keyring.audit_log'::regclass and attnum > 0 and not attisdropped order by 1`,
  );
  // A column more is a new context in the chain (docs/spec/audit.md, U2): or else it could be changed.
  expect(columns.map(({ name }) => name)).toEqual(
    [
      ...['action', 'actor', 'at', 'details', 'id', 'outcome', 'principal_kind', 'project_id', 'reason'],
      ...['source_address', 'subject'],
    ].toSorted(),
  );
});

test('a checkpoint of a key that the superuser made is none', async () => {
  const { generateKeyPairSync, sign } = await import('node:crypto');
  const { checkpointText, auditOrigin, signNote } = await import('../../src/audit/note.ts');
  await using client = await session(installation.test.adminUrl, 'superuser');
  const trail = await trailOf(client);
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const origin = auditOrigin(trail.installation);
  const hash = Buffer.from(trail.seals.find(({ place }) => place === 10)!.hash);
  const note = signNote(checkpointText(origin, { size: 10, hash, floor: '0', signedAt: new Date() }), origin, {
    publicKey: raw,
    sign: (text) => sign(null, text, privateKey),
  });
  await expect(keyring.audit.verify({ checkpoint: note })).rejects.toMatchObject({ code: 'invalid_argument' });
  // Neither when it is put where the keys are: verify takes those that unwrap.
  await installation.behindTheFence(
    `insert into keyring.signing_keys (id, version, public_key, wrapped_key, wrapping_key_id, purpose)
     select gen_random_uuid(), version + 1, $1, wrapped_key, wrapping_key_id, purpose from keyring.signing_keys where purpose = 'audit'`,
    [raw],
  );
  await expect(keyring.audit.verify({ checkpoint: note })).rejects.toMatchObject({ code: 'invalid_argument' });
  await installation.behindTheFence('delete from keyring.signing_keys where public_key = $1', [raw]);
});

test('nothing in the second implementation comes from the source', async () => {
  const source = await readFile(new URL('../support/second-audit-verifier.ts', import.meta.url), 'utf8');
  expect([...source.matchAll(/from '([^']+)'/g)].map(([, from]) => from)).toEqual(['node:crypto']);
});
