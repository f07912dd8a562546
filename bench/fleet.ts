import type { Bench, Measure } from './support.ts';
import { rotate } from './rotate.ts';
import { rate, seconds } from './table.ts';

const SECRETS_EACH = 10;

/** Many small projects in one rotation. Fewer than the target's 100,000: time grows with their number. */
export async function fleetMeasures(bench: Bench): Promise<Measure[]> {
  const projects = bench.quick ? 200 : 2_000;
  const database = await bench.database({ projects, secretsEach: SECRETS_EACH });
  const keyring = await database.open();
  try {
    const { totalMs } = await rotate(keyring, 'all');
    return [
      {
        what: `rotate ${projects.toLocaleString('en')} projects × ${String(SECRETS_EACH)}: request to completed`,
        measured: rate(projects * SECRETS_EACH, totalMs),
        against: `${seconds(totalMs)}; ${rate(projects, totalMs)} projects`,
        target: '100,000 in ≤ 35 s (28,600/s)',
        numbers: { projects, secretsEach: SECRETS_EACH, totalMs },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}
