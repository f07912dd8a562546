import { setTimeout as sleep } from 'node:timers/promises';
import { KeyringError } from '@meshhook/keyring';
import { isOutage } from '../../../packages/keyring/test/engine/support/known-names.ts';
import { discard } from './operator.ts';
import type { Site } from './site.ts';
import type { Storm } from './storm.ts';

const PATIENCE_MS = 300_000;

interface Open {
  readonly id: string;
  readonly state: string;
  readonly trigger: string;
}

/**
 * Drives everything that is open to an end: what does not open is discarded, suspended versions come back, and whoever rests
 * is resumed. The workers do the rest. @throws Error when that does not end.
 */
export async function settle(storm: Storm, site: Site): Promise<void> {
  const { operator, sql } = site;
  const deadline = Date.now() + PATIENCE_MS;
  const passing = async (work: Promise<unknown>, ...codes: string[]): Promise<void> => {
    await work.catch((error: unknown) => {
      if (!isOutage(error) && !(error instanceof KeyringError && codes.includes(error.code))) throw error;
    });
  };
  for (let turn = 0; ; turn++) {
    storm.throwIfFailed();
    const open = await sql<Open>(
      `select id, state, trigger from keyring.rotations
       where state in ('requested', 'running', 'rolling_back', 'paused', 'blocked') order by requested_at, id`,
    );
    if (open.length === 0) return;
    if (Date.now() > deadline) throw new Error(`The storm does not settle: ${await describe(site, open)}`);
    for (const { id } of await sql<{ id: string }>(`select id from keyring.encryption_keys where state = 'disabled'`)) {
      await passing(operator.keys.restore(id, { reason: 'the storm is over' }));
    }
    for (const { id, state, trigger } of open) {
      if (trigger !== 'compromise') {
        await passing(operator.rotations.setPace(id, { pace: 'full', maxRate: null }), 'rotation_not_open');
      }
      if (state === 'blocked') {
        await passing(discard(site, storm.dice('settle', turn)), 'not_quarantined', 'row_opens');
        await passing(operator.quarantine.retry({ rotationId: id }));
      }
      if (state === 'paused' || state === 'blocked') {
        await passing(operator.rotations.resume(id), 'rotation_not_open');
      }
    }
    await sleep(100);
  }
}

async function describe({ operator }: Site, open: readonly Open[]): Promise<string> {
  const lines: string[] = [];
  for (const { id } of open) {
    const detail = await operator.rotations.get(id);
    const unfinished = detail?.projectDetails.filter((project) => project.finishedAt === undefined);
    const projects = unfinished?.map((one) => `${one.projectName} ${one.state} ${one.errorDetail ?? ''}`).join(', ');
    lines.push(`${id} (${detail?.trigger ?? ''}) is ${detail?.state ?? 'gone'}: ${projects ?? ''}`);
  }
  return lines.join('; ');
}
