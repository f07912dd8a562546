/** A worker apart from the process that reads: runs the rotations it is sent, and says how they ended. */
import { openKeyring } from '@meshhook/keyring';

export interface Ask {
  readonly database: string;
  readonly rootKey: string;
  readonly id: string;
  readonly pace: 'polite' | 'full';
}

export interface Told {
  readonly state: string;
  /** Of the process, since it began: it does nothing else. */
  readonly peakBytes: number;
}

process.on('message', ({ database, rootKey, id }: Ask) => {
  run(database, rootKey, id).catch(() => process.exit(1));
});

async function run(database: string, rootKey: string, id: string): Promise<void> {
  const keyring = await openKeyring({ database, rootKey, actor: 'bench worker' });
  try {
    const { state } = await keyring.rotations.run(id);
    process.send?.({ state, peakBytes: process.resourceUsage().maxRSS * 1024 } satisfies Told);
  } catch (error) {
    process.send?.({ state: error instanceof Error ? error.message : 'unknown', peakBytes: 0 } satisfies Told);
  } finally {
    await keyring.close();
  }
}
