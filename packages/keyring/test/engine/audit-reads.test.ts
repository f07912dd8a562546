import { randomUUID } from 'node:crypto';
import { pgDatabase } from '@meshhook/keyring';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Statement } from '../../src/db/port.ts';
import { ReadSummaries } from '../../src/audit/reads.ts';
import { startInstallation, type Installation } from './support/installation.ts';

let installation: Installation;
beforeEach(async () => {
  installation = await startInstallation();
});
afterEach(() => installation.end());

test('reads by services are counted by reader and project, and written at the end: never an entry for a read', async () => {
  const keyring = await installation.open({ actor: 'first' });
  const other = keyring.as({ name: 'second', kind: 'service', address: '192.0.2.1' });
  const { id: one } = await keyring.projects.create({ name: 'one' });
  const { id: two } = await keyring.projects.create({ name: 'two' });
  for (const id of [one, two]) await keyring.secrets.put(id, 'A', 'value');
  for (let read = 0; read < 50; read++) await keyring.secrets.get(one, 'A');
  for (let read = 0; read < 7; read++) await other.secrets.get(one.toUpperCase(), 'A');
  await other.secrets.get(two, 'A');
  await keyring.secrets.get(two, 'not there');
  // On the record at once, and not counted.
  await other.secrets.reveal(two, 'A', { reason: 'ticket 1' });
  expect(await keyring.audit.list({ action: 'secret.read' })).toEqual([]);
  await keyring.close();

  const after = await installation.open();
  const found = await after.audit.list({ action: 'secret.read' });
  expect(found.map(({ actor, projectId, details }) => [actor, projectId, details['reads']]).toSorted()).toEqual(
    [
      ['first', one, 50],
      ['second', one, 7],
      ['second', two, 1],
    ].toSorted(),
  );
  expect(found.every(({ details }) => Date.parse(String(details['to'])) >= Date.parse(String(details['from'])))).toBe(
    true,
  );
  expect(await after.audit.list({ action: 'secret.revealed' })).toMatchObject([
    { actor: 'second', reason: 'ticket 1' },
  ]);
  await after.close();
});

test('what is told apart is bounded, and nothing is lost when it cannot be written at first', async () => {
  let down = true;
  const shared = pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 1 });
  const database = {
    query: ((statement: Statement) =>
      down ? Promise.reject(new Error('down')) : shared.query(statement)) as typeof shared.query,
  };
  const reads = new ReadSummaries(database, { heartbeatMs: 1, now: () => new Date() });
  const [broken, whole] = ['a', 'b'].map((name) => reads.by({ name, kind: 'service' })) as [
    (id: string) => void,
    (id: string) => void,
  ];
  broken(randomUUID());
  for (let project = 0; project < 3_000; project++) whole(randomUUID());
  await expect(reads.flush()).rejects.toThrow('down');
  down = false;
  await reads.close();
  await shared.close();
  const [told] = await installation.sql<{ entries: number; together: number; reads: number }>(
    `select count(*)::int as entries, count(*) filter (where subject = 'projects:others')::int as together,
       sum((details ->> 'reads')::int)::int as reads
     from keyring.audit_log where action = 'secret.read'`,
  );
  expect(told).toEqual({ entries: 2_001, together: 1, reads: 3_001 });
});

test('reads are neither lost nor counted twice when statements fail in the middle, whoever reads and flushes meanwhile', async () => {
  const keyring = await installation.open();
  let statements = 0;
  const flaky = {
    query: ((statement: Statement) => {
      statements += 1;
      return statements % 3 === 2 ? Promise.reject(new Error('down')) : shared.query(statement);
    }) as never,
  };
  const shared = pgDatabase({ connectionString: installation.test.serviceUrl, maxConnections: 2 });
  const began = new Date();
  const reads = new ReadSummaries(flaky, { heartbeatMs: 3_600_000, now: () => new Date() });
  const readers = ['a', 'b', 'c'].map((name) => reads.by({ name, kind: 'service' }));
  const projects = Array.from({ length: 700 }, () => randomUUID());
  await Promise.all(
    readers.map(async (read) => {
      for (const id of projects) {
        read(id);
        if (id.startsWith('00')) await reads.flush().catch(() => undefined);
      }
    }),
  );
  while (
    await reads.flush().then(
      () => false,
      () => true,
    )
  );
  await reads.close();
  const [sum] = await installation.sql<{ reads: number; lies: number }>(
    `select sum((details ->> 'reads')::int)::int as reads,
       count(*) filter (where (details ->> 'from')::timestamptz < $1 or (details ->> 'to')::timestamptz > now())::int as lies
     from keyring.audit_log where action = 'secret.read'`,
    [began],
  );
  expect(sum).toEqual({ reads: 3 * 700, lies: 0 });
  await shared.close();
  await keyring.close();
});
