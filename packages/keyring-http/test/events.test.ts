import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { session } from '../../../test/support/database.ts';
import { keyringHandler, SESSION_COOKIE, tokenDigest } from '../src/index.ts';
import { openApi, tokens, type Api } from './support/api.ts';

interface SeenEvent {
  readonly id: string;
  readonly event: string;
  readonly data: {
    readonly rotation: { readonly state: string; readonly rows: { readonly moved: number } };
    readonly remaining: number;
    readonly rate: number | null;
    readonly secondsLeft: number | null;
    readonly reads: { readonly medianMs: number; readonly slowestMs: number } | null;
  };
}

/** What an EventSource would make of a stream. */
class Listener {
  readonly events: SeenEvent[] = [];
  comments = 0;
  ended = false;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
    this.#read().catch(() => undefined);
  }

  close = () => this.#reader.cancel();

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
    }
    this.ended = true;
  }

  #take(block: string): void {
    if (block === ':') this.comments += 1;
    const fields = new Map(block.split('\n').map((line) => line.split(/: (.*)/s, 2) as [string, string]));
    const data = fields.get('data');
    if (data === undefined) return;
    const { id = '', event = '' } = Object.fromEntries(fields) as { id?: string; event?: string };
    this.events.push({ id, event, data: JSON.parse(data) as SeenEvent['data'] });
  }
}

const fast = { pollMs: 10, heartbeatMs: 20 };
let api: Api;
let id: string;
const open: Listener[] = [];
beforeEach(async () => {
  api = await openApi({ events: fast });
  const project = await api.keyring.projects.create({ name: 'acme' });
  for (let n = 0; n < 30; n++) await api.keyring.secrets.put(project.id, `S${String(n)}`, 'value');
  id = (await api.keyring.rotations.request({ projects: 'all', trigger: 'api' })).id;
});
afterEach(async () => {
  for (const listener of open.splice(0)) await listener.close();
  await api[Symbol.asyncDispose]();
});

async function listen(handler: Api['fetch'], headers: Record<string, string> = {}): Promise<Listener> {
  const response = await handler(request(headers));
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  if (response.body === null) throw new Error('no stream');
  const listener = new Listener(response.body);
  open.push(listener);
  return listener;
}

function request(headers: Record<string, string> = {}, init: RequestInit = {}): Request {
  return new Request(`http://x/api/rotations/${id}/events`, {
    ...init,
    headers: { authorization: `Bearer ${tokens.reader}`, ...headers },
  });
}

describe('the events of a rotation', () => {
  it('tell its state, its progress and its end, then stop', async () => {
    const listener = await listen(api.fetch);
    await expect.poll(() => listener.events.length).toBe(1);
    expect(listener.events[0]).toMatchObject({ event: 'state', data: { rotation: { id, state: 'requested' } } });
    await api.keyring.rotations.setPace(id, { maxRate: 60 });
    await expect.poll(() => listener.events.length).toBe(2);
    expect(listener.events[1]).toMatchObject({ event: 'progress', data: { rotation: { maxRate: 60 } } });
    // While somebody holds a row it cannot end before it was seen to run.
    await using holder = await session(api.adminUrl, 'holder');
    await holder.query('begin');
    await holder.query('select from public.secrets limit 1 for update');
    const running = api.keyring.rotations.run(id);
    const states = () =>
      listener.events.filter(({ event }) => event === 'state').map(({ data }) => data.rotation.state);
    await expect.poll(states).toContain('running');
    await holder.query('rollback');
    await running;
    await expect.poll(() => listener.ended).toBe(true);
    const last = listener.events.at(-1);
    expect(last).toMatchObject({ event: 'finished', data: { rotation: { state: 'completed' }, remaining: 0 } });
    const moved = listener.events.map(({ data }) => data.rotation.rows.moved);
    expect(moved).toEqual(moved.toSorted((a, b) => a - b));
    expect(new Set(listener.events.map((one) => one.id)).size).toBe(listener.events.length);
    expect(last?.data.rate).toBeGreaterThan(0);
  });

  it('tell how long ordinary reads take while it runs', async () => {
    const listener = await listen(api.fetch);
    // It stands still and runs: what changes is its cap.
    await api.keyring.rotations.pause(id);
    await api.keyring.rotations.resume(id);
    const reads = () => listener.events.flatMap((one) => (one.data.reads === null ? [] : [one.data.reads]));
    await expect
      .poll(async () => {
        await api.keyring.rotations.setPace(id, { maxRate: 100 + listener.events.length });
        return reads().length;
      })
      .toBeGreaterThan(0);
    for (const { medianMs, slowestMs } of reads()) {
      expect(medianMs).toBeGreaterThan(0);
      expect(slowestMs).toBeGreaterThanOrEqual(medianMs);
    }
    await api.keyring.rotations.pause(id);
    await expect.poll(() => listener.events.at(-1)).toMatchObject({ event: 'state', data: { reads: null } });
  });

  it('are told once: a listener that comes back, to any process, hears only what it does not know', async () => {
    const before = await listen(api.fetch);
    await expect.poll(() => before.events.length).toBe(1);
    await before.close();
    const elsewhere = keyringHandler({
      keyring: api.keyring,
      tokens: [{ name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] }],
      events: fast,
    });
    const again = await listen(elsewhere, { 'last-event-id': before.events[0]?.id ?? '' });
    await expect.poll(() => again.comments).toBeGreaterThan(1);
    expect(again.events).toEqual([]);
    await api.keyring.rotations.pause(id);
    await expect.poll(() => again.events.length).toBe(1);
    expect(again.events[0]).toMatchObject({ event: 'state', data: { rotation: { state: 'paused' } } });

    const stranger = await listen(elsewhere, { 'last-event-id': 'paused.nonsense' });
    await expect.poll(() => stranger.events.length).toBe(1);
    await api.keyring.rotations.resume(id);
    await api.keyring.rotations.run(id);
    await expect.poll(() => again.ended && stranger.ended).toBe(true);

    // Who was away at the end hears of it; who knows it is told to stay away.
    const late = await listen(elsewhere, { 'last-event-id': again.events[0]?.id ?? '' });
    await expect.poll(() => late.ended).toBe(true);
    expect(late.events).toMatchObject([{ event: 'finished' }]);
    const known = request({ 'last-event-id': late.events[0]?.id ?? '' });
    expect(await elsewhere(known)).toMatchObject({ status: 204, body: null });
  });

  it('cost one look at the database, however many listen, and none once nobody does', async () => {
    let looks = 0;
    let underWay = 0;
    let holding = false;
    const go = Promise.withResolvers<undefined>();
    const keyring = {
      ...api.keyring,
      rotations: {
        ...api.keyring.rotations,
        standing: async (which: string) => {
          looks += 1;
          underWay += 1;
          try {
            const standing = await api.keyring.rotations.standing(which);
            if (holding) await go.promise;
            return standing;
          } finally {
            underWay -= 1;
          }
        },
      },
    };
    const counted = keyringHandler({
      keyring: { ...keyring, as: () => api.keyring },
      tokens: [{ name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] }],
      events: { ...fast, maxStreams: 5 },
    });
    const listeners: Listener[] = [];
    for (let n = 0; n < 5; n++) listeners.push(await listen(counted));
    await expect.poll(() => looks).toBeGreaterThan(5);
    // While one look takes long there is no other, though each listener has been told meanwhile that somebody is there.
    holding = true;
    await expect.poll(() => underWay).toBeGreaterThan(0);
    const before = listeners.map(({ comments }) => comments);
    await expect.poll(() => listeners.every(({ comments }, n) => comments - (before[n] ?? 0) > 4)).toBe(true);
    expect(underWay).toBe(1);
    go.resolve(undefined);

    const refused = await counted(request());
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('5');
    expect(await refused.json()).toMatchObject({ code: 'too_many_streams' });
    for (const listener of listeners) await listener.close();
    await listen(counted).then((listener) => listener.close());
    const inAWhile = async (): Promise<number> => {
      const from = looks;
      await sleep(10 * fast.pollMs);
      return looks - from;
    };
    await expect.poll(inAWhile).toBe(0);
  });

  it('end with their lifetime, and when the database is away, so that the listener asks again', async () => {
    const short = keyringHandler({
      keyring: api.keyring,
      tokens: [{ name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] }],
      events: { ...fast, lifetimeMs: 50 },
    });
    const listener = await listen(short);
    await expect.poll(() => listener.ended).toBe(true);
    expect(listener.events).toHaveLength(1);

    const broken = keyringHandler({
      keyring: {
        ...api.keyring,
        as: () => api.keyring,
        rotations: { ...api.keyring.rotations, standing: () => Promise.reject(new Error('away')) },
      },
      tokens: [{ name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] }],
      events: fast,
    });
    const left = await listen(broken);
    await expect.poll(() => left.ended).toBe(true);
  });

  it('are told to nobody who may no more, from that moment on; and nobody takes all streams', async () => {
    const [project] = await api.keyring.projects.list();
    const made = await api.keyring.access.tokens.create({
      ...{ name: 'gone soon', permissions: ['keys:read'], projects: [project!.id], person: 'person:eve' },
    });
    const grant = { person: 'person:eve', role: 'auditor', projectId: project!.id } as const;
    const { id: granted } = await api.keyring.access.grants.add(grant);
    const { secret: link } = await api.keyring.access.sessions.createLink({ person: 'person:eve' });
    const opened = await api.keyring.access.sessions.open(link);
    const cookie = { authorization: '', cookie: `${SESSION_COOKIE}=${String(opened?.secret)}` };
    const bare = (headers: Record<string, string>) =>
      new Request(`http://x/api/rotations/${id}/events`, {
        headers: Object.fromEntries(Object.entries({ ...headers }).filter(([, value]) => value !== '')),
      });
    const few = keyringHandler({ keyring: api.keyring, tokens: [], events: { ...fast, maxStreamsEach: 2 } });
    const listeners: Listener[] = [];
    for (const headers of [{ authorization: `Bearer ${made.token}` }, cookie]) {
      const response = await few(bare(headers));
      expect(response.status).toBe(200);
      listeners.push(new Listener(response.body!));
    }
    open.push(...listeners);
    expect((await few(bare(cookie))).status).toBe(503);
    await expect.poll(() => listeners.map(({ events }) => events.length)).toEqual([1, 1]);
    const [byToken, bySession] = listeners as [Listener, Listener];

    await api.keyring.access.tokens.revoke(made.entry.id);
    await api.keyring.rotations.setPace(id, { maxRate: 60 });
    await expect.poll(() => bySession.events.length).toBe(2);
    await expect.poll(() => byToken.ended).toBe(true);
    expect(byToken.events).toHaveLength(1);
    // Where nothing is to be told, the next beat ends it.
    await api.keyring.access.grants.remove(granted);
    await expect.poll(() => bySession.ended).toBe(true);
    expect(bySession.events).toHaveLength(2);
    expect((await few(bare(cookie))).status).toBe(403);
  });

  it('of a rotation that is not there, or without a token, there are none', async () => {
    id = '00000000-0000-4000-8000-000000000000';
    expect((await api.fetch(request())).status).toBe(404);
    expect((await api.fetch(request({ authorization: '' }))).status).toBe(401);
  });
});
