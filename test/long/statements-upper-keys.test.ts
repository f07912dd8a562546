import { expect, test } from 'vitest';
import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import { startInstallation } from '../../packages/keyring/test/engine/support/installation.ts';
import { rootScenario } from '../../packages/keyring/test/engine/support/root-scenarios.ts';
import {
  wrappingRollbackScenario,
  wrappingScenario,
} from '../../packages/keyring/test/engine/support/wrapping-scenarios.ts';
import { strikeAll } from './support/strikes.ts';
import { describeLong, LONG_MS } from './support/wanted.ts';

strikeAll({
  'a rotation of the wrapping key': (installation, keyring) =>
    strikeEveryStatement(wrappingScenario(installation, keyring, everyWay)),
  'a rollback of the wrapping key': (installation, keyring) =>
    strikeEveryStatement(wrappingRollbackScenario(installation, keyring, everyWay)),
});

describeLong('a leaked root key (MESHHOOK_LONG=1)', () => {
  test(
    'whatever statement of the whole job is lost in whatever way, is replaced, and the wrapping key after it',
    async () => {
      const installation = await startInstallation();
      try {
        await installation.open();
        const place = { root: installation.rootKey };
        const points = await strikeEveryStatement(rootScenario(installation, place, everyWay, true));
        console.log(`a leaked root key: ${String(points)} fault points`);
        expect(points).toBeGreaterThan(100);
      } finally {
        await installation.end();
      }
    },
    LONG_MS,
  );
});
