import { afterAll, beforeAll, expect, it } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openApi, type Api } from './support/api.ts';

const ENTRIES = 20_000;

let api: Api;

beforeAll(async () => {
  api = await openApi();
  await query(
    api.adminUrl,
    `insert into keyring.audit_log (actor, action, outcome, subject)
     select 'test', 'test.noted', 'succeeded', 'test:' || n from generate_series(1, ${String(ENTRIES)}) n`,
  );
});
afterAll(() => api[Symbol.asyncDispose]());

async function exportBy(token: string): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  const headers = { authorization: `Bearer ${token}` };
  const response = await api.fetch(new Request('http://x/api/audit/export?actor=test', { headers }));
  expect(response.status).toBe(200);
  return response.body!.getReader();
}

/** How many lines are left to read; rejects when it is cut off. */
async function linesLeft(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<number> {
  let lines = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return lines;
    lines += value.filter((byte) => byte === 0x0a).length;
  }
}

it('a long export goes to its end for who may read on, and is cut off once its token is revoked', async () => {
  // A token may do no more than its person.
  await api.keyring.access.grants.add({ person: 'person:eve', role: 'auditor' });
  const made = await api.keyring.access.tokens.create({
    ...{ name: 'exporter', permissions: ['audit:read'], projects: 'all', person: 'person:eve' },
  });
  expect(await linesLeft(await exportBy(made.token))).toBe(ENTRIES);
  const reader = await exportBy(made.token);
  await reader.read();
  await api.keyring.access.tokens.revoke(made.entry.id);
  await expect(linesLeft(reader)).rejects.toThrow('The permission "audit:read" is missing.');
});
