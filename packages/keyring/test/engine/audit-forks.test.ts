import type { AuditCheckpoint, Keyring } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';

let installation: Installation;
let keyring: Keyring;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  await add(3);
});
afterEach(async () => {
  await keyring.close();
  await installation.end();
});

async function add(entries: number): Promise<void> {
  await installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject)
     select 'test', 'test.noted', 'succeeded', 'thing:' || n from generate_series(1, $1::int) n`,
    [entries],
  );
}

/** Gives the checkpoint of all there is. */
async function sealed(): Promise<AuditCheckpoint> {
  await keyring.audit.seal();
  const checkpoint = await keyring.audit.checkpoint();
  expect(checkpoint).toBeDefined();
  return checkpoint!;
}

/** The trail as it was: what a dump of then has. Whoever seals goes on as a process that knows of nothing else. */
async function setBackTo({ size }: AuditCheckpoint): Promise<void> {
  await installation.behindTheFence(
    `with seals as (delete from keyring.audit_seals where place > $1 returning entry_id),
       entries as (delete from keyring.audit_log l using seals where l.id = seals.entry_id)
     delete from keyring.audit_checkpoints where size > $1`,
    [size],
  );
  await keyring.close();
  keyring = await installation.open();
}

test('a chain that was set back and went on is a fork, for whoever kept a checkpoint of what it was before, wherever it is by now', async () => {
  const old = await sealed();
  await add(2);
  await sealed();
  await add(4);
  const kept = await sealed();
  await setBackTo(old);
  expect((await keyring.audit.verify({ checkpoint: kept.note })).problem).toMatchObject({
    kind: 'truncated',
    place: old.size + 1,
  });
  await add(2);
  const shorter = await sealed();
  expect(shorter.size).toBeLessThan(kept.size);
  const fork = { kind: 'forked', after: old.size };
  expect((await keyring.audit.verify({ checkpoint: kept.note })).problem).toMatchObject({
    ...fork,
    place: shorter.size,
  });
  await add(20);
  expect((await sealed()).size).toBeGreaterThan(kept.size);
  expect((await keyring.audit.verify({ checkpoint: kept.note })).problem).toMatchObject({ ...fork, place: kept.size });
  expect(await keyring.audit.holds(kept.note)).toBe(false);
  // What is older than that, or younger, is of both.
  for (const { note } of [old, shorter]) {
    expect(await keyring.audit.verify({ checkpoint: note })).toMatchObject({ intact: true, given: 'matches' });
    expect(await keyring.audit.holds(note)).toBe(true);
  }
});

test('a fork that was sealed past the kept checkpoint at once is told from a chain that was only rewritten', async () => {
  const old = await sealed();
  await add(4);
  const kept = await sealed();
  await setBackTo(old);
  await add(20);
  await sealed();
  const { problem } = await keyring.audit.verify({ checkpoint: kept.note });
  expect(problem).toMatchObject({ kind: 'forked', after: old.size, place: kept.size });
  expect(problem?.message).toContain(`From place ${String(old.size + 1)} on`);
});

test('a mark that nobody could have made passes nothing over, nor does one of another cluster', async () => {
  for (const [id, xid] of [
    ['1000000000000', '3'],
    ['1000000000000', '900000000000'],
    ['1', '900000000000'],
  ]) {
    await sealed();
    await installation.behindTheFence(
      `update keyring.audit_checkpoints set mark_id = $1, mark_xid = $2::xid8
       where id = (select max(id) from keyring.audit_checkpoints)`,
      [id, xid],
    );
    await add(1);
    await sealed();
    await add(1);
    await sealed();
    expect(await keyring.audit.health(), `${String(id)} at ${String(xid)}`).toMatchObject({ unsealed: { entries: 0 } });
    expect(await keyring.audit.verify()).toMatchObject({ intact: true });
  }
});

test.each<[string, string]>([
  [
    'that the service made up',
    `insert into keyring.audit_checkpoints (size, floor_id, note, signing_key_id, mark_id, mark_xid)
     select size, floor_id, 'signed, honestly', signing_key_id, mark_id, mark_xid from keyring.audit_checkpoints order by id desc limit 1`,
  ],
  [
    'whose floor is not the one that was signed',
    `update keyring.audit_checkpoints set floor_id = (select max(id) from keyring.audit_log)
     where id = (select max(id) from keyring.audit_checkpoints)`,
  ],
])('nothing is sealed on a checkpoint %s', async (_, statement) => {
  // Held open, so that the floor stays below.
  await using late = await session(installation.test.adminUrl, 'late');
  await late.query('begin');
  await late.query('select pg_current_xact_id()');
  await sealed();
  await add(1);
  await sealed();
  await installation.behindTheFence(statement);
  await add(1);
  await expect(keyring.audit.seal()).rejects.toMatchObject({ code: 'audit_broken' });
  expect((await keyring.audit.verify()).problem).toMatchObject({ kind: 'checkpoint' });
});

test('an archive that nobody signed is no reason to give a kept checkpoint up', async () => {
  const kept = await sealed();
  await installation.behindTheFence(
    `with gone as (delete from keyring.audit_seals returning entry_id),
       entries as (delete from keyring.audit_log l using gone where l.id = gone.entry_id)
     insert into keyring.audit_archives (through, note) values ($1, 'signed, honestly')`,
    [kept.size],
  );
  expect(await keyring.audit.holds(kept.note)).toBe(false);
});

test('what is written within savepoints, and comes late, is not passed over', async () => {
  await using late = await session(installation.test.serviceUrl, 'late');
  await late.query('begin');
  const entry = `insert into keyring.audit_log (actor, action, outcome, subject) values ('late', 'test.late', 'succeeded', 'a:1')`;
  await late.query(`savepoint a; ${entry}; rollback to a; savepoint b; ${entry}; savepoint c; ${entry}; release b`);
  for (let round = 0; round < 3; round++) {
    await add(1);
    await sealed();
  }
  await late.query('commit');
  await add(1);
  await sealed();
  expect(await keyring.audit.verify()).toMatchObject({ intact: true, unsealed: { entries: 0 } });
  expect(await keyring.audit.list({ action: 'test.late' })).toHaveLength(2);
});
