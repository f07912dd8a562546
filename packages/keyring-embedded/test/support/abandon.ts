/** A process that is killed before it stops its scratch cluster. */
import { startScratchCluster } from '../../src/scratch.ts';

const { dataDirectory } = await startScratchCluster({ baseDirectory: process.argv[2] ?? '' });
process.stdout.write(`${dataDirectory}\n`, () => process.kill(process.pid, 'SIGKILL'));
