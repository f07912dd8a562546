import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Pool } from 'pg';
import { expect, test } from 'vitest';
import { startInstallation } from '../engine/support/installation.ts';
import { expectHealthy } from '../engine/support/world.ts';

const marker = '<!-- run by packages/keyring/test/secrets/columns-page.test.ts -->';

/** The marked blocks of docs/columns.md, as they stand there. */
async function blocks(language: 'sql' | 'js'): Promise<string[]> {
  const text = await readFile(path.join(import.meta.dirname, '../../../../docs/columns.md'), 'utf8');
  const found = text
    .split(marker)
    .slice(1)
    .map((part) => /```(\w+)\n([^]*?)```/.exec(part) ?? []);
  return found.filter(([, of]) => of === language).map(([, , code = '']) => code);
}

test('the page on columns registers one, writes to it in both ways, and reads both values', async () => {
  const installation = await startInstallation();
  const keyring = await installation.open();
  const pool = new Pool({ connectionString: installation.test.serviceUrl, max: 2 });
  try {
    const { id: projectId } = await keyring.projects.create({ name: 'acme' });
    await installation.asOwner(
      `create table public.webhooks (id bigint primary key,
         project_id uuid not null references public.projects on delete cascade, url text not null)`,
      ...(await blocks('sql')),
    );
    await pool.query('insert into public.webhooks values (42, $1, $2)', [projectId, 'https://example.com/first']);

    const code = await blocks('js');
    expect(code).toHaveLength(2);
    // The page's own code, from this repository.
    // eslint-disable-next-line @typescript-eslint/no-implied-eval
    const run = new Function('keyring', 'pool', 'projectId', `return (async () => {${code.join('\n')}})()`) as (
      ...args: unknown[]
    ) => Promise<void>;
    await run(keyring, pool, projectId);

    for (const rowId of [42, 43]) {
      const read = await keyring.columns.get('webhooks.signing_secret', { projectId, rowId });
      expect(read?.value).toBe('whsec_…');
    }
    await expectHealthy(keyring);
  } finally {
    await pool.end();
    await installation.end();
  }
});
