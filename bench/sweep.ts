import { performance } from 'node:perf_hooks';
import { secretAadBuilder } from '../packages/keyring/src/envelope/aad.ts';
import { open, seal } from '../packages/keyring/src/envelope/seal.ts';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { rotateApart } from './rotate.ts';
import { rate, ratio, seconds } from './table.ts';

/** One project: sweep and time to completed, against what the two halves of the work cost alone. */
export async function sweepMeasures(bench: Bench): Promise<Measure[]> {
  const secrets = bench.quick ? 20_000 : 1_000_000;
  const database = await bench.database({ projects: 1, secretsEach: secrets });
  try {
    const crypto = await bareCrypto(database, secrets);
    const update = await bareUpdate(database);
    const { peak, ...result } = await rotateOnce(database);
    const limit = (crypto + update) / 2;
    return [
      {
        what: `rotate 1 project × ${secrets.toLocaleString('en')}: swept`,
        measured: rate(secrets, result.sweepMs),
        against: `${ratio(result.sweepMs / limit)} the two-core limit (${rate(secrets, limit)})`,
        target: '≥ 90,000/s; ≤ 2.00 ×',
        numbers: { secrets, sweepMs: result.sweepMs, limitMs: limit },
      },
      {
        what: '  request to completed',
        measured: seconds(result.totalMs),
        against: rate(secrets, result.totalMs),
        numbers: { totalMs: result.totalMs },
      },
      {
        what: '  memory of the process, peak',
        measured: `${(peak / 1e6).toFixed(0)} MB`,
        target: '≤ 300 MB',
        numbers: { peak },
      },
      {
        what: '  crypto alone (open + seal + open)',
        measured: rate(secrets, crypto),
        numbers: { cryptoMs: crypto },
      },
      {
        what: '  HOT update alone, one statement, no triggers',
        measured: rate(secrets, update),
        numbers: { updateMs: update },
      },
    ];
  } finally {
    await database.drop();
  }
}

async function rotateOnce(database: BenchDatabase): Promise<{ sweepMs: number; totalMs: number; peak: number }> {
  const keyring = await database.open();
  try {
    const { sweepMs, totalMs, peakBytes } = await rotateApart(keyring, database);
    return { sweepMs, totalMs, peak: peakBytes };
  } finally {
    await keyring.close();
  }
}

/** What the ciphertext costs: every row of the table opened, sealed and opened again, from memory. */
async function bareCrypto(database: BenchDatabase, secrets: number): Promise<number> {
  const [projectId = ''] = database.projectIds;
  const { keys, close } = await database.dataKeys();
  try {
    const key = await keys.primary(projectId);
    const rows = await database.admin(async (client) => {
      const found = await client.query<{ id: string; value_encrypted: Buffer }>(
        'select id, value_encrypted from public.secrets limit 20000',
      );
      return found.rows;
    });
    const aad = secretAadBuilder(projectId, 'secrets.value', key.id);
    // The first times it is not compiled yet, which a million rows would not notice.
    const times = [1, 2, 3, 4].map(() => {
      const start = performance.now();
      for (const row of rows) {
        const context = aad(row.id);
        const value = open(key.key, key.id, row.value_encrypted, context);
        open(key.key, key.id, seal(key.key, key.id, value, context), context);
      }
      return performance.now() - start;
    });
    return (Math.min(...times) / rows.length) * secrets;
  } finally {
    await close();
  }
}

/** What the table costs: every row replaced by as many bytes in one statement, without triggers. */
async function bareUpdate(database: BenchDatabase): Promise<number> {
  return database.admin(async (client) => {
    await client.query('set session_replication_role = replica');
    const start = performance.now();
    await client.query(
      'update public.secrets set value_encrypted = value_encrypted, encryption_key_id = encryption_key_id',
    );
    const ms = performance.now() - start;
    await client.query('vacuum public.secrets');
    await client.query('checkpoint');
    return ms;
  });
}
