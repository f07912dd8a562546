import { describe, expect, test } from 'vitest';
import { longTest } from '../../../../test/support/long.ts';
import { isolations } from '../database/support.ts';
import {
  creator,
  destroyer,
  emergency,
  promoter,
  rollback,
  sweeper,
  writer,
  type MakeActor,
} from './support/actors.ts';
import { newFindings, type Findings } from './support/explore.ts';
import { actorsOf, choices } from './support/groups.ts';
import { expectSound, summary, useInterleavings } from './support/interleavings.ts';
import type { StartingPoint } from './support/lane-database.ts';
import { starts } from './support/starts.ts';

const interleavings = useInterleavings();

const chosen: Record<string, readonly [StartingPoint, ...MakeActor[]]> = {
  'an edit, a sweep and a promote': [
    starts.staged,
    writer('a', { believes: 1 }),
    sweeper(2, ['a']),
    promoter(1, 2, { step: true }),
  ],
  'an edit under repeatable read, a sweep back and a rollback': [
    starts.sweeping,
    writer('b', { believes: 2, isolation: 'repeatable read' }),
    sweeper(1, ['b']),
    rollback(2, 1),
  ],
  'an edit, a new secret and a promote': [
    starts.staged,
    writer('a', { believes: 1 }),
    creator('c'),
    promoter(1, 2, { step: true }),
  ],
  'an emergency, a rollback and a destroy of the version that the emergency reaches': [
    starts.sweeping,
    emergency(2, 3),
    rollback(2, 1),
    destroyer(3),
  ],
};
test.each(Object.keys(chosen))('%s break no invariant, in any order', async (name) => {
  const [start, ...actors] = chosen[name]!;
  const findings = await interleavings.runAll(start, actors);
  console.log(summary(name, findings));
  expectSound(findings);
  expect(findings.waits).toBeGreaterThan(0);
});

// All triples there are, each in every order that differs from the others for somebody. Sweepers send their two statements as they
// ship, without a transaction around them; in one, they meet everybody in pairs, and two others in those chosen above.
describe.each(['staged', 'sweeping', 'retired', 'destructible'] as const)('with the rotation %s', (start) => {
  const runTriples = async (what: string, triples: readonly (readonly MakeActor[])[]): Promise<Findings> => {
    const findings = newFindings();
    for (const triple of triples) await interleavings.runAll(starts[start], triple, { findings });
    console.log(summary(`${start}, ${what}, ${String(triples.length)} triples`, findings));
    expectSound(findings);
    return findings;
  };

  for (const isolation of isolations) {
    longTest(`no three of them break an invariant, writers under ${isolation}`, async () => {
      const { writers, others } = actorsOf(start, isolation, 'none');
      const findings = await runTriples(isolation, choices([...writers, ...others], 3, writers));
      expect(findings.waits).toBeGreaterThan(0);
    });
  }
  longTest('nor do three without a writer', async () => {
    await runTriples('no writer', choices(actorsOf(start, 'read committed', 'none').others, 3));
  });
});
