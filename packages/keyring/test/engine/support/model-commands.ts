import type { Keyring, KeyVersion } from '@meshhook/keyring';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { Installation } from './installation.ts';
import { interceptDatabase } from './intercept.ts';
import {
  codeOf,
  detailOf,
  expectEverySecretFresh,
  expectHealthy,
  expectValues,
  forgetRunners,
  type KnownProject,
} from './world.ts';

/** What must be so, and what the commands need to know to be allowed. */
export interface Model {
  readonly projects: readonly [KnownProject, KnownProject];
  /** The open rotation, if any. */
  rotation: 'none' | 'forward' | 'back';
  paused: boolean;
}

/** The keyring under test: two processes with caches of their own. */
export interface Real {
  readonly installation: Installation;
  readonly processes: readonly [Keyring, Keyring];
  rotationId: string;
}

type Command = fc.AsyncCommand<Model, Real>;

const ends = ['completed', 'rolled_back', 'canceled', 'failed'];

function command(text: string, run: Command['run'], check: Command['check'] = () => true): Command {
  return { run, check, toString: () => text };
}

const open: Command['check'] = (model) => model.rotation !== 'none';

function put(by: 0 | 1, project: 0 | 1, name: string, value: string): Command {
  return command(`put(${by}, ${project}, ${name}, ${JSON.stringify(value)})`, async ({ projects }, { processes }) => {
    const { created } = await processes[by].secrets.put(projects[project].id, name, value);
    expect(created).toBe(!projects[project].secrets.has(name));
    projects[project].secrets.set(name, value);
  });
}

function get(by: 0 | 1, project: 0 | 1, name: string): Command {
  return command(`get(${by}, ${project}, ${name})`, async ({ projects, rotation }, { processes }) => {
    const secret = await processes[by].secrets.get(projects[project].id, name);
    expect(secret?.value).toBe(projects[project].secrets.get(name));
    if (rotation === 'none') expect(secret?.stale ?? false).toBe(false);
  });
}

function remove(by: 0 | 1, project: 0 | 1, name: string): Command {
  return command(`remove(${by}, ${project}, ${name})`, async ({ projects }, { processes }) => {
    const removed = await processes[by].secrets.remove(projects[project].id, name);
    expect(removed).toBe(projects[project].secrets.delete(name));
  });
}

const request = command(
  'request()',
  async (model, real) => {
    real.rotationId = (await real.processes[0].rotations.request({ projects: 'all' })).id;
    model.rotation = 'forward';
    model.paused = false;
  },
  (model) => model.rotation === 'none',
);

/** Runs the open rotation for a number of statements, or to its end. */
function run(statements: number): Command {
  return command(
    `run(${String(statements)})`,
    async (model, { installation, rotationId }) => {
      const stop = new AbortController();
      let left = Number.POSITIVE_INFINITY;
      const runner = await installation.open({
        sweepBatchSize: 1,
        rotationConcurrency: 1,
        wrap: (database) =>
          interceptDatabase(database, async ({ send }) => {
            if (--left < 0) stop.abort();
            return send();
          }),
      });
      left = statements;
      await forgetRunners(installation);
      const code = await codeOf(runner.rotations.run(rotationId, { signal: stop.signal }));
      expect(['nothing', 'interrupted']).toContain(code);
      const { state } = await detailOf(runner, rotationId);
      if (model.paused) expect(state).toBe('paused');
      else if (ends.includes(state)) model.rotation = 'none';
      else {
        expect(code).toBe('interrupted');
        expect(model.rotation === 'back' ? ['rolling_back'] : ['requested', 'running']).toContain(state);
      }
    },
    open,
  );
}

const pause = command(
  'pause()',
  async (model, { processes, rotationId }) => {
    expect((await processes[1].rotations.pause(rotationId)).state).toBe('paused');
    model.paused = true;
  },
  open,
);

const resume = command(
  'resume()',
  async (model, { processes, rotationId }) => {
    const { state } = await processes[1].rotations.resume(rotationId);
    expect(state).toBe(model.rotation === 'back' ? 'rolling_back' : 'running');
    model.paused = false;
  },
  (model) => model.rotation !== 'none' && model.paused,
);

const rollback = command(
  'rollback()',
  async (model, { processes, rotationId }) => {
    // Every project may be finalized, with only the last word on the whole left to write: then it is refused.
    const code = await codeOf(processes[0].rotations.rollback(rotationId));
    expect(['nothing', 'rotation_not_open']).toContain(code);
    if (code !== 'nothing') return;
    model.rotation = 'back';
    model.paused = false;
  },
  open,
);

/** Tries to destroy any version. Whatever the answer: no value is lost, and the guards say what they have to. */
function destroy(project: 0 | 1, version: number): Command {
  return command(`destroy(${project}, ${String(version)})`, async ({ projects }, { installation, processes }) => {
    const versions = await processes[0].keys.list({ projectId: projects[project].id });
    const key = versions[version % versions.length];
    if (key === undefined) return;
    const answer = await expected(installation, key);
    expect(await codeOf(processes[0].keys.destroy(key.id, { reason: 'model' }))).toBe(answer);
    await expectValues(installation, processes[1], projects[project]);
  });
}

async function expected({ sql }: Installation, key: KeyVersion): Promise<string> {
  if (key.status === 'destroyed') return 'nothing';
  if (key.active) return 'key_is_primary';
  if (key.activatedAt === undefined) {
    const needed = await sql(
      `select 1 from keyring.rotation_projects where target_key_id = $1
         and state not in ('completed', 'rolled_back', 'canceled', 'failed')`,
      [key.id],
    );
    return needed.length > 0 ? 'key_in_use' : 'nothing';
  }
  if (key.retentionUntil === undefined || key.retentionUntil > new Date()) return 'retention_not_over';
  return key.rows > 0 ? 'key_in_use' : 'nothing';
}

const by = fc.constantFrom(0 as const, 1 as const);
const project = fc.constantFrom(0 as const, 1 as const);
const name = fc.constantFrom('A', 'B', 'C', 'FIRST');
const value = fc.string({ minLength: 1, maxLength: 30, unit: 'grapheme' });

export const commands = fc.commands(
  [
    fc.tuple(by, project, name, value).map((args) => put(...args)),
    fc.tuple(by, project, name).map((args) => get(...args)),
    fc.tuple(by, project, name).map((args) => remove(...args)),
    fc.constant(request),
    fc.nat({ max: 120 }).map((statements) => run(statements)),
    fc.nat({ max: 120 }).map((statements) => run(statements)),
    fc.constant(run(100_000)),
    fc.constant(pause),
    fc.constant(resume),
    fc.constant(rollback),
    fc.tuple(project, fc.nat({ max: 6 })).map((args) => destroy(...args)),
  ],
  { maxCommands: 40, size: 'max' },
);

/** Ends what is open; then everything is there, fresh, and healthy. */
export async function expectRest(model: Model, real: Real): Promise<void> {
  const [keyring] = real.processes;
  if (model.rotation !== 'none') {
    await forgetRunners(real.installation);
    if (model.paused) await keyring.rotations.resume(real.rotationId);
    expect(ends).toContain((await keyring.rotations.run(real.rotationId)).state);
  }
  for (const one of model.projects) await expectValues(real.installation, keyring, one);
  await expectEverySecretFresh(
    real.installation,
    keyring,
    model.projects.filter((one) => one.secrets.size > 0),
  );
  await expectHealthy(keyring);
}
