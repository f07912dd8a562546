import { KeyringError, type ErrorCode, type RotationRequest } from '@meshhook/keyring';
import { SPOILED } from '../../../packages/keyring/test/engine/support/name-history.ts';
import { pick, type Random } from '../../../packages/keyring/test/engine/support/random.ts';
import { somewhere, type Site } from './site.ts';
import type { Storm } from './storm.ts';

const PAUSE_MS = 250;

/** An action, and the refusals that it may meet because somebody else was faster. Says what it did it to. */
interface Action {
  readonly weight: number;
  readonly refusals: readonly ErrorCode[];
  take(site: Site, random: Random): Promise<string | undefined>;
}

const OPEN = `('requested', 'running', 'rolling_back', 'paused', 'blocked')`;
const reason = 'the storm';
const rotationRefusals = ['rotation_in_progress', 'nothing_to_rotate'] as const;
const keyRefusals = ['key_in_use', 'key_is_primary', 'key_destroyed', 'illegal_state', 'retention_not_over'] as const;

const actions: Readonly<Record<string, Action>> = {
  'rotate one': { weight: 5, refusals: rotationRefusals, take: (site, random) => rotateSome(site, 1, random) },
  'rotate several': {
    weight: 5,
    refusals: rotationRefusals,
    take: (site, random) => rotateSome(site, 2 + random(12), random),
  },
  'rotate all': { weight: 1, refusals: rotationRefusals, take: (site, random) => rotate(site, 'all', random) },
  pause: {
    weight: 2,
    refusals: ['rotation_not_open'],
    take: (site, random) => onRotation(site, OPEN, random, (id) => site.operator.rotations.pause(id)),
  },
  resume: {
    weight: 6,
    refusals: ['rotation_not_open'],
    take: (site, random) =>
      onRotation(site, `('paused', 'blocked')`, random, (id) => site.operator.rotations.resume(id)),
  },
  'roll back': {
    weight: 2,
    // An emergency has no way back.
    refusals: ['rotation_not_open', 'illegal_state'],
    take: (site, random) => onRotation(site, OPEN, random, (id) => site.operator.rotations.rollback(id)),
  },
  'change the pace': {
    weight: 3,
    refusals: ['rotation_not_open', 'illegal_state'],
    take: (site, random) => {
      const pace = random(2) === 0 ? 'full' : 'polite';
      const maxRate = random(2) === 0 ? null : 500 + random(2_000);
      return onRotation(site, OPEN, random, (id) => site.operator.rotations.setPace(id, { pace, maxRate }));
    },
  },
  compromise: {
    weight: 1,
    refusals: ['key_destroyed'],
    take: (site, random) => {
      const ofProject = `project_id = '${somewhere(site, random).known.projectId}' and state <> 'destroyed'`;
      // Mostly the version that encrypts.
      const which =
        random(4) === 0 ? ofProject : `${ofProject} and activated_at is not null order by version desc limit 1`;
      return onKey(site, which, random, (id) => site.operator.rotations.compromise(id, { reason }));
    },
  },
  suspend: {
    weight: 1,
    refusals: keyRefusals,
    take: (site, random) =>
      onKey(site, `state = 'enabled'`, random, (id) => site.operator.keys.disable(id, { reason })),
  },
  restore: {
    weight: 1,
    refusals: keyRefusals,
    take: (site, random) =>
      onKey(site, `state = 'disabled'`, random, (id) => site.operator.keys.restore(id, { reason })),
  },
  destroy: {
    weight: 5,
    refusals: keyRefusals,
    take: (site, random) => {
      // Mostly one that may go; sometimes any.
      const which = random(5) === 0 ? `state <> 'destroyed'` : `state <> 'destroyed' and retention_until < now()`;
      return onKey(site, which, random, (id) => site.operator.keys.destroy(id, { reason }));
    },
  },
  'retry quarantine': {
    weight: 2,
    refusals: [],
    take: async ({ operator }) => `${String((await operator.quarantine.retry()).tried)} rows`,
  },
  discard: { weight: 4, refusals: ['not_quarantined', 'row_opens', 'conflict', 'key_disabled'], take: discard },
};

const weighted = Object.entries(actions).flatMap(([name, { weight }]) => Array.from({ length: weight }, () => name));

/** Somebody who asks for everything, at any moment. */
export function startOperator(storm: Storm, site: Site): Promise<void> {
  return storm.act('operator', PAUSE_MS, async (random, turn) => {
    // So that even a short storm meets rotations.
    const name = turn === 0 ? 'rotate all' : pick(weighted, random);
    const { refusals, take } = actions[name] as Action;
    try {
      const object = await take(site, random);
      if (object === undefined) return;
      storm.count(name);
      storm.note('operator', `${name}: ${object}`);
    } catch (error) {
      if (error instanceof KeyringError) storm.note('operator', `${name}: ${error.code}`);
      if (!(error instanceof KeyringError && refusals.includes(error.code))) throw error;
    }
  });
}

/** Mostly projects that no rotation holds, as an operator would choose them. */
async function rotateSome(site: Site, most: number, random: Random): Promise<string> {
  const free = await site.sql<{ id: string }>(
    `select p.id from public.projects p where not exists (
       select from keyring.rotation_projects r where r.project_id = p.id and r.finished_at is null) order by p.id`,
  );
  const chosen = new Set<string>();
  for (let count = 0; count < most; count++) {
    const any = free.length === 0 || random(8) === 0;
    chosen.add(any ? somewhere(site, random).known.projectId : pick(free, random).id);
  }
  return rotate(site, [...chosen], random);
}

async function rotate({ operator }: Site, projects: RotationRequest['projects'], random: Random): Promise<string> {
  const pace = random(2) === 0 ? 'full' : 'polite';
  const { id, projects: chosen } = await operator.rotations.request({ projects, pace });
  return `${id} of ${String(chosen.total)} projects, ${pace}`;
}

async function onRotation(
  { sql }: Site,
  states: string,
  random: Random,
  work: (id: string) => Promise<unknown>,
): Promise<string | undefined> {
  const rows = await sql<{ id: string }>(`select id from keyring.rotations where state in ${states} order by id`);
  return onOne(rows, random, work);
}

async function onKey(
  { sql }: Site,
  which: string,
  random: Random,
  work: (id: string) => Promise<unknown>,
): Promise<string | undefined> {
  return onOne(await sql<{ id: string }>(`select id from keyring.encryption_keys where ${which}`), random, work);
}

async function onOne(
  rows: readonly { id: string }[],
  random: Random,
  work: (id: string) => Promise<unknown>,
): Promise<string | undefined> {
  if (rows.length === 0) return undefined;
  const { id } = pick(rows, random);
  await work(id);
  return id;
}

/** Gives a row up that a rotation could not open, and that the model knows to be lost. */
export async function discard({ operator, models }: Site, random: Random): Promise<string | undefined> {
  const entries = await operator.quarantine.list();
  if (entries.length === 0) return undefined;
  const { projectId, name = '' } = pick(entries, random);
  const { known } = models.find((model) => model.known.projectId === projectId) ?? {};
  const discarded = await known?.change(operator, name, undefined, async (before) => {
    // Whoever works on a name may rename it: which row it is, is asked once nobody does.
    const row = (await operator.quarantine.list({ projectId })).find((entry) => entry.name === name);
    if (row === undefined) return false;
    await operator.quarantine.discard(row, { reason });
    if (before !== SPOILED) throw new Error(`${name} was discarded, though it opens.`);
    return true;
  });
  return discarded === true ? `${name} of ${projectId}` : undefined;
}
