import { expect, it } from 'vitest';
import { readSettings } from '../src/lib/server/env.ts';
import { refuse } from '../src/lib/server/guard.ts';

const ask = (headers: Record<string, string>, method = 'GET', allowed: string[] = []) =>
  refuse(new Request('http://127.0.0.1:8080/', { method, headers }), allowed)?.status;

it.each(['127.0.0.1', '127.0.0.1:8080', 'localhost', 'LOCALHOST:1', '[::1]:8080'])('%s is our name', (host) => {
  expect(ask({ host })).toBeUndefined();
});

it.each([
  '',
  'evil.example',
  'evil.example:8080',
  '127.0.0.1.evil.example',
  'localhost.evil.example',
  '127.0.0.2',
  '[::2]',
])('a page at http://%s cannot reach us by pointing that name here', (host) => {
  expect(ask({ host })).toBe(403);
  expect(ask({ host }, 'POST')).toBe(403);
});

it('a name that was allowed is ours', () => {
  expect(ask({ host: 'keys.internal:443' }, 'GET', ['keys.internal'])).toBeUndefined();
});

it.each([
  ['no origin: a program', {}, undefined],
  ['our own', { origin: 'http://127.0.0.1:8080' }, undefined],
  ['another port', { origin: 'http://127.0.0.1:3000' }, 403],
  ['another site', { origin: 'https://evil.example' }, 403],
  ['a sandboxed frame', { origin: 'null' }, 403],
  ['nonsense', { origin: '::' }, 403],
  ['a cross-site request without origin', { 'sec-fetch-site': 'cross-site' }, 403],
  ['the page itself', { origin: 'http://127.0.0.1:8080', 'sec-fetch-site': 'same-origin' }, undefined],
])('a change from %s', (_, headers, status) => {
  const host = '127.0.0.1:8080';
  expect(ask({ host, ...headers }, 'POST')).toBe(status);
  expect(ask({ host, ...headers }, 'DELETE')).toBe(status);
  expect(ask({ host, ...headers }, 'GET')).toBeUndefined();
});

it('the settings have defaults, and a port is a port', () => {
  expect(readSettings({})).toEqual({
    port: 8080,
    host: '127.0.0.1',
    allowedHosts: ['127.0.0.1'],
    databaseUrl: undefined,
    rootKeyUri: undefined,
    nextRootKeyUri: undefined,
    auditCheckpoint: undefined,
    environment: {},
    logFormat: 'text',
    logLevel: 'info',
    preparedStatements: true,
    jwt: undefined,
    notificationsAllow: '',
    home: '.meshhook',
  });
  expect(readSettings({ HOST: '0.0.0.0', MESHHOOK_ALLOWED_HOSTS: 'Keys.internal, x ,' }).allowedHosts).toEqual([
    'keys.internal',
    'x',
  ]);
  expect(readSettings({ PORT: '' }).port).toBe(8080);
  expect(readSettings({ MESHHOOK_PREPARED_STATEMENTS: 'off' }).preparedStatements).toBe(false);
  expect(() => readSettings({ LOG_FORMAT: 'xml' })).toThrow('LOG_FORMAT');
  expect(() => readSettings({ MESHHOOK_PREPARED_STATEMENTS: 'no' })).toThrow('MESHHOOK_PREPARED_STATEMENTS');
  for (const PORT of ['x', '-1', '65536', '80.5']) {
    expect(() => readSettings({ PORT })).toThrow(expect.objectContaining({ code: 'invalid_argument' }) as Error);
  }
});
