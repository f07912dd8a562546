import { expect, test } from 'vitest';
import { archiveScenario, sealScenario } from '../../packages/keyring/test/engine/support/audit-scenarios.ts';
import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import { startInstallation, type Installation } from '../../packages/keyring/test/engine/support/installation.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

describeLong('every statement of the trail, lost in every way (MESHHOOK_LONG=1)', () => {
  test.each([
    ['a seal', (one: Installation) => strikeEveryStatement(sealScenario(one, everyWay))],
    ['an archive', (one: Installation) => strikeEveryStatement(archiveScenario(one, everyWay))],
  ] as const)(
    '%s is finished by the next process',
    async (name, strike) => {
      const installation = await startInstallation();
      try {
        await installation.open();
        const points = await strike(installation);
        console.log(`${name}: ${String(points)} fault points`);
        expect(points).toBeGreaterThan(30);
      } finally {
        await installation.end();
      }
    },
    LONG_MS,
  );
});
