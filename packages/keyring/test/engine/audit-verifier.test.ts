import type { Audit, AuditScope, Keyring, VerifyDueOptions } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';

let installation: Installation;
let keyring: Keyring;
beforeEach(async () => {
  installation = await startInstallation();
  keyring = await installation.open({ actor: { name: 'one', kind: 'worker' } });
});
afterEach(() => installation.end());

const note = (entries: number): Promise<unknown> =>
  installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject)
     select 'test', 'test.noted', 'succeeded', 'thing:' || n from generate_series(1, $1::int) n`,
    [entries],
  );
async function seal(): Promise<number> {
  while ((await keyring.audit.seal()).more);
  return (await keyring.audit.checkpoint())?.size ?? 0;
}
const due = (scope: AuditScope, options: Partial<VerifyDueOptions> = {}, audit: Audit = keyring.audit) =>
  audit.verifyDue(scope, { everyMs: 0, share: 100, ...options });
const stands = async () => (await keyring.audit.health()).verified.whole?.problem;
const told = async () => {
  const entries = await keyring.audit.list({ action: 'audit.verified' });
  return entries.map(({ outcome, subject, details }) => ({ outcome, subject, ...details }));
};
const alter = (id: number | string): Promise<void> =>
  installation.behindTheFence(`update keyring.audit_log set reason = 'another' where id = $1`, [id]);
const idAt = async (place: number): Promise<string> =>
  (
    await installation.sql<{ id: string }>('select entry_id::text as id from keyring.audit_seals where place = $1', [
      place,
    ])
  )[0]!.id;

test('what is new is looked at on top of a whole verification, and says where it began', async () => {
  await note(5);
  const first = await seal();
  expect(await due('recent')).toBeUndefined();
  expect(await due('whole')).toMatchObject({ after: 0, through: first, by: 'one', problem: undefined });
  await note(5);
  const second = await seal();
  expect(await due('recent')).toMatchObject({ after: first, through: second });
  // Nothing is new: nothing was looked at, and nothing else is said.
  expect(await due('recent')).toMatchObject({ after: second, through: second });
  const { verified } = await keyring.audit.health();
  expect(verified).toMatchObject({ whole: { through: first }, recent: { after: second, through: second } });
  expect(verified.underWay).toBeUndefined();
  expect(await told()).toEqual([{ outcome: 'succeeded', subject: `audit:1-${String(first)}` }]);
});

test('what was changed before is found by the whole one, and not claimed by what looks at the new', async () => {
  await note(5);
  await seal();
  await due('whole');
  await alter(await idAt(2));
  await note(5);
  const size = await seal();
  expect(await due('recent')).toMatchObject({ through: size, problem: undefined });
  expect(await stands()).toBeUndefined();
  expect(await due('whole')).toMatchObject({ problem: { kind: 'altered', place: 2 } });
});

test('what was changed of the new is found, named as verify does, recorded, and shown by every process', async () => {
  await note(5);
  const first = await seal();
  await due('whole');
  await note(5);
  await seal();
  await alter(await idAt(first + 3));
  const found = { kind: 'altered', place: first + 3 };
  expect(await due('recent')).toMatchObject({ after: 0, problem: found });
  expect(await keyring.audit.verify()).toMatchObject({ problem: found });
  expect((await told())[0]).toMatchObject({ outcome: 'failed', problem: 'altered', place: first + 3 });
  const elsewhere = await installation.open({ factsMaxAgeMs: 0 });
  expect((await elsewhere.monitoring.facts()).process.auditBroken).toBe(true);
  const { healthy, findings } = await elsewhere.doctor();
  expect(healthy).toBe(false);
  expect(findings).toContainEqual(expect.objectContaining({ code: 'audit_broken', severity: 'error' }));
});

test('a finding stands until all of it is verified: nothing that looks at the new takes it back', async () => {
  await note(5);
  await seal();
  await due('whole');
  const id = await idAt(1);
  const [before] = await installation.sql<{ reason: string | null }>(
    'select reason from keyring.audit_log where id = $1',
    [id],
  );
  await alter(id);
  expect(await due('whole')).toMatchObject({ problem: { kind: 'altered', place: 1 } });
  await note(1);
  await seal();
  expect(await due('recent')).toBeUndefined();
  expect(await due('whole')).toMatchObject({ problem: { kind: 'altered', place: 1 } });
  await installation.behindTheFence('update keyring.audit_log set reason = $2 where id = $1', [id, before?.reason]);
  expect(await stands()).toBeDefined();
  expect(await keyring.audit.verify()).toMatchObject({ intact: true });
  expect(await stands()).toBeUndefined();
  expect(await due('recent')).toMatchObject({ problem: undefined });
});

/** As a superuser who knows the schema: entries, seals and checkpoints behind a place are gone. */
async function cutBehind(place: number): Promise<void> {
  for (const statement of [
    'delete from keyring.audit_log where id > (select max(entry_id) from keyring.audit_seals where place <= $1)',
    'delete from keyring.audit_seals where place > $1',
    'delete from keyring.audit_checkpoints where size > $1',
  ]) {
    await installation.behindTheFence(statement, [place]);
  }
}

test('a chain that is cut off, its checkpoints with it, is found by what was verified before', async () => {
  await note(5);
  const first = await seal();
  await note(5);
  await seal();
  await due('whole');
  await cutBehind(first);
  // By itself it is whole, and nobody who looks at it alone can tell; which does not have forgotten what was there.
  expect(await keyring.audit.verify()).toMatchObject({ intact: true });
  expect(await due('recent')).toMatchObject({ problem: { kind: 'truncated', place: first + 1 } });
});

test('a chain that is cut off is found by the checkpoint outside, though what was verified before is forged', async () => {
  await note(5);
  const first = await seal();
  const shorter = (await keyring.audit.checkpoint())!.note;
  await note(5);
  await seal();
  const kept = (await keyring.audit.checkpoint())!.note;
  await due('whole');
  await cutBehind(first);
  await installation.sql(`update keyring.audit_verifications set position = $1`, [shorter]);
  const checkpoint = (): Promise<string> => Promise.resolve(kept);
  expect(await due('recent')).toMatchObject({ problem: undefined, given: undefined });
  expect(await due('recent', { checkpoint })).toMatchObject({ problem: { kind: 'truncated', place: first + 1 } });
  expect(await due('whole', { checkpoint })).toMatchObject({ problem: { kind: 'truncated', place: first + 1 } });
  // Who looks without what is kept finds nothing, and takes nothing back; with one that agrees, it is.
  expect(await keyring.audit.verify()).toMatchObject({ intact: true });
  await due('whole');
  expect(await stands()).toMatchObject({ kind: 'truncated' });
  expect(await keyring.audit.verify({ checkpoint: shorter })).toMatchObject({ intact: true, given: 'matches' });
  expect(await stands()).toBeUndefined();
});

test('a checkpoint outside that is older, or archived, or of somebody else, is told apart', async () => {
  await note(5);
  const first = await seal();
  const { note: kept } = (await keyring.audit.checkpoint())!;
  await note(5);
  await seal();
  const given = async (text: string) => (await due('recent', { checkpoint: () => Promise.resolve(text) }))?.given;
  await due('whole');
  expect(await given(kept)).toBe('matches');
  expect(await given('no note of ours')).toBeUndefined();
  // One of a chain that went another way.
  await installation.behindTheFence(`update keyring.audit_seals set hash = sha256(hash) where place = $1`, [first]);
  expect(await due('recent', { checkpoint: () => Promise.resolve(kept) })).toMatchObject({ problem: { place: first } });
});

test('a position that no key of ours has signed is not believed', async () => {
  await note(5);
  await seal();
  await due('whole');
  await alter(await idAt(2));
  await installation.sql(
    `update keyring.audit_verifications set position = replace(position, 'time 2', 'time 1') where scope = 'recent'`,
  );
  expect(await due('recent')).toMatchObject({ problem: { kind: 'altered', place: 2 } });
});

/** A keyring whose verification rests after its first part, until it is told to go on. */
async function pausing(name: string): Promise<{ keyring: Keyring; rests: Promise<void>; goOn: () => void }> {
  const { promise: rests, resolve: isResting } = Promise.withResolvers<void>();
  const { promise: told, resolve: goOn } = Promise.withResolvers<void>();
  const opened = await installation.open({
    actor: { name, kind: 'worker' },
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (/^update keyring.audit_verifications set position = \$4/.test(statement.text)) {
          isResting();
          await told;
        }
        return answer;
      }),
  });
  return { keyring: opened, rests, goOn };
}
const underWay = async () => (await keyring.audit.health()).verified.underWay;

test('what is verified in parts goes on in another process where one was killed', async () => {
  await note(12_000);
  const size = await seal();
  const dying = await pausing('dying');
  const never = due('whole', {}, dying.keyring.audit);
  await dying.rests;
  const reached = (await underWay())!.through;
  expect(reached).toBeGreaterThan(0);
  expect(reached).toBeLessThan(size);
  // It lives: nobody else is at it.
  await installation.sql(`update keyring.instances set seen_at = now() + interval '1 hour' where actor = 'dying'`);
  expect(await due('whole')).toBeUndefined();
  await installation.sql(`update keyring.instances set seen_at = now() - interval '1 hour' where actor = 'dying'`);
  // What was looked at before is not looked at again: a change of it is for the next one to find.
  await alter(await idAt(2));
  expect(await due('whole')).toMatchObject({ by: 'one', after: 0, through: size, problem: undefined });
  // Whoever was only slow finds that it is another's by now.
  dying.goOn();
  expect(await never).toBeUndefined();
  expect(await told()).toHaveLength(1);
  expect(await due('whole')).toMatchObject({ problem: { kind: 'altered', place: 2 } });
});

test('a finding of others ends a whole verification that is past the place', async () => {
  await note(12_000);
  await seal();
  const other = await pausing('other');
  const past = due('whole', {}, other.keyring.audit);
  await other.rests;
  await alter(await idAt(2));
  expect(await keyring.audit.verify()).toMatchObject({ problem: { place: 2 } });
  expect(await underWay()).toBeUndefined();
  other.goOn();
  expect(await past).toBeUndefined();
  expect(await stands()).toMatchObject({ kind: 'altered', place: 2 });
});

test('who is told to stop lets go between two parts, and what it looked at is kept', async () => {
  await note(12_000);
  const size = await seal();
  const stopped = await pausing('stopped');
  const stopping = new AbortController();
  const interrupted = due('whole', { signal: stopping.signal }, stopped.keyring.audit);
  await stopped.rests;
  stopping.abort();
  stopped.goOn();
  await expect(interrupted).rejects.toMatchObject({ code: 'interrupted' });
  expect((await underWay())?.through).toBeGreaterThan(0);
  expect(await due('whole', { everyMs: 3_600_000 })).toMatchObject({ by: 'one', after: 0, through: size });
});

test('doctor warns of a trail that nobody has verified for days, and not of a new one', async () => {
  const codes = async () => (await keyring.doctor()).findings.map(({ code }) => code);
  await note(1);
  await seal();
  expect(await codes()).not.toContain('audit_not_verified');
  await installation.behindTheFence(`update keyring.audit_checkpoints set signed_at = signed_at - interval '4 days'`);
  expect(await codes()).toContain('audit_not_verified');
  await due('whole');
  expect(await codes()).not.toContain('audit_not_verified');
  await installation.sql(`update keyring.audit_verifications set verified_at = verified_at - interval '4 days'`);
  expect(await codes()).toContain('audit_not_verified');
});
