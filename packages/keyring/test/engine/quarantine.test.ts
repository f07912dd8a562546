import { randomBytes } from 'node:crypto';
import type { Database, Keyring, Statement } from '@meshhook/keyring';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';
import { connectionLost, interceptDatabase } from './support/intercept.ts';
import {
  clearProjects,
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  makeProject,
  type KnownProject,
} from './support/world.ts';

let installation: Installation;
let keyring: Keyring;
let broken: KnownProject;
let whole: KnownProject;
beforeAll(async () => {
  installation = await startInstallation();
});
beforeEach(async () => {
  await clearProjects(installation);
  keyring = await installation.open({ sweepBatchSize: 2 });
  broken = await makeProject(installation, keyring, { secrets: 5 });
  whole = await makeProject(installation, keyring, { secrets: 5 });
});
afterAll(() => installation.end());

/** Rotates both: the broken project is blocked by exactly this row, the other one completes. */
async function expectBlocked(name: string, reason: string): Promise<string> {
  const { id } = await keyring.rotations.request({ projects: 'all' });
  const end = await keyring.rotations.run(id);
  expect(end.state).toBe('blocked');
  expect(end.projects).toEqual({ total: 2, blocked: 1, completed: 1 });

  const detail = await detailOf(keyring, id);
  const [row] = await installation.sql<{ id: string }>(
    'select id from public.secrets where project_id = $1 and key = $2',
    [broken.id, name],
  );
  expect(detail.quarantine).toMatchObject([{ projectId: broken.id, label: 'secrets.value', rowId: row?.id, reason }]);
  expect(detail.projectDetails[0]).toMatchObject({
    projectId: broken.id,
    state: 'blocked',
    errorCode: 'rows_quarantined',
  });
  expect(detail.projectDetails[0]?.rowsQuarantined).toBe(1);
  await expectEverySecretFresh(installation, keyring, [whole]);

  const report = await (await installation.open()).doctor();
  expect(report.healthy).toBe(false);
  expect(report.findings.map((finding) => finding.code)).toEqual(expect.arrayContaining([reason, 'rotation_blocked']));
  return id;
}

/** Sets the secret again, resumes, and everything is as it should be. */
async function expectMended(rotationId: string, name: string): Promise<void> {
  broken.secrets.set(name, 'set again');
  await keyring.secrets.put(broken.id, name, 'set again');
  expect((await keyring.rotations.resume(rotationId)).state).toBe('running');
  expect((await keyring.rotations.run(rotationId)).state).toBe('completed');
  const detail = await detailOf(keyring, rotationId);
  expect(detail.quarantine).toEqual([]);
  expect(detail.rows.quarantined).toBe(0);
  await expectEverySecretFresh(installation, keyring, [broken, whole]);
  await expectHealthy(keyring);
}

test('a row with a flipped bit is quarantined as one that does not open, and completes once it is set again', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     where project_id = $1 and key = 'SECRET_2'`,
    [broken.id],
  );
  const id = await expectBlocked('SECRET_2', 'does_not_open');
  expect(await codeOf(keyring.secrets.get(broken.id, 'SECRET_2'))).toBe('decryption_failed');
  await expectMended(id, 'SECRET_2');
});

test('a row of garbage is quarantined as malformed', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = $2 where project_id = $1 and key = 'SECRET_3'`,
    [broken.id, randomBytes(90)],
  );
  await expectMended(await expectBlocked('SECRET_3', 'malformed'), 'SECRET_3');
});

test('a row whose envelope names another key than its column is quarantined as malformed', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = overlay(value_encrypted placing $2::bytea from 3)
     where project_id = $1 and key = 'SECRET_3'`,
    [broken.id, randomBytes(16)],
  );
  await expectMended(await expectBlocked('SECRET_3', 'malformed'), 'SECRET_3');
});

test('a ciphertext that was moved from another row of the project does not open', async () => {
  await installation.behindTheFence(
    `update public.secrets t set value_encrypted = s.value_encrypted from public.secrets s
     where t.project_id = $1 and t.key = 'SECRET_1' and s.project_id = $1 and s.key = 'SECRET_2'`,
    [broken.id],
  );
  await expectMended(await expectBlocked('SECRET_1', 'does_not_open'), 'SECRET_1');
});

test('a row that was moved from another project, key id and all, is under a key its project does not have', async () => {
  await installation.behindTheFence(
    `update public.secrets t set value_encrypted = s.value_encrypted, encryption_key_id = s.encryption_key_id
     from public.secrets s where t.project_id = $1 and t.key = 'SECRET_1' and s.project_id = $2 and s.key = 'SECRET_1'`,
    [broken.id, whole.id],
  );
  const id = await expectBlocked('SECRET_1', 'unknown_key');
  expect(await codeOf(keyring.secrets.get(broken.id, 'SECRET_1'))).toBe('decryption_failed');
  await expectMended(id, 'SECRET_1');
});

test('a row that changed its project does not open', async () => {
  await installation.behindTheFence(`delete from public.secrets where project_id = $1 and key = 'SECRET_1'`, [
    broken.id,
  ]);
  await installation.behindTheFence(
    `update public.secrets set project_id = $1, key = 'SECRET_1' where project_id = $2 and key = 'SECRET_5'`,
    [broken.id, whole.id],
  );
  whole.secrets.delete('SECRET_5');
  await expectMended(await expectBlocked('SECRET_1', 'unknown_key'), 'SECRET_1');
});

test('every value of a version whose check value was altered is quarantined, and opens again once it is put right', async () => {
  const [version] = await installation.sql<{ id: string; fingerprint: Buffer }>(
    'select id, fingerprint from keyring.encryption_keys where project_id = $1',
    [broken.id],
  );
  const setFingerprint = (fingerprint: Buffer | undefined): Promise<void> =>
    installation.behindTheFence('update keyring.encryption_keys set fingerprint = $2 where id = $1', [
      version?.id,
      fingerprint,
    ]);
  await setFingerprint(randomBytes(32));
  await expectAllUnavailableThenMended(() => setFingerprint(version?.fingerprint));
});

test('a wrapped key that was swapped for another project’s does not unwrap, and blocks its own project only', async () => {
  const swapIn = (from: string): Promise<void> =>
    installation.behindTheFence(
      `update keyring.encryption_keys t set wrapped_key = s.wrapped_key, fingerprint = s.fingerprint
       from (select ($2::bytea) as wrapped_key, ($3::bytea) as fingerprint) s where t.project_id = $1 and t.version = 1`,
      [broken.id, keys.get(from)?.wrapped_key, keys.get(from)?.fingerprint],
    );
  const keys = new Map(
    (
      await installation.sql<{ project_id: string; wrapped_key: Buffer; fingerprint: Buffer }>(
        'select project_id, wrapped_key, fingerprint from keyring.encryption_keys',
      )
    ).map((row) => [row.project_id, row]),
  );
  await swapIn(whole.id);
  await expectAllUnavailableThenMended(() => swapIn(broken.id));
});

async function expectAllUnavailableThenMended(mend: () => Promise<void>): Promise<void> {
  keyring = await installation.open();
  expect(await codeOf(keyring.secrets.get(broken.id, 'SECRET_1'))).toBe('decryption_failed');
  const { id } = await keyring.rotations.request({ projects: 'all' });
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  const { quarantine } = await detailOf(keyring, id);
  expect(quarantine.map((row) => row.reason)).toEqual(Array.from({ length: 5 }, () => 'key_unavailable'));
  const findings = (await keyring.doctor()).findings.map((finding) => finding.code);
  expect(findings).toEqual(expect.arrayContaining(['key_does_not_unwrap', 'key_unavailable']));
  await mend();
  await keyring.rotations.resume(id);
  expect((await keyring.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [broken, whole]);
  await expectHealthy(keyring);
}

test('a target version that stops unwrapping in the middle blocks its own project only', async () => {
  const { id } = await pausedAfterPromote();
  const [before] = await installation.sql<{ wrapped_key: Buffer }>(
    `select wrapped_key from keyring.encryption_keys where project_id = $1 and version = 2`,
    [broken.id],
  );
  const setWrapped = (wrapped: Buffer | undefined): Promise<void> =>
    installation.behindTheFence(
      'update keyring.encryption_keys set wrapped_key = $2 where project_id = $1 and version = 2',
      [broken.id, wrapped],
    );
  await setWrapped(randomBytes(78));
  const next = await installation.open();
  await next.rotations.resume(id);
  const end = await next.rotations.run(id);
  expect(end.projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  expect((await detailOf(next, id)).projectDetails[0]).toMatchObject({
    projectId: broken.id,
    errorCode: 'key_unavailable',
  });
  await setWrapped(before?.wrapped_key);
  await next.rotations.resume(id);
  expect((await next.rotations.run(id)).state).toBe('completed');
  await expectEverySecretFresh(installation, next, [broken, whole]);
});

test('a staged version cannot be destroyed while its rotation is open', async () => {
  const { id, stagedId } = await stoppedBeforePromote();
  expect(await codeOf(keyring.keys.destroy(stagedId, { reason: 'test' }))).toBe('key_in_use');
  await keyring.rotations.rollback(id);
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 1, canceled: 1 });
  expect((await keyring.keys.destroy(stagedId, { reason: 'test' })).status).toBe('destroyed');
  await expectEverySecretFresh(installation, keyring, [broken]);
});

test('a staged version that is erased all the same ends its project as failed, and the next rotation works', async () => {
  const { id, stagedId } = await stoppedBeforePromote();
  await erase(stagedId);
  expect((await keyring.rotations.run(id)).state).toBe('failed');
  expect((await detailOf(keyring, id)).projectDetails[0]).toMatchObject({
    state: 'failed',
    errorCode: 'self_test_failed',
  });
  const again = await keyring.rotations.request({ projects: [broken.id] });
  expect((await keyring.rotations.run(again.id)).state).toBe('completed');
  await expectEverySecretFresh(installation, keyring, [broken]);
  await expectHealthy(keyring);
});

test('a staged version that is erased does not keep its rotation from being rolled back', async () => {
  const { id, stagedId } = await stoppedBeforePromote();
  await erase(stagedId);
  await keyring.rotations.rollback(id);
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 1, canceled: 1 });
});

/** A version's bytes are gone, whatever guards it. */
function erase(keyId: string): Promise<void> {
  return installation.behindTheFence(
    `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = now() where id = $1`,
    [keyId],
  );
}

async function stoppedBeforePromote(): Promise<{ id: string; stagedId: string }> {
  const stopped = await installation.open({ wrap: stopBefore(({ text }) => text.includes('pg_advisory_xact_lock')) });
  const { id } = await stopped.rotations.request({ projects: [broken.id] });
  expect(await codeOf(stopped.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  const staged = (await keyring.keys.list({ projectId: broken.id })).find((key) => key.version === 2);
  expect(staged?.status).toBe('pre-activation');
  return { id, stagedId: staged?.id ?? '' };
}

test('a blocked rotation that is rolled back goes back for all but the row, and all the way once that is mended', async () => {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     where project_id = $1 and key = 'SECRET_2'`,
    [broken.id],
  );
  const id = await expectBlocked('SECRET_2', 'does_not_open');
  await keyring.rotations.rollback(id);
  // The garbage is under the version that is gone back to: nothing is left to move, but it still does not open.
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 2, blocked: 1, completed: 1 });
  expect((await detailOf(keyring, id)).quarantine).toMatchObject([{ reason: 'does_not_open' }]);
  broken.secrets.set('SECRET_2', 'set again');
  await keyring.secrets.put(broken.id, 'SECRET_2', 'set again');
  expect((await keyring.rotations.resume(id)).state).toBe('rolling_back');
  expect((await keyring.rotations.run(id)).projects).toEqual({ total: 2, rolled_back: 1, completed: 1 });
  await expectEverySecretFresh(installation, keyring, [broken, whole]);
  expect((await keyring.keys.list({ projectId: broken.id })).map((key) => key.status)).toEqual([
    'active',
    'deactivated',
  ]);
  await expectHealthy(keyring);
});

test('a row that is tampered with after it moved is found by the read-back, not believed', async () => {
  let tampered = false;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!tampered && statement.text.includes('set state') && statement.values?.[3] === 'verifying') {
          tampered = true;
          await installation.behindTheFence(
            `update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
             where project_id = $1 and key = 'SECRET_4'`,
            [broken.id],
          );
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [broken.id] });
  expect((await rotator.rotations.run(id)).state).toBe('blocked');
  expect((await detailOf(keyring, id)).quarantine).toMatchObject([{ reason: 'does_not_open' }]);
  await expectMended(id, 'SECRET_4');
});

test('a row that comes back from a backup under the old version during the read-back moves, too', async () => {
  const [old] = await installation.sql<{ id: string; envelope: Buffer; key_id: string }>(
    `select id, value_encrypted as envelope, encryption_key_id as key_id from public.secrets
     where project_id = $1 and key = 'SECRET_4'`,
    [broken.id],
  );
  let verified = 0;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const verifying = statement.text.includes('set state') && statement.values?.[3] === 'verifying';
        const counting = statement.text.includes('rows_verified = $3');
        if (counting) verified += 1;
        // Once right before the rows are read back, which finds it; and once between a read-back that found nothing and
        // the last count.
        if ((verifying && verified === 0) || (counting && verified === 2)) {
          await installation.behindTheFence(
            'update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1',
            [old?.id, old?.envelope, old?.key_id],
          );
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [broken.id] });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  expect(verified).toBeGreaterThanOrEqual(3);
  await expectEverySecretFresh(installation, keyring, [broken]);
  await expectHealthy(keyring);
});

test('a value that a restore brings back between the sweep’s read and its write stays, though its version is the same', async () => {
  const entry = (await keyring.secrets.list(broken.id)).find((one) => one.name === 'SECRET_4');
  const place = { projectId: broken.id, label: 'secrets.value', rowId: entry?.id ?? '' };
  const older = await installation.seal(place, 'from the backup', entry?.keyId);
  let restored = false;
  const rotator = await installation.open({
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        if (!restored && statement.text.includes('keyring.move_')) {
          restored = true;
          await installation.behindTheFence('update public.secrets set value_encrypted = $2 where id = $1', [
            entry?.id,
            older.envelope,
          ]);
        }
        return send();
      }),
  });
  const { id } = await rotator.rotations.request({ projects: [broken.id] });
  expect((await rotator.rotations.run(id)).state).toBe('completed');
  broken.secrets.set('SECRET_4', 'from the backup');
  await expectEverySecretFresh(installation, keyring, [broken]);
});

let stop: AbortController;

/** Stops the process right before the first statement that `wanted` picks. */
function stopBefore(wanted: (statement: Statement) => boolean): (database: Database) => Database {
  stop = new AbortController();
  return (database) =>
    interceptDatabase(database, async ({ statement, send, cut }) => {
      if (!wanted(statement)) return send();
      stop.abort();
      cut();
      throw connectionLost();
    });
}

/** The broken project promoted and nothing of it swept, the rotation paused. */
async function pausedAfterPromote(): Promise<{ id: string }> {
  const stopped = await installation.open({
    rotationSetSize: 1,
    wrap: stopBefore(
      ({ text, values }) =>
        text.includes('rows_total = p.rows_moved + c') && (values?.[1] as string[])[0] === broken.id,
    ),
  });
  const { id } = await stopped.rotations.request({ projects: 'all' });
  expect(await codeOf(stopped.rotations.run(id, { signal: stop.signal }))).toBe('interrupted');
  await keyring.rotations.pause(id);
  await installation.sql('update keyring.rotations set runner_until = null');
  return { id };
}
