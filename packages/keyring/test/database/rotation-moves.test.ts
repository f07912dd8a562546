import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { outcome, useDatabase, type Session } from './support.ts';

// What the service may write into the row of a project in a rotation: the guard looks at what is not an ordinary move.
const on = useDatabase();

const moves: Readonly<Record<string, readonly string[]>> = {
  requested: ['staged', 'blocked', 'canceled', 'failed'],
  staged: ['sweeping', 'blocked', 'canceled', 'failed'],
  sweeping: ['verifying', 'blocked', 'rolling_back', 'canceled'],
  verifying: ['completed', 'sweeping', 'blocked', 'rolling_back', 'rolled_back', 'canceled'],
  blocked: ['requested', 'staged', 'sweeping', 'rolling_back', 'canceled'],
  rolling_back: ['rolled_back', 'blocked', 'canceled'],
  completed: [],
  rolled_back: [],
  canceled: [],
  failed: [],
};
const states = Object.keys(moves);

/** A project of a rotation at a state. */
async function standing(by: Session, state: string, version = 'gen_random_uuid()'): Promise<string> {
  const id = randomUUID();
  await by.run(
    `insert into keyring.rotations (id, scope, trigger, requested_by) values ($1, 'projects', 'manual', 'test')`,
    [id],
  );
  await by.run(
    `insert into keyring.rotation_projects (rotation_id, project_id, project_name, state, source_key_id, target_key_id)
     values ($1, gen_random_uuid(), 'named', $2, ${version}, ${version})`,
    [id, state],
  );
  return id;
}

const change = (by: Session, id: string, set: string): Promise<string> =>
  outcome(by.run(`update keyring.rotation_projects set ${set} where rotation_id = $1`, [id]));

test.each(states)(
  'a project of a rotation that is %s goes where the engine takes it, and nowhere else',
  async (from) => {
    const service = await on.service();
    const gone: string[] = [];
    for (const to of states) {
      const id = await standing(service, from);
      const came = await change(service, id, `state = '${to}'`);
      if (came === 'done') gone.push(to);
      else expect(came).toBe('MK005');
    }
    expect(new Set(gone)).toEqual(new Set([from, ...(moves[from] ?? [])]));
  },
);

test.each(['rotation_id', 'project_id', 'source_key_id', 'target_key_id'])(
  'a project of a rotation keeps its %s, on an ordinary move as well',
  async (column) => {
    const service = await on.service();
    for (const set of ['', `state = 'sweeping', `]) {
      const id = await standing(service, 'staged');
      expect(await change(service, id, `${set}${column} = gen_random_uuid()`)).toBe('MK004');
      if (column.endsWith('key_id')) expect(await change(service, id, `${set}${column} = null`)).toBe('MK004');
    }
  },
);

test('a project of a rotation gets its versions when it is staged', async () => {
  const service = await on.service();
  const id = await standing(service, 'requested', 'null');
  const versions = 'source_key_id = gen_random_uuid(), target_key_id = gen_random_uuid()';
  expect(await change(service, id, `state = 'staged', ${versions}`)).toBe('done');
  expect(await change(service, id, versions)).toBe('MK004');
});

test('a rollback is not turned around', async () => {
  const service = await on.service();
  const id = await standing(service, 'sweeping');
  expect(await change(service, id, `state = 'rolling_back', direction = 'back'`)).toBe('done');
  expect(await change(service, id, `direction = 'forward'`)).toBe('MK005');
});
