import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyReceipt } from '@meshhook/keyring';
import { query } from '../../../test/support/database.ts';
import { openApi, tokens, type Answer, type Api } from './support/api.ts';

// Every route once, in the order in which an operator would use them; then what no answer may hold.
const reason = { reason: 'walk' };
const bytes = Buffer.from([0xff, 0x00, 0xfe]).toString('base64');
const values = ['sk_live_walk_1', 'sk_live_walk_2'];

let api: Api;
const told: string[] = [];
const revealed: string[] = [];
beforeAll(async () => (api = await openApi()));
afterAll(() => api[Symbol.asyncDispose]());

async function send(method: string, address: string, status: number, body?: unknown): Promise<Answer> {
  const answer = await api.send(method, address, body, { authorization: `Bearer ${tokens.admin}` });
  const seen = `${method} ${address} → ${String(answer.status)} ${answer.text.slice(0, 300)}`;
  expect(answer.status, seen).toBe(status);
  (address.endsWith('/reveal') ? revealed : told).push(answer.text, JSON.stringify([...answer.headers]));
  return answer;
}
const get = (address: string) => send('GET', address, 200);
const post = (address: string, body?: unknown, status = 200) => send('POST', address, status, body);

it('projects and secrets: made, listed page by page, revealed on the record, deleted', async () => {
  const made = await post('/api/projects', { name: 'acme' }, 201);
  expect(made.headers.get('location')).toBe(`/api/projects/${made.json.id}`);
  await post('/api/projects', { name: 'zebra Crossing' }, 201);
  expect((await get('/api/projects?search=CROSS')).json.projects).toMatchObject([{ name: 'zebra Crossing' }]);
  const first = await get('/api/projects?limit=1');
  expect(first.json.projects).toMatchObject([{ name: 'acme' }]);
  const second = await get(`/api/projects?limit=1&cursor=${first.json.next ?? ''}`);
  expect(second.json).toMatchObject({ projects: [{ name: 'zebra Crossing' }], next: null });
  expect((await get(`/api/projects/${made.json.id}`)).json).toMatchObject({ name: 'acme' });

  const secrets = '/api/projects/acme/secrets';
  await send('PUT', `${secrets}/STRIPE`, 201, { value: values[0] });
  await send('PUT', `${secrets}/STRIPE`, 200, { value: values[1] });
  await send('PUT', `${secrets}/${encodeURIComponent('a/b ü')}`, 201, { value: bytes, encoding: 'base64' });
  await send('PUT', `${secrets}/BAD`, 400, { value: 'not base64!', encoding: 'base64' });
  const one = await get(`${secrets}?limit=1`);
  expect(one.json.secrets).toMatchObject([{ name: 'STRIPE', version: 1, stale: false }]);
  expect((await get(`${secrets}?limit=1&cursor=${one.json.next ?? ''}`)).json.secrets).toMatchObject([
    { name: 'a/b ü' },
  ]);
  const shown = await post(`${secrets}/STRIPE/reveal`, reason);
  expect(shown.json).toMatchObject({ name: 'STRIPE', value: values[1], encoding: 'utf8' });
  const binary = await post(`${secrets}/${encodeURIComponent('a/b ü')}/reveal`, reason);
  expect(binary.json).toMatchObject({ value: bytes, encoding: 'base64' });
  const entries = await api.keyring.audit.list();
  expect(entries.filter(({ action }) => action === 'secret.revealed')).toMatchObject([reason, reason]);
  // A service gets what it runs with by a token of its own, which gets nothing else.
  const service = { name: 'app', role: 'service', projects: ['acme'] };
  const { token } = (await post('/api/tokens', service, 201)).json as unknown as { token: string };
  const as = { authorization: `Bearer ${token}` };
  const resolved = await api.send('GET', `${secrets}/STRIPE`, undefined, as);
  expect(resolved).toMatchObject({ status: 200, json: { name: 'STRIPE', value: values[1], encoding: 'utf8' } });
  expect((await api.send('GET', `${secrets}/NONE`, undefined, as)).json.code).toBe('unknown_secret');
  for (const address of [secrets, '/api/keys', '/api/projects/acme', '/api/projects/zebra%20Crossing/secrets/STRIPE']) {
    expect([403, 404]).toContain((await api.send('GET', address, undefined, as)).status);
  }
  await send('GET', `${secrets}/STRIPE`, 403);
  await post(`${secrets}/STRIPE/reveal`, { reason: ' ' }, 400);
  await post(`${secrets}/NONE/reveal`, reason, 404);
  expect(revealed.length).toBeGreaterThan(0);
  await send('DELETE', `${secrets}/NONE`, 404);
  await send('DELETE', `${secrets}/${encodeURIComponent('a/b ü')}`, 204);
});

it('the trail: listed page by page, narrowed, exported, sealed and verified', async () => {
  const first = await get('/api/audit?limit=1&action=secret.*&project=acme');
  expect(first.json).toMatchObject({ entries: [{ action: 'secret.deleted', outcome: 'succeeded' }] });
  const second = await get(`/api/audit?limit=1&action=secret.*&project=acme&cursor=${first.json.next ?? ''}`);
  expect(second.json).toMatchObject({ entries: [{ action: 'secret.revealed', ...reason }] });
  const lines = (await get('/api/audit/export?action=secret.written')).text.trimEnd().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { action: string }).action)).toEqual(
    Array.from({ length: 3 }, () => 'secret.written'),
  );
  await api.keyring.audit.seal();
  const { checkpoint } = (await get('/api/audit/checkpoint')).json as unknown as {
    checkpoint?: { note: string; size: number };
  };
  expect((await post('/api/audit/verify', { checkpoint: checkpoint?.note })).json).toMatchObject({
    ...{ intact: true, problem: null, entries: checkpoint?.size, given: 'matches' },
  });
  await post('/api/audit/verify', { checkpoint: 'made up' }, 400);
  await send('GET', '/api/audit?action=everything', 400);
  await send('GET', '/api/audit?since=yesterday', 400);
});

it('a rotation: tried dry, asked for, slowed, paused, resumed, finished, its receipt verified', async () => {
  expect((await post('/api/keys/rotate', { all: true, dryRun: true })).json).toMatchObject({
    projects: 1,
    rows: 1,
    unreadableRows: 0,
  });
  expect((await get('/api/rotations')).json.rotations).toEqual([]);
  const { id } = (await post('/api/keys/rotate', { projects: ['acme'] }, 202)).json;
  const at = `/api/rotations/${id}`;
  await post(`${at}/pace`, { fullSpeed: true, maxRate: 1000 });
  expect((await post(`${at}/pause`)).json).toMatchObject({ state: 'paused' });
  expect((await get('/api/rotations?state=paused&project=acme')).json.rotations).toMatchObject([{ id }]);
  expect((await get('/api/rotations?state=running')).json.rotations).toEqual([]);
  expect((await get('/api/rotations?project=zebra%20Crossing')).json.rotations).toEqual([]);
  expect((await post(`${at}/resume`)).json).toMatchObject({ state: 'running' });
  await api.keyring.rotations.run(id);
  await post(`${at}/cancel`, undefined, 409);
  await post(`${at}/rollback`, undefined, 409);
  const { receipts } = (await get(`${at}/receipts`)).json;
  expect(receipts).toHaveLength(1);
  const projectId = receipts[0]?.projectId ?? '';
  const receipt = await get(`${at}/receipts/${projectId}`);
  expect(verifyReceipt(receipt.json).content).toMatchObject({ rotation: id, outcome: 'completed' });
  await send('GET', `${at}/receipts/${id}`, 404);

  const canceled = (await post('/api/keys/rotate', { match: { madeBefore: new Date().toISOString() } }, 202)).json.id;
  expect((await post(`/api/rotations/${canceled}/cancel`)).json).toMatchObject({ state: 'canceled' });
  const turned = (await post('/api/keys/rotate', { all: true }, 202)).json.id;
  expect((await post(`/api/rotations/${turned}/rollback`)).json).toMatchObject({ state: 'rolling_back' });
  await api.keyring.rotations.run(turned);
  await post('/api/keys/rotate', { match: { due: true } }, 409);
});

it('keys: filtered, suspended, restored, compromised, exposed; not destroyed in their window', async () => {
  const old = (await get('/api/keys?status=deactivated')).json.keys[0];
  expect(old).toMatchObject({ version: 1, rows: 0 });
  expect((await get('/api/keys?due=true')).json.keys).toEqual([]);
  expect((await get('/api/keys?due=false&search=ACM')).json.keys).toMatchObject([{ version: 2, status: 'active' }]);
  expect((await get(`/api/keys/${old?.id ?? ''}`)).json).toEqual(old);
  const at = `/api/keys/${old?.id ?? ''}`;
  await post(`${at}/destroy`, reason, 409);
  expect((await post(`${at}/suspend`, reason)).json).toMatchObject({ status: 'suspended' });
  expect((await post(`${at}/restore`, reason)).json).toMatchObject({ status: 'deactivated' });
  expect((await post(`${at}/restore`, reason, 409)).json).toMatchObject({ code: 'illegal_state' });
  expect((await post(`${at}/compromise`, reason)).json).toMatchObject({
    key: { status: 'compromised' },
    rotation: null,
  });
  expect((await get(`${at}/exposure`)).json.secrets).toMatchObject([{ name: 'STRIPE' }, {}, {}]);
  expect((await get(`${at}/exposure`)).json).toMatchObject({ archivedUntil: null });
  const table = await get(`${at}/exposure?format=csv`);
  expect(table.headers.get('content-type')).toContain('text/csv');
  expect(table.text.split('\r\n')[0]).toBe('project,version,column,row,name,written,replaced');
  expect(table.text).not.toContain('INCOMPLETE');
  await query(api.adminUrl, `insert into keyring.audit_archives (through, note) values (1, 'of this test')`);
  expect((await get(`${at}/exposure`)).json).toMatchObject({ archivedUntil: expect.stringMatching(/Z$/) as string });
  expect((await get(`${at}/exposure?format=csv`)).text.split('\r\n')[1]).toMatch(/^acme,1,,,INCOMPLETE: .*archived/);
  await query(
    api.adminUrl,
    `with off as (select set_config('session_replication_role', 'replica', false)) delete from keyring.audit_archives using off`,
  );

  const emergency = await post('/api/keys/rotate', { projects: ['acme'], emergency: true, reason: 'leaked' }, 202);
  expect(emergency.json).toMatchObject({ trigger: 'compromise', pace: 'full' });
  await api.keyring.rotations.run(emergency.json.id);
  const active = (await get('/api/keys?status=active&project=acme')).json.keys[0];
  const again = await post(`/api/keys/${active?.id ?? ''}/compromise`, reason, 202);
  expect(again.headers.get('location')).toBe(`/api/rotations/${again.json.rotation.id}`);
  await api.keyring.rotations.run(again.json.rotation.id);

  const history = await get('/api/projects/acme/timeline?limit=500');
  expect(history.json.keys.length).toBeGreaterThan(3);
  expect(history.json.events.map(({ action }) => action)).toContain('key.compromised');
});

it('quarantine: listed, tried again, discarded', async () => {
  const acme = (await get('/api/projects/acme')).json.id;
  await send('PUT', '/api/projects/acme/secrets/BROKEN', 201, { value: 'a value that breaks' });
  await api.spoil(acme, 'BROKEN');
  expect((await post('/api/keys/rotate', { all: true, dryRun: true })).json).toMatchObject({ unreadableRows: 1 });
  const { id } = (await post('/api/keys/rotate', { projects: ['acme'], fullSpeed: true }, 202)).json;
  expect(await api.keyring.rotations.run(id)).toMatchObject({ state: 'blocked' });
  const { quarantine } = (await get(`/api/quarantine?project=acme&rotation=${id}`)).json;
  expect(quarantine).toMatchObject([{ projectId: acme, name: 'BROKEN', rotationId: id }]);
  expect((await post('/api/quarantine/retry', { project: 'acme' })).json).toMatchObject({
    tried: 1,
    opened: 0,
    resumed: [],
  });
  const { projectId, label, rowId } = quarantine[0] ?? {};
  await post('/api/quarantine/discard', { projectId, label, rowId, ...reason });
  await post('/api/quarantine/discard', { projectId, label, rowId, ...reason }, 404);
  expect((await post('/api/quarantine/retry', {})).json).toMatchObject({ resumed: [id] });
  expect(await api.keyring.rotations.run(id)).toMatchObject({ state: 'completed' });
});

it('processes, root keys and wrapping keys', async () => {
  expect((await get('/api/instances')).json.instances).toMatchObject([{ alive: true, actor: 'server' }]);
  expect((await get('/api/workers')).json.workers).toEqual([]);
  expect((await get('/api/root-keys')).json).toMatchObject({
    rootKeys: [{ scheme: 'file', usableHere: true }],
    backups: [],
    lastVerifiedBackupAt: null,
  });
  await get('/api/root-keys/rotations');
  const asked = await post('/api/wrapping-keys/rotate', reason, 202);
  const at = asked.headers.get('location') ?? '';
  expect(at).toBe(`/api/wrapping-keys/rotations/${asked.json.id}`);
  await post('/api/wrapping-keys/rotate', {}, 409);
  await post(`${at}/rollback`, undefined, 409);
  expect((await post(`${at}/cancel`)).json).toMatchObject({ state: 'canceled' });
  await post(`${at}/resume`, undefined, 409);
  const second = (await post('/api/wrapping-keys/rotate', {}, 202)).json.id;
  await api.keyring.wrappingKeys.run(second);
  expect((await get(`/api/wrapping-keys/rotations/${second}`)).json).toMatchObject({ state: 'completed' });
  await get('/api/wrapping-keys/rotations');
  const [, old] = (await get('/api/wrapping-keys')).json.wrappingKeys;
  expect((await post(`/api/wrapping-keys/${old?.id ?? ''}/destroy`, reason)).json).toMatchObject({
    state: 'destroyed',
  });
});

it('no answer held a value, a ciphertext, a wrapped key, or where a root key is', async () => {
  const stored = await query<{ bytes: Buffer }>(
    api.adminUrl,
    `select value_encrypted as bytes from public.secrets where value_encrypted is not null
     union all select wrapped_key from keyring.encryption_keys where wrapped_key is not null
     union all select wrapped from keyring.wrapped_wrapping_keys
     union all select wrapped_key from keyring.signing_keys`,
  );
  expect(stored.length).toBeGreaterThan(3);
  const forbidden = [
    ...values,
    ...stored.flatMap(({ bytes: one }) => [one.toString('base64'), one.toString('hex'), one.toString('base64url')]),
    'root.key',
    'file:',
  ];
  const text = told.join('\n');
  for (const secret of forbidden) expect(text.includes(secret), secret).toBe(false);
  // The same search finds what is there.
  expect(revealed.join('\n')).toContain(values[1]);
});
