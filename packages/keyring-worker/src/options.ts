import type { WorkerOptions } from './worker.ts';

export interface ResolvedOptions extends WorkerOptions {
  readonly concurrency: number;
  readonly partRows: number;
  readonly lookEveryMs: number;
  readonly dueEveryMs: number;
  readonly sealEveryMs: number;
  readonly notifyEveryMs: number;
  readonly wrappingEveryMs: number;
  readonly verifyEveryMs: number;
  readonly verifyWholeEveryMs: number;
  readonly verifyShare: number;
}

const defaults = {
  ...{ concurrency: 2, partRows: 50_000, lookEveryMs: 1_000, dueEveryMs: 60_000 },
  ...{ sealEveryMs: 2_000, notifyEveryMs: 5_000, wrappingEveryMs: 30_000 },
  ...{ verifyEveryMs: 300_000, verifyWholeEveryMs: 86_400_000, verifyShare: 10 },
};
const required = ['keyring', 'databaseUrl', 'log'];
const optional = ['version', 'unitSize', 'onCheckpoint', 'readCheckpoint', 'notify'];
const limits: Record<string, readonly [number, number]> = {
  concurrency: [1, 64],
  unitSize: [1, 500],
  partRows: [1, 10_000_000],
  lookEveryMs: [0, 86_400_000],
  dueEveryMs: [0, 86_400_000],
  sealEveryMs: [0, 86_400_000],
  notifyEveryMs: [0, 86_400_000],
  wrappingEveryMs: [0, 86_400_000],
  verifyEveryMs: [0, 86_400_000],
  verifyWholeEveryMs: [0, 2_678_400_000],
  verifyShare: [1, 100],
};

/**
 * Fills in the defaults.
 * @throws TypeError for an option that does not exist, is missing, or is out of its range: misuse, not a failure.
 */
export function resolveOptions(options: WorkerOptions): ResolvedOptions {
  for (const name of Object.keys(options)) {
    if (![...required, ...optional].includes(name) && !(name in defaults))
      throw new TypeError(`unknown option: ${name}`);
  }
  for (const name of required) {
    if (options[name as keyof WorkerOptions] === undefined) throw new TypeError(`missing option: ${name}`);
  }
  const resolved = { ...defaults, ...options };
  for (const [name, [least, most]] of Object.entries(limits)) {
    const value = resolved[name as keyof ResolvedOptions] as number | undefined;
    if (value === undefined) continue;
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new TypeError(`option ${name} takes a whole number from ${String(least)} to ${String(most)}`);
    }
  }
  return resolved;
}
