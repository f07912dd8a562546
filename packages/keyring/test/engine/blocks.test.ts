import type { Executor, Keyring, RowsUnit, WorkUnit } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { session } from '../../../../test/support/database.ts';
import { startInstallation, type Installation } from './support/installation.ts';
import { interceptDatabase } from './support/intercept.ts';
import { expectEverySecretFresh, fillProject, makeProject, type KnownProject } from './support/world.ts';

// More than go through the index: these rotations read the table as it lies on disk.
const ROWS = 2_100;

let installation: Installation;
let service: Keyring;
let project: KnownProject;
beforeEach(async () => {
  installation = await startInstallation();
  service = await installation.open();
  project = await makeProject(installation, service, { secrets: 1 });
  await fillProject(installation, project, ROWS - 1);
});
afterEach(() => installation.end());

/** Calls `meet` after a range of blocks was read, before anything is done with what it held. */
function afterEachRange(meet: (reading: 'sweep' | 'verify', from: string) => Promise<void>): Promise<Keyring> {
  return installation.open({
    sweepBatchSize: 500,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const answer = await send();
        if (!statement.text.includes('t.ctid >=')) return answer;
        const [, exceptKeyId, from] = statement.values as [string, string | null, string];
        await meet(exceptKeyId === null ? 'verify' : 'sweep', from);
        return answer;
      }),
  });
}

async function rotate(rotator: Keyring): Promise<{ id: string; state: string }> {
  const { id } = await service.rotations.request({ projects: [project.id], pace: 'full' });
  return rotator.rotations.run(id);
}

test('many rows are swept and read back by blocks, and no edit, rename or delete meanwhile is lost', async () => {
  const ranges = { sweep: 0, verify: 0 };
  let edits = 0;
  const rotator = await afterEachRange(async (reading) => {
    ranges[reading] += 1;
    const nth = edits++;
    for (const number of [nth, ROWS / 2 + nth, ROWS - 2 - nth]) {
      const name = `ROW_${String(number)}`;
      if (!project.secrets.has(name)) continue;
      project.secrets.set(name, `edited in ${reading}`);
      await service.secrets.put(project.id, name, `edited in ${reading}`);
    }
    const [gone, old] = [`ROW_${String(100 + nth)}`, `ROW_${String(200 + nth)}`];
    await service.secrets.remove(project.id, gone);
    project.secrets.delete(gone);
    // A renamed row goes to wherever there is room; its ciphertext goes with it as it is.
    await installation.sql(`update public.secrets set key = $3 where project_id = $1 and key = $2`, [
      project.id,
      old,
      `${old}_RENAMED`,
    ]);
    project.secrets.set(`${old}_RENAMED`, project.secrets.get(old) ?? '');
    project.secrets.delete(old);
  });
  expect((await rotate(rotator)).state).toBe('completed');
  expect(ranges.sweep, 'ranges swept').toBeGreaterThan(3);
  expect(ranges.verify, 'ranges read back').toBeGreaterThan(3);
  await expectEverySecretFresh(installation, service, [project]);
});

test('a row that changes behind the reader of blocks is read back all the same', async () => {
  let spoilt: string | undefined;
  const rotator = await afterEachRange(async (reading, from) => {
    if (reading !== 'verify' || from !== '(0,0)' || spoilt !== undefined) return;
    const [row] = await installation.sql<{ id: string }>(
      `select id from public.secrets where project_id = $1 order by ctid limit 1`,
      [project.id],
    );
    spoilt = row?.id;
    await installation.behindTheFence(
      `update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
       where id = $1`,
      [spoilt],
    );
  });
  const { id, state } = await rotate(rotator);
  expect(spoilt).toBeDefined();
  expect(state).toBe('blocked');
  expect((await service.rotations.get(id))?.quarantine.map(({ rowId }) => rowId)).toEqual([spoilt]);
});

test('a row that does not open is named once, though its block may be read twice', async () => {
  const [row] = await installation.sql<{ id: string }>(`select id from public.secrets where key = 'ROW_7'`);
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
     where id = $1`,
    [row?.id],
  );
  const { id, state } = await rotate(await installation.open());
  expect(state).toBe('blocked');
  const detail = await service.rotations.get(id);
  expect(detail?.quarantine.map(({ rowId }) => rowId)).toEqual([row?.id]);
  expect(detail?.rows).toMatchObject({ moved: ROWS - 1, quarantined: 1 });
});

test('a large project is given back in parts, which anybody does in any order and more than once, and then goes on', async () => {
  const units: WorkUnit[] = [];
  const done: { part: RowsUnit; moved: number }[] = [];
  const moved = async (): Promise<number> => (await service.rotations.list({ limit: 1 }))[0]?.rows.moved ?? 0;
  const executor: Executor = {
    atOnce: 3,
    partRows: 700,
    async execute(unit, signal) {
      units.push(unit);
      const before = await moved();
      const result = await service.rotations.work(unit, { signal });
      if (unit.kind === 'rows') {
        done.push({ part: unit, moved: (await moved()) - before });
        await service.rotations.work(unit, { signal });
      }
      return { ...result, parts: [...result.parts].reverse() };
    },
  };
  const { id } = await service.rotations.request({ projects: [project.id], pace: 'full' });
  expect((await service.rotations.run(id, { executor })).state).toBe('completed');
  expect(units.map(({ kind }) => kind)).toEqual(['projects', 'rows', 'rows', 'rows', 'projects']);
  expect(done.reduce((sum, one) => sum + one.part.rows, 0)).toBeGreaterThanOrEqual(ROWS);
  // They did it, and not the pass that follows.
  expect(done.map((one) => one.moved).every((rows) => rows > 0)).toBe(true);
  const [rotation] = await service.rotations.list({ limit: 1 });
  expect(rotation?.rows).toEqual({ total: ROWS, moved: ROWS, verified: ROWS, quarantined: 0 });
  await expectEverySecretFresh(installation, service, [project]);
});

test('a part that nobody wants any more is left alone, and one that is none is refused', async () => {
  const { id } = await service.rotations.request({ projects: [project.id], pace: 'full' });
  const part = {
    kind: 'rows' as const,
    rotationId: id,
    projectIds: [project.id] as const,
    label: 'secrets.value',
    fromBlock: 0,
    toBlock: 100,
    rows: ROWS,
  };
  // Not promoted yet, and then finalized.
  expect(await service.rotations.work(part)).toEqual({ waiting: [], held: [], parts: [] });
  expect((await service.rotations.run(id)).rows.moved).toBe(ROWS);
  expect(await service.rotations.work(part)).toEqual({ waiting: [], held: [], parts: [] });
  for (const wrong of [{ fromBlock: -1 }, { toBlock: 0 }, { rows: 0.5 }, { fromBlock: '0' as unknown as number }]) {
    await expect(service.rotations.work({ ...part, ...wrong })).rejects.toMatchObject({ code: 'invalid_argument' });
  }
});

test('rows are counted once as read back, however long another transaction has been open', async () => {
  await using other = await session(installation.test.adminUrl, 'long transaction');
  await other.query('begin');
  await other.query('select pg_current_xact_id()');
  // Every row that the sweep writes is more recent than that one, and is read back twice.
  const { id } = await rotate(service);
  await other.query('rollback');
  const [rotation] = await service.rotations.list({ limit: 1 });
  expect(rotation).toMatchObject({ id, state: 'completed', rows: { moved: ROWS, verified: ROWS } });
});

test('a table that is written anew, row by row, behind the reader of blocks is read back whole', async () => {
  const written = Promise.withResolvers<void>();
  let spoilt: string | undefined;
  const rotator = await installation.open({
    sweepBatchSize: 500,
    wrap: (database) =>
      interceptDatabase(database, async ({ statement, send }) => {
        const reading = statement.text.includes('as recent');
        if (statement.text.includes('pg_snapshot_xmin')) {
          // Spoilt before the read-back begins: nothing of the row is more recent than that.
          const [row] = await installation.sql<{ id: string }>(
            `select id from public.secrets where project_id = $1 order by ctid offset ${String(ROWS / 2 - 50)} limit 1`,
            [project.id],
          );
          spoilt = row?.id;
          await spoil(spoilt);
        } else if (reading && statement.values?.[2] === '(0,0)') {
          const answer = await send();
          // Full pages instead of half full ones: the row is now on a block that was read before.
          await installation.asOwner('alter table public.secrets set (fillfactor = 100)');
          await installation.sql('vacuum full public.secrets');
          written.resolve();
          return answer;
        } else if (reading) await written.promise;
        return send();
      }),
  });
  const { id, state } = await rotate(rotator);
  await written.promise;
  expect(state).toBe('blocked');
  expect((await service.rotations.get(id))?.quarantine.map(({ rowId }) => rowId)).toEqual([spoilt]);
});

/** Changes a bit of a stored value, as only somebody who passes the fence can. */
async function spoil(id: string | undefined): Promise<void> {
  await installation.behindTheFence(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
     where id = $1`,
    [id],
  );
}
