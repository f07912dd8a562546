import type { Bench, Measure } from './support.ts';
import { rotate } from './rotate.ts';
import { percentile, seconds } from './table.ts';

const SECRETS = 20;
const ROUNDS = 15;

/** One small project inside a large table: what most rotations are. */
export async function smallMeasures(bench: Bench): Promise<Measure[]> {
  const others = bench.quick ? 100_000 : 1_000_000;
  const database = await bench.database({ projects: 1, secretsEach: others });
  const keyring = await database.open();
  try {
    const { id } = await keyring.projects.create({ name: 'small' });
    for (let number = 1; number <= SECRETS; number++)
      await keyring.secrets.put(id, `SECRET_${String(number)}`, 'value');
    const samples: number[] = [];
    for (let round = 0; round < ROUNDS; round++) samples.push((await rotate(keyring, [id])).totalMs);
    const median = percentile(samples, 0.5);
    return [
      {
        what: `rotate 1 project × ${String(SECRETS)} in a table of ${others.toLocaleString('en')}, median`,
        measured: seconds(median),
        against: `${seconds(Math.min(...samples))} to ${seconds(Math.max(...samples))}`,
        target: '≤ 100 ms',
        numbers: { medianMs: median, secrets: SECRETS, others },
      },
    ];
  } finally {
    await keyring.close();
    await database.drop();
  }
}
