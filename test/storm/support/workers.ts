import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Site } from './site.ts';
import type { Storm } from './storm.ts';
import type { WorkerNews, WorkerOrders } from './worker-process.ts';

interface Worker {
  readonly process: ChildProcess;
  /** Resolves with its first news, or its end. */
  readonly ready: Promise<unknown>;
  driving: number;
  ending: boolean;
}

/** Three processes that work, and are started again when they are killed. */
export class Workers {
  /** The most memory that any of them was seen to hold, in bytes. */
  peakRssBytes = 0;
  readonly #storm: Storm;
  readonly #orders: WorkerOrders;
  readonly #workers: Worker[];

  constructor(storm: Storm, { test, rootKey }: Site, count: number) {
    this.#storm = storm;
    this.#orders = { database: test.serviceUrl, rootKey };
    this.#workers = Array.from({ length: count }, () => this.#start());
  }

  get count(): number {
    return this.#workers.length;
  }

  /** Resolves when each has begun to work. */
  async ready(): Promise<void> {
    for (const { ready } of this.#workers) await ready;
  }

  /** `kill -9` while it works, and another one in its place at once. Gives how many rotations it was driving. */
  async kill(index: number): Promise<number> {
    const worker = this.#workers[index] as Worker;
    await worker.ready;
    await this.#end(worker);
    this.#workers[index] = this.#start();
    return worker.driving;
  }

  async end(): Promise<void> {
    for (const worker of this.#workers.splice(0)) await this.#end(worker);
  }

  async #end(worker: Worker): Promise<void> {
    const { process: child } = worker;
    worker.ending = true;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  #start(): Worker {
    const child = fork(path.join(import.meta.dirname, 'worker-process.ts'), {
      execArgv: ['--conditions=@meshhook/source'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const worker: Worker = {
      process: child,
      ready: Promise.race([once(child, 'message'), once(child, 'exit')]),
      driving: 0,
      ending: false,
    };
    child.on('message', ({ driving, rssBytes, problem }: WorkerNews) => {
      worker.driving = driving;
      this.peakRssBytes = Math.max(this.peakRssBytes, rssBytes);
      if (problem !== undefined) this.#storm.fail(new Error(`A worker met what no weather explains: ${problem}`));
    });
    child.on('exit', (code) => {
      if (!worker.ending) this.#storm.fail(new Error(`A worker ended by itself, with ${String(code)}.`));
    });
    child.send(this.#orders);
    return worker;
  }
}
