import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import {
  healingScenario,
  rollbackScenario,
  rotationScenario,
} from '../../packages/keyring/test/engine/support/scenarios.ts';
import { strikeAll } from './support/strikes.ts';

strikeAll({
  'a rotation, its projects alone,': (installation, keyring) =>
    strikeEveryStatement(rotationScenario(installation, keyring, everyWay, 'alone')),
  'a rotation with patience, its projects alone,': (installation, keyring) =>
    strikeEveryStatement(healingScenario(installation, keyring, everyWay, 'alone')),
  'a rollback, its projects alone,': (installation, keyring) =>
    strikeEveryStatement(rollbackScenario(installation, keyring, everyWay, 'alone')),
});
