import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { pgDatabase, type Keyring } from '@meshhook/keyring';
import type pg from 'pg';
import { auditTrail } from '../packages/keyring/src/audit/audit.ts';
import type { Bench, BenchDatabase, Measure } from './support.ts';
import { rate, ratio, seconds } from './table.ts';
import type { Ask, Told } from './verifying-process.ts';

const WRITERS = 16;
// Four times as often as workers do: what a round leaves unsealed at its end would be for free.
const SEAL_EVERY_MS = 500;

/** What the chain costs who writes, and what verifying costs. */
export async function auditMeasures(bench: Bench): Promise<Measure[]> {
  return [...(await writing(bench)), ...(await verifying(bench))];
}

type Way = 'without' | 'chain' | 'mirrored';

/** Sixteen projects write an entry after the other, each in a transaction of its own. The ways take turns, forwards and back. */
async function writing(bench: Bench): Promise<Measure[]> {
  const roundMs = bench.quick ? 1_500 : 6_000;
  const database = await bench.database({ projects: WRITERS, secretsEach: 0 });
  const keyring = await database.open();
  const rates: Record<Way, number[]> = { without: [], chain: [], mirrored: [] };
  try {
    await database.admin(async (admin) => {
      await round(database, keyring, 'chain', roundMs / 2);
      for (const way of ['without', 'chain', 'mirrored', 'mirrored', 'chain', 'without'] as const) {
        await prepare(admin, way);
        rates[way].push(await round(database, keyring, way, roundMs));
        await sealAll(keyring);
      }
    });
  } finally {
    await keyring.close();
    await database.drop();
  }
  const mean = (way: Way): number => rates[way].reduce((sum, one) => sum + one, 0) / rates[way].length;
  const numbers = { without: mean('without'), chain: mean('chain'), mirrored: mean('mirrored') };
  const against = (way: Way): string =>
    `${ratio(numbers[way] / numbers.without)} the rate without the chain (${rate(numbers.without, 1_000)}); rounds ${rates[
      way
    ]
      .map((one) => rate(one, 1_000))
      .join(', ')} against ${rates.without.map((one) => rate(one, 1_000)).join(', ')}`;
  return [
    {
      what: `entries by ${String(WRITERS)} concurrent projects, sealed`,
      ...{ measured: rate(numbers.chain, 1_000), against: against('chain'), target: '≥ 0.90 ×', numbers },
    },
    {
      what: "  in MeshHook's own log as well",
      ...{ measured: rate(numbers.mirrored, 1_000), against: against('mirrored'), numbers },
    },
  ];
}

async function prepare(admin: pg.Client, way: Way): Promise<void> {
  await admin.query(
    `alter table keyring.audit_log ${way === 'without' ? 'disable' : 'enable'} trigger audit_log_begins`,
  );
  await admin.query('drop trigger if exists mirror_audit_entries on keyring.audit_log');
  await admin.query('drop table if exists public.audit_log');
  if (way !== 'mirrored') return;
  await admin.query(`create table public.audit_log (id uuid primary key default gen_random_uuid(), project_id uuid not null,
    user_id uuid not null, action text not null, resource_type text, resource_id text, metadata jsonb, ip_address inet,
    user_agent text, created_at timestamptz not null default now())`);
  await admin.query('select keyring.mirror_audit_log()');
}

/** Entries a second. */
async function round(database: BenchDatabase, keyring: Keyring, way: Way, ms: number): Promise<number> {
  const service = pgDatabase({ connectionString: database.serviceUrl, maxConnections: WRITERS });
  const trail = auditTrail({ name: 'bench', kind: 'user', address: '192.0.2.1' });
  try {
    let written = 0;
    const began = performance.now();
    const until = began + ms;
    const write = async (projectId: string): Promise<void> => {
      for (let number = 0; performance.now() < until; number++) {
        await trail.record(service, {
          ...{ action: 'secret.written', projectId, subject: `secret:${projectId}`, reason: 'bench' },
          details: { key: `SECRET_${String(number)}` },
        });
        written += 1;
      }
    };
    const seal = async (): Promise<void> => {
      while (way !== 'without' && performance.now() < until) {
        await sleep(Math.min(SEAL_EVERY_MS, until - performance.now()));
        await sealOnce(keyring);
      }
    };
    await Promise.all([seal(), ...database.projectIds.map(write)]);
    return (written / (performance.now() - began)) * 1_000;
  } finally {
    await service.close();
  }
}

async function sealOnce(keyring: Keyring): Promise<void> {
  while ((await keyring.audit.seal()).more);
}

/** Until the floor is as high as it goes. */
async function sealAll(keyring: Keyring): Promise<void> {
  for (let idle = 0; idle < 2;) {
    const { checkpoint } = await keyring.audit.seal();
    idle = checkpoint === undefined ? idle + 1 : 0;
  }
}

/** The same trail when it is short and when it is long: its time grows, its memory must not. */
async function verifying(bench: Bench): Promise<Measure[]> {
  const sizes = bench.quick ? [5_000, 50_000] : [100_000, 1_000_000];
  const database = await bench.database({ projects: 1, secretsEach: 0 });
  const keyring = await database.open();
  const measures: Measure[] = [];
  try {
    for (const size of sizes) {
      await load(database, size);
      const began = performance.now();
      await sealAll(keyring);
      const sealMs = performance.now() - began;
      const told = await verifyApart(database);
      if (told.outcome !== 'intact' || told.entries < size) throw new Error(`verify ended: ${told.outcome}`);
      const [rest, peak] = [told.restBytes, told.peakBytes].map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`);
      measures.push({
        what: `verify ${told.entries.toLocaleString('en')} entries`,
        measured: `${seconds(told.ms)}, peak ${String(peak)}`,
        against: `${rate(told.entries, told.ms)}, processor ${seconds(told.cpuMs)} of it; at rest ${String(rest)}; the last ones sealed in ${seconds(sealMs)}`,
        target: '1,000,000 in ≤ 30 s, memory flat',
        numbers: { ...told, outcome: 1, sealMs },
      });
    }
    return measures;
  } finally {
    await keyring.close();
    await database.drop();
  }
}

/** As many entries as are missing, without triggers: they look like those of a service that writes secrets. */
async function load({ admin, projectIds }: BenchDatabase, size: number): Promise<void> {
  await admin(async (client) => {
    await client.query('set session_replication_role = replica');
    await client.query(
      `insert into keyring.audit_log (at, actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details)
       select clock_timestamp(), 'service-' || n % 7, 'service', case when n % 3 = 0 then '192.0.2.' || n % 250 end,
         (array['secret.written', 'secret.read', 'key.promoted', 'rotation.project_completed'])[1 + n % 4], 'succeeded', $2,
         'secret:' || gen_random_uuid(), case when n % 5 = 0 then 'a reason of usual length, ' || n end,
         jsonb_build_object('key', 'SECRET_' || n, 'version', n % 9, 'rows', n)
       from generate_series(1, $1::int - (select count(*)::int from keyring.audit_log)) n`,
      [size, projectIds[0]],
    );
    await client.query('vacuum analyze keyring.audit_log');
    await client.query('checkpoint');
  });
}

async function verifyApart({ serviceUrl, rootKey }: BenchDatabase): Promise<Told> {
  const verifier = fork(path.join(import.meta.dirname, 'verifying-process.ts'));
  try {
    verifier.send({ database: serviceUrl, rootKey } satisfies Ask);
    const [told] = (await once(verifier, 'message')) as [Told];
    return told;
  } finally {
    if (verifier.connected) verifier.disconnect();
  }
}
