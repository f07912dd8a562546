import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Site } from './site.ts';
import type { Storm } from './storm.ts';
import type { UnitsDone, WorkerNews, WorkerOrders } from './worker-process.ts';

// As often as they tell their news.
const LOOK_EVERY_MS = 20;

interface Worker {
  readonly process: ChildProcess;
  /** Resolves with its first news, which it has when it is on the list of workers, or its end. */
  readonly ready: Promise<unknown>;
  driving: number;
  doing: number;
  ending: boolean;
}

/** What a worker was at when it was killed, as of its last news. */
export type Killed = Pick<Worker, 'driving' | 'doing'>;

/** Three processes that work, and are started again when they are killed. */
export class Workers {
  /** Units that they did, but for what those who were killed did last. */
  readonly done: UnitsDone = { projects: 0, rows: 0, ofOthers: 0 };
  /** The most memory that any of them was seen to hold, in bytes. */
  peakRssBytes = 0;
  readonly #storm: Storm;
  readonly #orders: WorkerOrders;
  readonly #workers: Worker[];

  constructor(storm: Storm, { test, rootKey }: Site, count: number) {
    this.#storm = storm;
    this.#orders = { database: test.serviceUrl, rootKey };
    this.#workers = Array.from({ length: count }, (_, index) => this.#start(index));
  }

  get count(): number {
    return this.#workers.length;
  }

  get pids(): number[] {
    return this.#workers.map(({ process: child }) => child.pid ?? 0);
  }

  /** Resolves when each has begun to work. */
  async ready(): Promise<void> {
    for (const { ready } of this.#workers) await ready;
  }

  /** The index of one that hands out units, or does some that another hands out; undefined when there is none for so long. */
  async find(what: 'a driver' | 'a hand', withinMs: number, signal: AbortSignal): Promise<number | undefined> {
    for (const deadline = Date.now() + withinMs; Date.now() < deadline && !signal.aborted; await sleep(LOOK_EVERY_MS)) {
      const index = this.#workers.findIndex(({ driving, doing }) =>
        what === 'a driver' ? driving > 0 : doing > 0 && driving === 0,
      );
      if (index !== -1) return index;
    }
    return undefined;
  }

  /** `kill -9` while it works, and another one in its place at once. */
  async kill(index: number): Promise<Killed> {
    const worker = this.#workers[index] as Worker;
    await worker.ready;
    await this.#end(worker);
    this.#workers[index] = this.#start(index);
    return worker;
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

  #start(index: number): Worker {
    const child = fork(path.join(import.meta.dirname, 'worker-process.ts'), {
      execArgv: ['--conditions=@meshhook/source'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const worker: Worker = {
      process: child,
      ready: Promise.race([once(child, 'message'), once(child, 'exit')]),
      driving: 0,
      doing: 0,
      ending: false,
    };
    child.on('message', ({ driving, doing, done, rssBytes, said, problem }: WorkerNews) => {
      Object.assign(worker, { driving, doing });
      for (const what of ['projects', 'rows', 'ofOthers'] as const) this.done[what] += done[what];
      for (const line of said) this.#storm.note(`worker ${String(index)}`, line);
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
