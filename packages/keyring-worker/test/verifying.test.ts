import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startWorker, type WorkerOptions } from '@meshhook/keyring-worker';
import { checkpointKeeper, readCheckpointFile } from '@meshhook/keyring-worker/sealing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../test/support/database.ts';
import { startFleet, type Fleet } from './support/fleet.ts';

const soon = { interval: 50 };

let fleet: Fleet;
beforeEach(async () => {
  fleet = await startFleet();
});
afterEach(() => fleet.end());

const note = (entries: number): Promise<unknown> =>
  fleet.installation.sql(
    `insert into keyring.audit_log (actor, action, outcome, subject)
     select 'test', 'test.noted', 'succeeded', 'thing:' || n from generate_series(1, $1::int) n`,
    [entries],
  );
const verified = async () => (await fleet.keyring.audit.health()).verified;

interface Said {
  readonly text: string;
  readonly event: string | undefined;
}

async function working(
  options: Partial<WorkerOptions>,
): Promise<{ said: Said[]; [Symbol.asyncDispose](): Promise<void> }> {
  const said: Said[] = [];
  const say = (text: string, facts?: { readonly event: string }): void => void said.push({ text, event: facts?.event });
  const worker = startWorker({
    keyring: fleet.keyring,
    databaseUrl: fleet.installation.test.serviceUrl,
    log: { info: say, error: say },
    sealEveryMs: 50,
    ...options,
  });
  await worker.ready;
  return { said, [Symbol.asyncDispose]: () => worker.stop() };
}

test('what a superuser changes is found by a worker, though nobody asks: an entry, a line in its log, and the metric say so', async () => {
  await note(20);
  await using worker = await working({ verifyEveryMs: 50, verifyWholeEveryMs: 50, verifyShare: 100 });
  await expect.poll(async () => (await verified()).whole?.through, soon).toBeGreaterThanOrEqual(20);
  await expect.poll(async () => (await verified()).recent?.at, soon).toBeDefined();
  expect((await fleet.keyring.monitoring.facts()).process.auditBroken).toBe(false);
  await fleet.installation.behindTheFence(`update keyring.audit_log set reason = 'another' where subject = 'thing:7'`);
  await expect
    .poll(async () => (await verified()).whole?.problem, soon)
    .toMatchObject({ kind: 'altered', entryId: expect.any(String) as string });
  const [entry] = await fleet.keyring.audit.list({ action: 'audit.verified', outcome: 'failed' });
  expect(entry).toMatchObject({ details: { problem: 'altered' } });
  await expect.poll(() => worker.said.map(({ event }) => event), soon).toContain('audit_broken');
  await expect.poll(async () => (await fleet.keyring.monitoring.facts()).process.auditBroken, soon).toBe(true);
});

test('what was cut off at the end is found by a worker that keeps the checkpoint outside', async () => {
  const home = await mkdtemp(path.join(tmpdir(), 'keyring-verifying-'));
  try {
    const file = path.join(home, 'audit-checkpoint');
    await note(20);
    const keeping = {
      onCheckpoint: checkpointKeeper(file, () => undefined, fleet.keyring.audit),
      readCheckpoint: () => readCheckpointFile(file),
    };
    {
      await using _sealing = await working({ ...keeping, verifyEveryMs: 0, verifyWholeEveryMs: 0 });
      await expect.poll(() => readCheckpointFile(file), soon).toBeDefined();
    }
    await fleet.installation.behindTheFence('delete from keyring.audit_log');
    await fleet.installation.behindTheFence('delete from keyring.audit_seals');
    await fleet.installation.behindTheFence('delete from keyring.audit_checkpoints');
    await using _worker = await working({ ...keeping, verifyWholeEveryMs: 50, verifyEveryMs: 0 });
    await expect
      .poll(async () => (await verified()).whole?.problem?.kind, soon)
      .toMatch(/^(truncated|forked|rewritten)$/);
  } finally {
    await rm(home, { recursive: true });
  }
});

/** All of the trail, verified up to a checkpoint; whoever goes on waits, at its first statement, until it is let. */
async function halfVerified(): Promise<{ through: number; let: () => Promise<void> }> {
  await note(15_000);
  while ((await fleet.keyring.audit.seal()).more);
  await fleet.installation.sql(
    `update keyring.audit_verifications set begun_at = now(), begun_after = 0,
       position = (select note from keyring.audit_checkpoints order by size limit 1) where scope = 'whole'`,
  );
  const holder = await session(fleet.installation.test.adminUrl, 'holder');
  await holder.query('begin; lock table keyring.audit_archives in access exclusive mode');
  return { through: (await verified()).underWay!.through, let: () => holder.end() };
}
const verifier = async () =>
  (await fleet.installation.sql(`select verifier from keyring.audit_verifications where scope = 'whole'`))[0]?.[
    'verifier'
  ];

test('a worker that was killed while it verified is taken over from, where it was', async () => {
  const half = await halfVerified();
  const killed = await fleet.start({ VERIFY_WHOLE_EVERY_MS: '100' });
  await expect.poll(verifier, soon).not.toBe(null);
  const dead = await verifier();
  expect(await killed.end('SIGKILL')).toBe('SIGKILL');
  expect(await verifier()).toBe(dead);
  await fleet.installation.sql(`update keyring.instances set seen_at = now() - interval '1 hour' where id = $1`, [
    dead,
  ]);
  // What the dead one had behind it is not looked at again by who goes on; the next one finds it.
  await fleet.installation.behindTheFence(
    `update keyring.audit_log set reason = 'another'
     where id = (select entry_id from keyring.audit_seals where place = 2)`,
  );
  await half.let();
  await using _worker = await working({ verifyWholeEveryMs: 50, verifyEveryMs: 0, verifyShare: 100 });
  const told = () => fleet.keyring.audit.list({ action: 'audit.verified' });
  await expect.poll(async () => (await told()).length, soon).toBeGreaterThan(1);
  const [first, second] = (await told()).toReversed();
  expect(first).toMatchObject({ outcome: 'succeeded', subject: expect.stringMatching(/^audit:1-/) as string });
  expect(second).toMatchObject({ outcome: 'failed', details: { place: 2 } });
});

test('a worker that is told to stop lets go of what it verifies, and another goes on at once', async () => {
  const half = await halfVerified();
  const worker = await working({ verifyWholeEveryMs: 50, verifyEveryMs: 0, sealEveryMs: 0 });
  await expect.poll(verifier, soon).not.toBe(null);
  const stopped = worker[Symbol.asyncDispose]();
  await half.let();
  await stopped;
  expect(await verifier()).toBe(null);
  expect((await verified()).underWay?.through).toBe(half.through);
  const other = await fleet.installation.open({ actor: { name: 'other', kind: 'worker' } });
  expect(await other.audit.verifyDue('whole', { everyMs: 3_600_000, share: 100 })).toMatchObject({
    by: 'other',
    after: 0,
  });
});
