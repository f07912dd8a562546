import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { startScratchCluster } from '../src/scratch.ts';
import { isUp, openFolder, startHolder } from './support/holders.ts';
import { longTest } from '../../../test/support/long.ts';
import { canRun } from '../../../test/support/required.ts';

const debian15 = '/usr/lib/postgresql/15/bin';

test('a scratch cluster keeps what was committed over an immediate stop, and its port', async () => {
  const scratch = await startScratchCluster();
  try {
    const { port } = scratch;
    await query(scratch.adminUrl(), 'create table kept as select 7 as n');
    await scratch.restart('immediate');
    expect(scratch.port).toBe(port);
    expect(await query(scratch.adminUrl(), 'select n from kept')).toEqual([{ n: 7 }]);
    expect(await readFile(scratch.logFile, 'utf8')).toContain('automatic recovery in progress');
  } finally {
    await scratch.stop();
  }
  expect(existsSync(scratch.dataDirectory)).toBe(false);
  await scratch.stop();
});

test('a scratch cluster is stopped after the restart that is under way, and is not started again', async () => {
  const scratch = await startScratchCluster();
  const restarted = scratch.restart('immediate');
  await Promise.all([scratch.stop(), expect(restarted).resolves.toBeUndefined()]);
  expect(existsSync(path.dirname(scratch.dataDirectory))).toBe(false);
  await expect(scratch.restart()).rejects.toThrow('was told to stop');
});

longTest('a scratch cluster whose process was killed is cleared away by the next', async () => {
  const baseDirectory = await openFolder();
  const script = path.join(import.meta.dirname, 'support/abandon.ts');
  const abandoned = startHolder(baseDirectory, { script });
  const [line] = (await abandoned.child.stdout.toArray()) as Buffer[];
  await abandoned.exit;
  const dataDirectory = String(line).trim();
  expect(await isUp(dataDirectory)).toBe(true);
  const next = await startScratchCluster({ baseDirectory });
  expect(await isUp(dataDirectory)).toBe(false);
  expect(existsSync(dataDirectory)).toBe(false);
  await next.stop();
});

const has15 = canRun('pg15', existsSync(debian15), `there is no PostgreSQL 15 in ${debian15}`);
test.skipIf(!has15)('PostgreSQL 15 does as well', async () => {
  const scratch = await startScratchCluster({ binDirectory: debian15, settings: { max_connections: '20' } });
  try {
    expect(scratch.version).toMatch(/^15\./);
    const rows = await query(
      scratch.adminUrl(),
      `select current_setting('max_connections') as most, datcollate as locale
      from pg_database where datname = 'postgres'`,
    );
    expect(rows).toEqual([{ most: '20', locale: 'C.UTF-8' }]);
  } finally {
    await scratch.stop();
  }
});
