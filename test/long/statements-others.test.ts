import { emergencyScenario } from '../../packages/keyring/test/engine/support/emergency-scenarios.ts';
import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import { adoptScenario, firstPutScenario } from '../../packages/keyring/test/engine/support/scenarios.ts';
import { strikeAll } from './support/strikes.ts';

strikeAll({
  'an emergency': (installation, keyring) => strikeEveryStatement(emergencyScenario(installation, keyring, everyWay)),
  'a first put': (installation, keyring) => strikeEveryStatement(firstPutScenario(installation, keyring, everyWay)),
  'an adoption': (installation, keyring) => strikeEveryStatement(adoptScenario(installation, keyring, everyWay)),
});
