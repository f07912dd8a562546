import { approvalScenario } from '../../packages/keyring/test/access/support/scenario.ts';
import { everyWay, strikeEveryStatement } from '../../packages/keyring/test/engine/support/faults.ts';
import { strikeAll } from './support/strikes.ts';

strikeAll({
  'an act that two people do': (installation) => strikeEveryStatement(approvalScenario(installation, everyWay)),
});
