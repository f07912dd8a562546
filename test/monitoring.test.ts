/** What is in ops/, tried with Prometheus and its tool; and a real server that a real Prometheus scrapes. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fillProject, makePlace, startServer } from '../apps/keyring-admin/test/support/server.ts';
import { query } from './support/database.ts';
import { hasPrometheus, promtool, startPrometheus } from './support/prometheus.ts';
import { canRun } from './support/required.ts';

const root = path.join(import.meta.dirname, '..');
const ops = path.join(root, 'ops/prometheus');
const runs = canRun('prometheus', hasPrometheus, 'there is no Prometheus with its promtool');

let rules = '';
let metrics: Set<string>;
let folder = '';
beforeAll(async () => {
  rules = await readFile(path.join(ops, 'alerts.yml'), 'utf8');
  const docs = await readFile(path.join(root, 'docs/monitoring.md'), 'utf8');
  metrics = new Set([...docs.matchAll(/^\| `(keyring_\w+)`/gm)].map(([, name = '']) => name));
  folder = await mkdtemp(path.join(tmpdir(), 'keyring-rules-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Of an expression, the metrics that there are none of. */
const unknown = (expression: string): string[] =>
  [...expression.matchAll(/\bkeyring_\w+/g)]
    .map(([name]) => name)
    .filter((name) => !metrics.has(name.replace(/_(bucket|sum|count)$/, '')) && !metrics.has(name));

test('rules and dashboard ask only for metrics that there are', async () => {
  const dashboard = await readFile(path.join(root, 'ops/grafana/keyring.json'), 'utf8');
  expect(unknown(rules)).toEqual([]);
  expect(unknown(dashboard)).toEqual([]);
  expect(unknown('max(keyring_typing_errors)')).toEqual(['keyring_typing_errors']);
});

test('each alert has a severity, a summary, a runbook that is there, a test, and a line in docs/monitoring.md', async () => {
  const tests = await readFile(path.join(ops, 'alerts.test.yml'), 'utf8');
  const docs = await readFile(path.join(root, 'docs/monitoring.md'), 'utf8');
  const alerts = rules.split('- alert: ').slice(1);
  expect(alerts.length).toBeGreaterThanOrEqual(15);
  for (const alert of alerts) {
    const name = /^\w+/.exec(alert)?.[0] ?? '';
    expect(alert, name).toMatch(/severity: (critical|warning)/);
    expect(alert, name).toMatch(/summary: \S/);
    const runbook = /runbook: (docs\/runbooks\/[a-z-]+\.md)$/m.exec(alert)?.[1] ?? '';
    expect(existsSync(path.join(root, runbook)), `${name}: ${runbook}`).toBe(true);
    expect(tests, name).toMatch(new RegExp(`alertname: ${name}\\s+exp_alerts:`));
    expect(docs, name).toMatch(new RegExp(`^\\| \`${name}\` \\|.*${runbook.replace('docs/', '')}`, 'm'));
  }
});

test('docs/monitoring.md names no alert and no runbook that is not there', async () => {
  const docs = await readFile(path.join(root, 'docs/monitoring.md'), 'utf8');
  const there = await readdir(path.join(root, 'docs/runbooks'));
  for (const [, name = ''] of docs.matchAll(/^\| `(Keyring\w+)`/gm)) expect(rules).toContain(`alert: ${name}\n`);
  for (const [, runbook = ''] of docs.matchAll(/\(runbooks\/([^)]+)\)/g)) expect(there).toContain(runbook);
});

test.skipIf(!runs)('promtool takes the rules, and each fires on what it is for and on nothing else', () => {
  const checked = promtool(ops, 'check', 'rules', 'alerts.yml');
  expect(checked.said).toContain('SUCCESS');
  expect(checked.code).toBe(0);
  const tested = promtool(ops, 'test', 'rules', 'alerts.test.yml', 'alerts.days.test.yml');
  expect(tested.said).toContain('SUCCESS');
  expect(tested.code).toBe(0);
});

test.skipIf(!runs)('a rule that is broken, or does not fire, is found', async () => {
  await writeFile(path.join(folder, 'alerts.test.yml'), await readFile(path.join(ops, 'alerts.test.yml')));
  await writeFile(path.join(folder, 'alerts.yml'), rules.replace('max(keyring_projects_overdue) > 0', 'max((> 0'));
  expect(promtool(folder, 'check', 'rules', 'alerts.yml').code).not.toBe(0);
  await writeFile(
    path.join(folder, 'alerts.yml'),
    rules.replace('max(keyring_projects_overdue) > 0', 'max(keyring_projects_overdue) > 9'),
  );
  expect(promtool(folder, 'test', 'rules', 'alerts.test.yml').code).not.toBe(0);
});

test.skipIf(!runs)('the expressions of the dashboard are PromQL', async () => {
  const { panels } = JSON.parse(await readFile(path.join(root, 'ops/grafana/keyring.json'), 'utf8')) as {
    panels: { targets: { expr: string }[] }[];
  };
  const recorded = panels.flatMap(({ targets }) =>
    targets.map(({ expr }, index) => `      - { record: 'x:${String(index)}', expr: ${JSON.stringify(expr)} }`),
  );
  await writeFile(path.join(folder, 'panels.yml'), `groups:\n  - name: panels\n    rules:\n${recorded.join('\n')}\n`);
  expect(promtool(folder, 'check', 'rules', '--lint=none', 'panels.yml')).toMatchObject({ code: 0 });
});

test.skipIf(!runs)('a real Prometheus scrapes a running server, and fires when a secret does not open', async () => {
  await using place = await makePlace();
  const projectId = await fillProject(place.keyring, 'scraped', 5);
  await using server = await startServer(place.environment);
  const token = (await place.authorization()).replace('Bearer ', '');
  await using prometheus = await startPrometheus({
    target: new URL(server.url).host,
    token,
    // As they ship, but for their patience.
    rules: rules.replaceAll(/for: \d+[mh]/g, 'for: 1s'),
  });
  await expect.poll(() => prometheus.target()).toMatchObject({ health: 'up', lastError: '' });
  await expect.poll(() => prometheus.query('keyring_projects')).toEqual([1]);
  expect((await prometheus.alerts()).map(({ labels }) => labels['alertname'])).not.toContain('KeyringQuarantine');

  const [broken] = await query<{ id: string }>(
    place.database.adminUrl,
    `select id from public.secrets where project_id = $1 limit 1`,
    [projectId],
  );
  await query(
    place.database.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false))
     update public.secrets set value_encrypted = set_byte(value_encrypted, 40, get_byte(value_encrypted, 40) # 1)
     from off where id = $1`,
    [broken?.id],
  );
  await place.keyring.rotations.request({ projects: [projectId] });
  const firing = async (): Promise<unknown[]> =>
    (await prometheus.alerts()).filter(
      ({ state, labels }) =>
        state === 'firing' && ['KeyringQuarantine', 'KeyringRotationBlocked'].includes(labels['alertname'] ?? ''),
    );
  await expect.poll(firing, { interval: 500 }).toMatchObject([
    { labels: { alertname: 'KeyringRotationBlocked', severity: 'warning' } },
    {
      labels: { alertname: 'KeyringQuarantine', severity: 'critical' },
      annotations: { summary: '1 secrets do not open.', runbook: 'docs/runbooks/a-row-does-not-open.md' },
    },
  ]);
  await expect.poll(() => prometheus.query('keyring_secrets_reencrypted_total')).toEqual([4]);
});
