import type { Bench, Measure } from './support.ts';
import { rotateApart } from './rotate.ts';
import { rate, seconds } from './table.ts';

const SECRETS_EACH = 10;

/** Many small projects in one rotation. */
export async function fleetMeasures(bench: Bench): Promise<Measure[]> {
  const projects = bench.quick ? 2_000 : 100_000;
  const database = await bench.database({ projects, secretsEach: SECRETS_EACH });
  const keyring = await database.open();
  try {
    const { totalMs, peakBytes: peak } = await rotateApart(keyring, database);
    return [
      {
        what: `rotate ${projects.toLocaleString('en')} projects × ${String(SECRETS_EACH)}: request to completed`,
        measured: rate(projects * SECRETS_EACH, totalMs),
        against: `${seconds(totalMs)}; ${rate(projects, totalMs)} projects`,
        target: '100,000 in ≤ 35 s (28,600/s)',
        numbers: { projects, secretsEach: SECRETS_EACH, totalMs },
      },
      {
        what: '  memory of the process, peak',
        measured: `${(peak / 1e6).toFixed(0)} MB`,
        target: '≤ 300 MB',
        numbers: { peak },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}
