import type { Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';

let installation: Installation;
let keyring: Keyring;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
});
afterEach(async () => {
  await keyring.close();
  await installation.end();
});

const note = (subject: string): Promise<unknown> =>
  installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', $1)`,
    [subject],
  );

/** Until nothing is left to do, the floor as high as it goes. */
async function sealAll(by: Keyring = keyring): Promise<number> {
  let sealed = 0;
  for (let idle = 0; idle < 2;) {
    const done = await by.audit.seal();
    sealed += done.sealed;
    idle = done.sealed === 0 && done.checkpoint === undefined ? idle + 1 : 0;
  }
  return sealed;
}

test('every entry gets one place, in one chain that ends at a signed checkpoint', async () => {
  for (let number = 1; number <= 20; number++) await note(`thing:${String(number)}`);
  expect((await keyring.audit.health()).unsealed.entries).toBeGreaterThanOrEqual(20);
  await sealAll();
  const [count] = await installation.sql<{ entries: string; seals: string; max: string }>(
    `select (select count(*) from keyring.audit_log) as entries, count(*) as seals, max(place) as max from keyring.audit_seals`,
  );
  expect(count?.seals).toBe(count?.entries);
  expect(count?.max).toBe(count?.entries);
  const checkpoint = await keyring.audit.checkpoint();
  expect(checkpoint?.size).toBe(Number(count?.max));
  expect(await keyring.audit.verify({ checkpoint: checkpoint?.note ?? '' })).toMatchObject({
    intact: true,
    entries: Number(count?.max),
    given: 'matches',
    unsealed: { entries: 0, oldestAt: undefined },
  });
  expect(await keyring.audit.health()).toMatchObject({ lagSeconds: 0, size: checkpoint?.size });
});

test('a transaction has its id before its entry has one, whatever writes the entry', async () => {
  const columns = '(actor, action, outcome, subject)';
  for (const text of [
    // Without a row, no id of an entry was handed out: the transaction has its own all the same.
    `insert into keyring.audit_log ${columns} select 'a', 'a.b', 'succeeded', 'c' where false`,
    `with one as (insert into keyring.audit_log ${columns} select 'a', 'a.b', 'succeeded', 'c' where false) select`,
    `savepoint s; insert into keyring.audit_log ${columns} select 'a', 'a.b', 'succeeded', 'c' where false; release s`,
  ]) {
    await using writer = await session(installation.test.serviceUrl, 'writer');
    await writer.query('begin');
    await writer.query(text);
    const { rows } = await writer.query('select pg_current_xact_id_if_assigned() is not null as has_one');
    expect(rows, text).toEqual([{ has_one: true }]);
    await writer.query('rollback');
  }
});

test('an entry that commits late is not skipped, and an idle transaction holds up nobody else', async () => {
  await sealAll();
  await using late = await session(installation.test.adminUrl, 'late');
  await late.query('begin');
  await late.query(
    `insert into keyring.audit_log (actor, action, outcome, subject) values ('late', 'test.noted', 'succeeded', 'late:1')`,
  );
  await note('early:1');
  await sealAll();
  const placeOf = async (subject: string): Promise<number | undefined> => {
    const [row] = await installation.sql<{ place: number }>(
      `select s.place::int from keyring.audit_seals s join keyring.audit_log l on l.id = s.entry_id where l.subject = $1`,
      [subject],
    );
    return row?.place;
  };
  const early = await placeOf('early:1');
  expect(early).toBeGreaterThan(0);
  expect(await keyring.audit.verify()).toMatchObject({ intact: true });
  await note('early:2');
  await sealAll();
  await late.query('commit');
  await sealAll();
  expect(await placeOf('late:1')).toBeGreaterThan(early ?? 0);
  expect(await keyring.audit.verify()).toMatchObject({ intact: true, unsealed: { entries: 0 } });
});

test('any number of processes seal at once, and make one chain', async () => {
  const others = await Promise.all([installation.open(), installation.open(), installation.open()]);
  await Promise.all([
    ...Array.from({ length: 8 }, async (_, writer) => {
      for (let number = 1; number <= 25; number++) await note(`writer:${String(writer)}-${String(number)}`);
    }),
    ...[keyring, ...others].map(async (one) => {
      for (let round = 0; round < 30; round++) await one.audit.seal();
    }),
  ]);
  await sealAll();
  await Promise.all(others.map((one) => one.close()));
  expect(await keyring.audit.verify()).toMatchObject({ intact: true, unsealed: { entries: 0 } });
});

test('nothing is sealed on top of a chain that is not as it was signed', async () => {
  await note('a:1');
  await sealAll();
  await note('a:2');
  await installation.behindTheFence(
    'delete from keyring.audit_seals where place = (select max(place) from keyring.audit_seals)',
  );
  await expect(keyring.audit.seal()).rejects.toMatchObject({ code: 'audit_broken' });
  const other = await installation.open();
  await expect(other.audit.seal()).rejects.toMatchObject({ code: 'audit_broken' });
  await other.close();
});

test('the service can neither change, remove nor forge places and checkpoints', async () => {
  await note('a:1');
  await sealAll();
  await note('a:2');
  await using service = await session(installation.test.serviceUrl, 'service');
  const outcome = (text: string): Promise<string> =>
    service.query(text).then(
      () => 'done',
      (error: unknown) => (error as { code: string }).code,
    );
  for (const table of ['audit_log', 'audit_seals', 'audit_checkpoints', 'audit_archives']) {
    expect(await outcome(`delete from keyring.${table}`), table).toBe('42501');
    expect(await outcome(`truncate keyring.${table}`), table).toBe('42501');
    expect(await outcome(`alter table keyring.${table} disable trigger all`), table).toBe('42501');
  }
  for (const text of [
    `update keyring.audit_seals set hash = hash`,
    `update keyring.audit_seals set place = place + 1`,
    `update keyring.audit_checkpoints set note = note`,
    `insert into keyring.audit_archives (through, note) values (1, 'x')`,
    `select keyring.archive_audit(1, 'x', 'x', 'cli', 'x')`,
    `insert into keyring.audit_checkpoints (size, floor_id, note, signing_key_id, signed_at) values (1, 1, 'x', gen_random_uuid(), now())`,
  ])
    expect(await outcome(text), text).toBe('42501');
  const hash = `decode(repeat('00', 32), 'hex')`;
  // What it may insert is refused unless it goes on from where the chain ends, and is a place of an entry that is there.
  for (const place of [1, 1_000_000])
    expect(
      await outcome(
        `insert into keyring.audit_seals values (${String(place)}, (select max(id) from keyring.audit_log), ${hash})`,
      ),
    ).toMatch(/MK005|23505/);
  expect(
    await outcome(`insert into keyring.audit_seals select max(place) + 1, 9999999, ${hash} from keyring.audit_seals`),
  ).toBe('MK005');
  expect(
    await outcome(
      `insert into keyring.audit_checkpoints (size, floor_id, note, signing_key_id)
       select c.size, (select max(id) from keyring.audit_log), c.note, c.signing_key_id from keyring.audit_checkpoints c limit 1`,
    ),
  ).toBe('MK005');
  // Above all entries, sealing would pass over all that are to come.
  await sealAll();
  expect(
    await outcome(
      `insert into keyring.audit_checkpoints (size, floor_id, note, signing_key_id)
       select c.size, 1000000000, c.note, c.signing_key_id from keyring.audit_checkpoints c order by c.id desc limit 1`,
    ),
  ).toBe('MK005');
  await note('a:3');
  // A place with a wrong hash is no way to hide anything: it breaks the chain, and is named.
  expect(
    await outcome(
      `insert into keyring.audit_seals select max(place) + 1, (select max(id) from keyring.audit_log), ${hash} from keyring.audit_seals`,
    ),
  ).toBe('done');
  await expect(keyring.audit.seal()).rejects.toMatchObject({ code: 'audit_broken' });
  expect((await keyring.audit.verify()).problem).toMatchObject({ kind: 'altered' });
});

test('the key of checkpoints is not the key of receipts', async () => {
  await sealAll();
  const { id } = await keyring.projects.create({ name: 'p' });
  await keyring.secrets.put(id, 'a', 'value');
  const rotation = await keyring.rotations.request({ projects: [id], pace: 'full' });
  await keyring.rotations.run(rotation.id);
  const [receipt] = await keyring.rotations.receipts(rotation.id);
  const keys = await installation.sql<{ id: string; purpose: string }>(
    'select id, purpose from keyring.signing_keys order by version',
  );
  expect(keys.map(({ purpose }) => purpose)).toEqual(['audit', 'receipts']);
  expect(receipt?.keyId).toBe(keys[1]?.id);
});

test('doctor warns of entries that nobody seals, until somebody does', async () => {
  const warned = async (): Promise<boolean> =>
    (await keyring.doctor()).findings.some(({ code }) => code === 'audit_not_sealed');
  await note('new:1');
  expect(await warned()).toBe(false);
  await installation.sql(
    `insert into keyring.audit_log (at, actor, action, outcome, subject)
     values (now() - interval '11 minutes', 'test', 'test.noted', 'succeeded', 'old:1')`,
  );
  expect(await warned()).toBe(true);
  await sealAll();
  expect(await warned()).toBe(false);
});
