import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import {
  healingScenario,
  rollbackScenario,
  rotationScenario,
} from '../../packages/keyring/test/engine/support/scenarios.ts';
import { strikeAll } from './support/strikes.ts';

strikeAll({
  'a rotation, its projects together,': (installation, keyring) =>
    strikeEveryStatement(rotationScenario(installation, keyring, everyWay, 'together')),
  'a rotation with patience, its projects together,': (installation, keyring) =>
    strikeEveryStatement(healingScenario(installation, keyring, everyWay, 'together')),
  'a rollback, its projects together,': (installation, keyring) =>
    strikeEveryStatement(rollbackScenario(installation, keyring, everyWay, 'together')),
});
