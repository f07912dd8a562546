import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { MonitoringFacts } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { exposition } from '../src/metrics.ts';
import { tokenDigest } from '../src/index.ts';
import { openApi, tokens, type Api } from './support/api.ts';

const scraper = 'mhk_scraper';

let api: Api;
let projectId: string;
beforeAll(async () => {
  api = await openApi({
    tokens: [
      { name: 'prometheus', digest: tokenDigest(scraper), scopes: ['instance:read'] },
      { name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['keys:read', 'audit:read'] },
    ],
  });
  projectId = (await api.keyring.projects.create({ name: 'acme-metrics' })).id;
  await api.keyring.secrets.put(projectId, 'STRIPE_KEY', 'sk_live_never_in_a_metric');
  const { id } = await api.keyring.rotations.request({ projects: [projectId] });
  await api.keyring.rotations.run(id);
});
afterAll(() => api[Symbol.asyncDispose]());

const scrape = () => api.send('GET', '/metrics', undefined, { authorization: `Bearer ${scraper}` });
const metricsOf = async (): Promise<string> => (await scrape()).text;

/** The value of a sample, or undefined. */
function sample(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const line = text
    .split('\n')
    .find(
      (candidate) =>
        (candidate.startsWith(`${name} `) || candidate.startsWith(`${name}{`)) &&
        Object.entries(labels).every(([label, value]) => candidate.includes(`${label}="${value}"`)),
    );
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
}

it('a scrape says what was rotated, and of which content type it is', async () => {
  const answer = await scrape();
  expect(answer).toMatchObject({ status: 200 });
  expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const { text } = answer;
  expect(sample(text, 'keyring_rotations_total', { outcome: 'completed', trigger: 'manual' })).toBe(1);
  expect(sample(text, 'keyring_rotation_duration_seconds_bucket', { le: '+Inf' })).toBe(1);
  expect(sample(text, 'keyring_secrets_reencrypted_total')).toBe(1);
  expect(sample(text, 'keyring_projects')).toBe(1);
  expect(sample(text, 'keyring_database_reachable')).toBe(1);
});

it('a failure that has not happened yet is a series all the same, so that a rule sees it begin', async () => {
  const text = await metricsOf();
  expect(sample(text, 'keyring_rotations_total', { kind: 'data_key', trigger: 'usage', outcome: 'failed' })).toBe(0);
  expect(sample(text, 'keyring_rotations_open', { state: 'blocked' })).toBe(0);
  expect(sample(text, 'keyring_quarantined_secrets', { reason: 'does_not_open' })).toBe(0);
});

it('no scrape holds a name, an id, a URI or a value', async () => {
  const text = await metricsOf();
  const { id } = (await api.keyring.rotations.list())[0] ?? { id: '' };
  for (const told of ['acme', 'STRIPE', 'never_in_a_metric', projectId, id, 'root.key', '/', '://']) {
    expect(text).not.toContain(told);
  }
  expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
});

it('whoever may not read here is told no number', async () => {
  const none = await api.send('GET', '/metrics', undefined, { authorization: '' });
  expect(none).toMatchObject({ status: 401, json: { code: 'unauthenticated' } });
  const other = await api.send('GET', '/metrics', undefined, { authorization: `Bearer ${tokens.reader}` });
  expect(other).toMatchObject({ status: 403, json: { code: 'forbidden' } });
});

it('every metric is in docs/monitoring.md, and every metric there exists', async () => {
  const docs = readFileSync(path.join(import.meta.dirname, '../../../docs/monitoring.md'), 'utf8');
  const documented = [...docs.matchAll(/^\| `(keyring_\w+)`/gm)].map(([, name]) => name);
  const facts = await api.keyring.monitoring.facts();
  const shown = [...(await exposition(facts)).matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name);
  expect(documented.toSorted()).toEqual(shown.toSorted());
});

it('without a database it says so, and what the process knows', async () => {
  const facts: MonitoringFacts = { ...(await api.keyring.monitoring.facts()), database: undefined, fleet: undefined };
  const text = await exposition(facts);
  expect(sample(text, 'keyring_database_reachable')).toBe(0);
  expect(sample(text, 'keyring_key_cache_hits_total')).toBeGreaterThan(0);
  expect(sample(text, 'keyring_root_key_unwraps_total', { scheme: 'file' })).toBe(1);
  expect(text).not.toContain('keyring_rotations_total');
});

it('the report is streamed to whoever may read the trail of all projects, as JSON and as CSV', async () => {
  const as = (token: string, address: string) =>
    api.send('GET', address, undefined, { authorization: `Bearer ${token}` });
  const json = await as(tokens.reader, '/api/report?since=2026-01-01');
  expect(json).toMatchObject({ status: 200, json: { rotations: [{ kind: 'data_key', outcome: 'completed' }] } });
  const csv = await as(tokens.reader, '/api/report?since=2026-01-01T00:00:00Z&format=csv&only=keys');
  expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8');
  expect(csv.text.trimEnd().split('\r\n')).toHaveLength(5);
  expect(csv.text).not.toContain('never_in_a_metric');

  expect(await as(scraper, '/api/report?since=2026-01-01')).toMatchObject({ status: 403 });
  for (const wrong of ['', '?since=yesterday', '?since=2026-01-01&until=2025-01-01', '?since=2026-01-01&all=1']) {
    expect(await as(tokens.reader, `/api/report${wrong}`)).toMatchObject({
      status: 400,
      json: { code: 'invalid_argument' },
    });
  }
});
