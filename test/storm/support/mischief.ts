import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SPOILED } from '../../../packages/keyring/test/engine/support/name-history.ts';
import { pick, type Random } from '../../../packages/keyring/test/engine/support/random.ts';
import { somewhere, type Site } from './site.ts';
import type { Storm } from './storm.ts';

const MOST_SPOILED = 8;
const LONGEST_HOLD_MS = 3_000;
/** Longer than the service and the workers wait for a row. */
const STUBBORN_HOLD_MS = 7_000;

/** What happens to any database: bytes go bad, and somebody leaves a transaction open. */
export function startMischief(storm: Storm, site: Site): Promise<void>[] {
  return [
    storm.act('spoiler', 900, (random) => spoil(storm, site, random)),
    storm.act('idler 1', 300, (random) => idle(storm, site, random)),
    storm.act('idler 2', 300, (random) => idle(storm, site, random)),
  ];
}

/** A row's bytes are changed behind the fence, as no program of ours could: a bit of it, or all of it. */
async function spoil(storm: Storm, site: Site, random: Random): Promise<void> {
  const { models, service, admin } = site;
  const { known } = somewhere(site, random);
  const name = pick(known.all, random);
  const flipped = random(2) === 0;
  if (models.reduce((sum, model) => sum + model.known.spoiled.length, 0) >= MOST_SPOILED) return;
  const spoiled = await known.change(pick(service, random), name, SPOILED, async (before) => {
    if (typeof before !== 'string') return false;
    const connection = await admin.connect();
    let broken = true;
    try {
      await connection.query({ text: 'begin' });
      await connection.query({ text: 'set local session_replication_role = replica' });
      const { rowCount } = await connection.query({
        text: `update public.secrets set value_encrypted = ${
          flipped ? 'set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # length($3::bytea))' : '$3::bytea'
        } where project_id = $1 and key = $2`,
        values: [known.projectId, name, randomBytes(flipped ? 1 : 90)],
      });
      if (rowCount !== 1) throw new Error(`${name} was lost before it could be spoiled.`);
      await connection.query({ text: 'commit' });
      broken = false;
      return true;
    } finally {
      connection.release(broken);
    }
  });
  if (!spoiled) return;
  storm.count('spoiled');
  storm.note('spoiler', `${name} of ${known.projectId}`);
}

const holds = {
  'a row': {
    text: 'select 1 from public.secrets where project_id = $1 and key = $2 for update',
    values: (projectId: string, name: string) => [projectId, name],
  },
  'all rows': {
    text: 'select 1 from public.secrets where project_id = $1 for update',
    values: (projectId: string) => [projectId],
  },
  // As everybody does who has written a row and not committed yet.
  'a keyring': {
    text: `select 1 from (select pg_advisory_xact_lock_shared(keyring.project_lock($1))) queue, keyring.keyrings k
           where k.project_id = $1 for share of k`,
    values: (projectId: string) => [projectId],
  },
} as const;

async function idle(storm: Storm, site: Site, random: Random): Promise<void> {
  const what = pick(['a row', 'all rows', 'a keyring'] as const, random);
  // Whoever holds the large project keeps all writers waiting before long.
  const { known } = what === 'all rows' ? pick(site.models.slice(1), random) : somewhere(site, random);
  const name = pick(known.all, random);
  const ms = random(3) === 0 ? STUBBORN_HOLD_MS : random(LONGEST_HOLD_MS);
  const connection = await site.admin.connect();
  let broken = true;
  try {
    await connection.query({ text: 'begin' });
    await connection.query({ text: holds[what].text, values: holds[what].values(known.projectId, name) });
    storm.count(`held ${what}`);
    await sleep(ms, undefined, { signal: storm.over }).catch(() => undefined);
    await connection.query({ text: random(2) === 0 ? 'commit' : 'rollback' });
    broken = false;
  } finally {
    connection.release(broken);
  }
}
