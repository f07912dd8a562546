/** Verifies the trail once, and says how it went: a process that does nothing else, so that its memory is that of verifying. */
import { openKeyring } from '@meshhook/keyring';

export interface Ask {
  readonly database: string;
  readonly rootKey: string;
}

export interface Told {
  readonly outcome: string;
  readonly entries: number;
  readonly ms: number;
  /** Of processor time. */
  readonly cpuMs: number;
  /** Before, and since the process began. */
  readonly restBytes: number;
  readonly peakBytes: number;
}

process.on('message', ({ database, rootKey }: Ask) => {
  run(database, rootKey).catch(() => process.exit(1));
});

async function run(database: string, rootKey: string): Promise<void> {
  const keyring = await openKeyring({ database, rootKey, actor: 'bench verifier' });
  const restBytes = process.memoryUsage.rss();
  const began = performance.now();
  const cpu = process.cpuUsage();
  try {
    const { intact, problem, entries } = await keyring.audit.verify();
    const ms = performance.now() - began;
    const { user, system } = process.cpuUsage(cpu);
    process.send?.({
      ...{ outcome: intact ? 'intact' : (problem?.message ?? 'unknown'), entries, ms, cpuMs: (user + system) / 1_000 },
      ...{ restBytes, peakBytes: process.resourceUsage().maxRSS * 1024 },
    } satisfies Told);
  } finally {
    await keyring.close();
  }
}
