import { openRootKey } from '@meshhook/keyring';
import { expect } from 'vitest';
import { startInstallation } from '../../../packages/keyring/test/engine/support/installation.ts';
import { expectEverySecretFresh, expectHealthy } from '../../../packages/keyring/test/engine/support/world.ts';
import { always, inCalm, requireLaws } from './laws.ts';
import type { Site } from './site.ts';

/**
 * What must be true after any storm: every acknowledged value is there, itself, and under its project's primary version;
 * nothing else is there; every state is a legal one; and whatever ended has its entry in the trail.
 */
export async function expectCalm({ test, rootKey, models }: Site): Promise<void> {
  const installation = await startInstallation({ test, rootKey: await openRootKey(rootKey, { cwd: '.' }) });
  try {
    const reader = await installation.open();
    const projects = models.map(({ known }) => ({
      id: known.projectId,
      name: known.projectId,
      secrets: known.values,
      webhooks: new Map<string, string>(),
    }));
    // A project whose last secret was removed has no row that could be stale.
    await expectEverySecretFresh(
      installation,
      reader,
      projects.filter(({ secrets }) => secrets.size > 0),
    );
    await requireLaws({ ...always, ...inCalm }, (text) => installation.sql(text));
    expect(await reader.quarantine.list()).toEqual([]);
    await expectHealthy(reader);
  } finally {
    await installation.end();
  }
}
