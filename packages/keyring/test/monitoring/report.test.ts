import { readFileSync } from 'node:fs';
import path from 'node:path';
import { reportCsv, reportJson, type Keyring, type ReportedKey, type ReportedRotation } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from '../engine/support/installation.ts';
import { makeProject } from '../engine/support/world.ts';

const longAgo = new Date('2020-01-01');
const HOSTILE = `=cmd|' /C calc'!A0`;

let installation: Installation;
let keyring: Keyring;
beforeAll(async () => {
  installation = await startInstallation();
  keyring = await installation.open();
  const project = await makeProject(installation, keyring, { secrets: 2 });
  await installation.sql('update public.projects set name = $2 where id = $1', [project.id, HOSTILE]);
  const { id } = await keyring.rotations.request({ projects: [project.id], reason: '+1,"two"\nlines' });
  await keyring.rotations.run(id);
});
afterAll(() => installation.end());

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}
const textOf = async (parts: AsyncIterable<string>): Promise<string> => (await all(parts)).join('');

/** RFC 4180, read strictly. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]];
  const cells = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/gy;
  for (let match = cells.exec(text); match !== null; match = cells.exec(text)) {
    rows.at(-1)?.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] === '\r\n') rows.push([]);
  }
  expect(rows.pop()).toEqual([]);
  return rows;
}

test('a rotation is reported with who, why, how long, how much, and its receipts', async () => {
  const [only, ...others] = await all(keyring.monitoring.report({ since: longAgo }).rotations());
  expect(others).toEqual([]);
  expect(only).toMatchObject({
    kind: 'data_key',
    trigger: 'manual',
    outcome: 'completed',
    requestedBy: 'library',
    reason: '+1,"two"\nlines',
    projects: { total: 1, completed: 1 },
    moved: 2,
    verified: 2,
    quarantined: 0,
    errors: [],
    receipts: 1,
    signingKeys: [expect.stringMatching(/^[0-9a-f-]{36}$/) as string],
  } satisfies Partial<ReportedRotation>);
  expect(only?.durationMs).toBeGreaterThan(0);
});

test('every key has its life: root, wrapping, and each version', async () => {
  const keys = await all(keyring.monitoring.report({ since: longAgo }).keys());
  expect(keys.map(({ kind, version, status }) => [kind, version, status])).toEqual([
    ['root_key', undefined, 'enabled'],
    ['wrapping_key', 1, 'active'],
    ['data_key', 1, 'deactivated'],
    ['data_key', 2, 'active'],
  ]);
  const [, , first] = keys as [ReportedKey, ReportedKey, ReportedKey];
  expect(first.deactivatedAt?.getTime()).toBeGreaterThanOrEqual(first.activatedAt?.getTime() ?? Infinity);
  expect(first.retentionUntil?.getTime()).toBeGreaterThan(Date.now());
});

test('what ended before the range, and what began after it, is not in it', async () => {
  const later = keyring.monitoring.report({ since: new Date(Date.now() + 1_000), until: new Date(Date.now() + 2_000) });
  expect(await all(later.rotations())).toEqual([]);
  expect(await all(later.keys())).toHaveLength(4);
  const before = keyring.monitoring.report({ since: longAgo, until: new Date('2021-01-01') });
  expect([...(await all(before.rotations())), ...(await all(before.keys()))]).toEqual([]);
  expect(() => keyring.monitoring.report({ since: new Date(), until: longAgo })).toThrow(
    expect.objectContaining({ code: 'invalid_argument' }),
  );
});

test('pages leave nothing out and repeat nothing, also where moments are equal', async () => {
  await installation.behindTheFence(
    `insert into keyring.rotations (id, scope, trigger, state, requested_by, requested_at, finished_at)
     select gen_random_uuid(), 'projects', 'usage', 'completed', 'x', '2022-01-01'::timestamptz + (n / 400) * interval '1 us',
       '2022-01-02' from generate_series(1, 1201) n`,
  );
  await installation.behindTheFence(
    `insert into public.projects (id, name, owner)
     select gen_random_uuid(), 'bulk ' || n, '00000000-0000-0000-0000-000000000000' from generate_series(1, 600) n`,
  );
  await installation.behindTheFence(
    `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, created_at)
     select gen_random_uuid(), p.id, v, k.wrapped_key, k.wrapping_key_id, k.fingerprint, '2022-01-01'
     from public.projects p, generate_series(1, 2) v, (select * from keyring.encryption_keys limit 1) k
     where p.name like 'bulk %'`,
  );
  await installation.behindTheFence(
    `insert into keyring.keyrings (project_id, primary_key_id)
     select k.project_id, k.id from keyring.encryption_keys k join public.projects p on p.id = k.project_id
     where p.name like 'bulk %' and k.version = 2`,
  );
  const report = keyring.monitoring.report({ since: new Date('2022-01-01'), until: new Date('2022-02-01') });
  const rotations = await all(report.rotations());
  expect(rotations).toHaveLength(1201);
  expect(new Set(rotations.map(({ id }) => id)).size).toBe(1201);
  const keys = await all(report.keys());
  expect(new Set(keys.map(({ id }) => id)).size).toBe(1200);
  const overdue = await all(report.overdue());
  expect(new Set(overdue.map(({ projectId }) => projectId)).size).toBe(600);
  expect(overdue[0]).toMatchObject({ because: 'age', version: 2, dueAt: new Date('2022-04-01') });
});

test('overdue is what the schedule says is overdue; whose policy is off is listed as off, with the reason', async () => {
  const ids = (rows: readonly { readonly projectId: string }[]) => rows.map(({ projectId }) => projectId).sort();
  const schedule = async () => ids((await keyring.policies.overdue({ limit: 10_000 })).projects);
  const report = keyring.monitoring.report({ since: longAgo });
  const [off, later] = await installation.sql<{ id: string }>(
    `select id from public.projects where name like 'bulk %' order by id limit 2`,
  );
  const own = (projectId: string) => ({ projectId, revision: 0 });
  const reason = 'frozen until the audit ends';
  await keyring.policies.set({ enabled: false, reason }, own(off!.id));
  await keyring.policies.set({ rotateAfterMs: 3_650 * 86_400_000 }, own(later!.id));

  const overdue = await all(report.overdue());
  expect(ids(overdue)).toEqual(await schedule());
  expect(overdue).toHaveLength(598);
  expect(await all(report.off())).toMatchObject([
    { projectId: off!.id, reason, dueAt: new Date('2022-04-01'), version: 2 },
  ]);

  // Where the schedule only begins to be late, the report does, too; and it knows the limit of a key's use.
  const age = (projectId: string, past: string) =>
    installation.behindTheFence(
      `update keyring.encryption_keys set created_at = now() - interval '3650 days' - $2::interval
       where project_id = $1 and version = 2`,
      [projectId, past],
    );
  await age(later!.id, '30 minutes');
  expect(ids(await all(report.overdue()))).toEqual(await schedule());
  expect(await schedule()).not.toContain(later!.id);
  await age(later!.id, '2 hours');
  expect(ids(await all(report.overdue()))).toEqual(await schedule());
  expect(await schedule()).toContain(later!.id);
  await age(later!.id, '-1 year');
  await installation.behindTheFence(
    `insert into keyring.key_usage (key_id, project_id, reserved) select id, project_id, 3865470566 from keyring.encryption_keys
     where project_id = $1 and version = 2 on conflict (key_id) do update set reserved = excluded.reserved`,
    [later!.id],
  );
  expect(ids(await all(report.overdue()))).toEqual(await schedule());
  const used = (await all(report.overdue())).find(({ projectId }) => projectId === later!.id);
  expect(used).toMatchObject({ because: 'use', dueAt: undefined });
});

test('JSON is one document with every section, or with one', async () => {
  const report = keyring.monitoring.report({ since: longAgo });
  const whole = JSON.parse(await textOf(reportJson(report))) as Record<string, object[]>;
  expect(Object.keys(whole)).toEqual(['since', 'until', 'rotations', 'keys', 'overdue', 'off']);
  expect(whole['rotations']?.at(-1)).toMatchObject({
    outcome: 'completed',
    moved: 2,
    startedAt: expect.any(String) as string,
  });
  const only = JSON.parse(await textOf(reportJson(report, 'overdue'))) as object;
  expect(Object.keys(only)).toEqual(['since', 'until', 'overdue']);
});

test('CSV holds every line whole, and nothing that a spreadsheet would run', async () => {
  const report = keyring.monitoring.report({ since: longAgo });
  const [header = [], ...rows] = parseCsv(await textOf(reportCsv(report, 'rotations')));
  const last = Object.fromEntries(header.map((name, at) => [name, rows.at(-1)?.[at]]));
  expect(last).toMatchObject({ outcome: 'completed', reason: `'+1,"two"\nlines`, moved: '2', receipts: '1' });
  const keys = parseCsv(await textOf(reportCsv(report, 'keys')));
  expect(keys.flat()).toContain(`'${HOSTILE}`);
  for (const cell of keys.slice(1).flat()) expect(cell).not.toMatch(/^[=+\-@\t\r]/);

  const [all = [], ...lines] = parseCsv(await textOf(reportCsv(report)));
  expect(all[0]).toBe('section');
  expect(new Set(lines.map(([section]) => section))).toEqual(new Set(['rotations', 'keys', 'overdue', 'off']));
  for (const line of lines) expect(line).toHaveLength(all.length);
});

test('docs/monitoring.md has every column of every section', async () => {
  const docs = readFileSync(path.join(import.meta.dirname, '../../../../docs/monitoring.md'), 'utf8');
  const report = keyring.monitoring.report({ since: longAgo });
  for (const section of ['rotations', 'keys', 'overdue', 'off'] as const) {
    const [header] = parseCsv(await textOf(reportCsv(report, section)));
    const cells = new RegExp(`^\\| \`${section}\` \\|[^|]*\\| (.*) \\|$`, 'm').exec(docs)?.[1] ?? '';
    const named = [...cells.replaceAll(/\([^)]*\)/g, '').matchAll(/`(\w+)`/g)].map(([, name]) => name);
    expect(named).toEqual(header);
  }
});
