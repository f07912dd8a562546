import type { Keyring, WorkResult, WorkUnit } from '@meshhook/keyring';
import { startWorker, type Worker, type WorkerOptions } from '@meshhook/keyring-worker';
import type { Installation } from '../../../keyring/test/engine/support/installation.ts';

export interface Started extends AsyncDisposable {
  readonly worker: Worker;
  readonly lines: readonly string[];
}

type Work = (
  unit: WorkUnit,
  options: { signal?: AbortSignal } | undefined,
  really: () => Promise<WorkResult>,
) => Promise<WorkResult>;

/** A worker in this process, as the service; `work` stands between it and each unit that it does. */
export async function startHere(
  installation: Installation,
  { work, ...options }: Partial<WorkerOptions> & { readonly work?: Work } = {},
): Promise<Started> {
  const keyring = await installation.open();
  const lines: string[] = [];
  const wrapped: Keyring =
    work === undefined
      ? keyring
      : {
          ...keyring,
          rotations: {
            ...keyring.rotations,
            work: (unit, given) => work(unit, given, () => keyring.rotations.work(unit, given)),
          },
        };
  const worker = startWorker({
    keyring: wrapped,
    databaseUrl: installation.test.serviceUrl,
    log: { info: (text) => lines.push(text), error: (text) => lines.push(`error: ${text}`) },
    unitSize: 1,
    lookEveryMs: 100,
    dueEveryMs: 0,
    notifyEveryMs: 0,
    ...options,
  });
  await worker.ready;
  return {
    worker,
    lines,
    async [Symbol.asyncDispose]() {
      await worker.stop();
      await keyring.close();
    },
  };
}

/** Until it is aborted: as a unit that takes long. */
export function hang(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(signal?.reason as Error);
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
  });
}
