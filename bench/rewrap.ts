import type { Bench, Measure } from './support.ts';
import { rate, seconds } from './table.ts';

/** A new wrapping key for many data keys: made, waited for, promoted, every data key wrapped anew and read back. */
export async function rewrapMeasures(bench: Bench): Promise<Measure[]> {
  const keys = bench.quick ? 5_000 : 100_000;
  const database = await bench.database({ projects: keys, secretsEach: 0 });
  const keyring = await database.open();
  try {
    const times: Record<string, number> = {};
    const began = performance.now();
    const { id } = await keyring.wrappingKeys.request({ reason: 'bench' });
    const rotation = await keyring.wrappingKeys.run(id, {
      onProgress: ({ state }) => {
        times[state] ??= performance.now() - began;
      },
    });
    const totalMs = performance.now() - began;
    if (rotation.state !== 'completed' || rotation.keys.verified !== keys) {
      throw new Error(`the rotation ended ${rotation.state}, ${String(rotation.keys.verified)} keys read back`);
    }
    const rewrapMs = (times['verifying'] ?? 0) - (times['rewrapping'] ?? 0);
    return [
      {
        what: `rewrap ${keys.toLocaleString('en')} data keys: request to completed`,
        measured: seconds(totalMs),
        against: `${rate(keys, totalMs)}; wrapping anew ${seconds(rewrapMs)}, reading back ${seconds(totalMs - (times['verifying'] ?? 0))}`,
        target: '100,000 in ≤ 5 s',
        numbers: { keys, totalMs, rewrapMs },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}
