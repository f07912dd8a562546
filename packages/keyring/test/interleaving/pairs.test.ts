import { describe, expect, test } from 'vitest';
import { isolations } from '../database/support.ts';
import type { MakeActor } from './support/actors.ts';
import { newFindings, type Findings } from './support/explore.ts';
import { actorsOf, choices } from './support/groups.ts';
import { expectSound, summary, useInterleavings } from './support/interleavings.ts';
import { starts } from './support/starts.ts';

const interleavings = useInterleavings();
const situations = ['staged', 'sweeping', 'retired', 'destructible'] as const;

async function runPairs(
  start: (typeof situations)[number],
  pairs: readonly (readonly MakeActor[])[],
): Promise<Findings> {
  const findings = newFindings();
  for (const pair of pairs) await interleavings.runAll(starts[start], pair, { findings });
  return findings;
}

describe.each(situations)('with the rotation %s', (start) => {
  test.each(isolations)(
    'a writer under %s and whoever it meets break no invariant, in any order',
    async (isolation) => {
      const { writers, others } = actorsOf(start, isolation);
      const pairs = choices([...writers, ...others], 2, writers);
      const findings = await runPairs(start, pairs);
      console.log(summary(`${start}, ${isolation}, ${String(pairs.length)} pairs`, findings));
      expectSound(findings);
      // They did get in each other's way.
      expect(findings.waits).toBeGreaterThan(0);
      expect(findings.refusals.has(isolation === 'read committed' ? 'MK001' : '40001')).toBe(true);
    },
  );

  test('nor do the others among themselves', async () => {
    const { others } = actorsOf(start, 'read committed');
    const pairs = choices(others, 2);
    const findings = await runPairs(start, pairs);
    console.log(summary(`${start}, ${String(pairs.length)} pairs`, findings));
    expectSound(findings);
    expect(findings.waits).toBeGreaterThan(0);
  });
});
