/** One worker of several, as `mh-keys worker` is. Says when it is ready, and ends when it is told to. */
import { once } from 'node:events';
import { openKeyring } from '@meshhook/keyring';
import { startWorker } from '@meshhook/keyring-worker';

export interface WorkerStart {
  readonly database: string;
  readonly rootKey: string;
}

process.once('message', ({ database, rootKey }: WorkerStart) => {
  run(database, rootKey).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});

async function run(databaseUrl: string, rootKey: string): Promise<void> {
  const keyring = await openKeyring({ database: databaseUrl, rootKey, actor: 'bench worker' });
  const log = { info: () => undefined, error: (text: string) => console.error(text) };
  const worker = startWorker({ keyring, databaseUrl, log, dueEveryMs: 0 });
  await worker.ready;
  const told = once(process, 'message');
  process.send?.('ready');
  await told;
  await worker.stop();
  await keyring.close();
  process.disconnect();
}
