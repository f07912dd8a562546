import { afterAll, beforeAll, expect, it } from 'vitest';
import { openApi, tokens, type Api } from './support/api.ts';

let api: Api;
beforeAll(async () => (api = await openApi()));
afterAll(() => api[Symbol.asyncDispose]());

const send = (method: string, address: string, body?: unknown, token: string = tokens.admin) =>
  api.send(method, address, body, { authorization: `Bearer ${token}` });
const address = '/api/notifications';
const url = 'https://example.test/hooks';

it('an endpoint is set, tried and given up, and its secret is in one answer', async () => {
  expect((await send('GET', address)).json).toEqual({ endpoint: null });
  expect((await send('POST', `${address}/test`)).status).toBe(409);
  const set = await send('PUT', address, { url, events: ['rotation.failed'] });
  expect(set.json).toMatchObject({
    endpoint: { url, events: ['rotation.failed'] },
    secret: expect.stringMatching(/^whsec_/),
  });
  expect((await send('PUT', address, { url })).json).toMatchObject({ secret: null });
  expect((await send('GET', address)).text).not.toContain('whsec_');
  const test = await send('POST', `${address}/test`);
  expect(test).toMatchObject({ status: 202, json: { event: 'test', state: 'pending', attempts: 0 } });
  expect((await send('GET', `${address}/log`)).json).toEqual({ notifications: [test.json], next: null });
  expect((await send('DELETE', address)).json).toEqual({ endpoint: null });
  expect((await send('DELETE', address)).status).toBe(409);
});

it('what makes no sense, and who may not, is refused', async () => {
  expect((await send('PUT', address, { url: 'https://a:b@example.test/' })).status).toBe(400);
  expect((await send('PUT', address, { url, events: ['everything'] })).status).toBe(400);
  expect((await send('GET', address, undefined, 'nobody')).status).toBe(401);
});
