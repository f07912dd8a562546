import { availableParallelism } from 'node:os';
import { parentPort, Worker } from 'node:worker_threads';

// This thread has half as much to do as one of those, or less: more than two would wait for it.
const MOST_THREADS = 2;
const IDLE_MS = 10_000;
const YOUNG_MB = 8;

interface Asked<Task> {
  readonly number: number;
  readonly task: Task;
}

interface Answered<Answer> {
  readonly number: number;
  /** Undefined when the work failed as a whole. */
  readonly answer: Answer | undefined;
}

/** What goes to another thread, and the memory of it that is handed over instead of copied. */
export type Handed<Value> = readonly [value: Value, memory: readonly ArrayBuffer[]];

/**
 * Threads that work beside this one, so that it can talk to PostgreSQL meanwhile. Started when first wanted, ended when idle. Where
 * there is one core, or no thread to be had, as in a program that was bundled into a file, nothing is done there.
 */
export class Threads<Task, Answer> {
  readonly #file: URL;
  readonly #name: string;
  readonly #most: number;
  readonly #threads: Thread<Task, Answer>[] = [];
  #idle: NodeJS.Timeout | undefined;

  /** `file` calls `answerTasks`. */
  constructor(file: URL, name: string, most = Math.min(MOST_THREADS, availableParallelism() - 1)) {
    this.#file = file;
    this.#name = name;
    this.#most = most;
  }

  /** How many tasks a next one would wait for. */
  get ahead(): number {
    if (this.#threads.length < this.#most) return 0;
    return Math.min(...this.#threads.map((thread) => thread.waiting));
  }

  /** Undefined when it cannot be done there: whoever asks does it again itself, and gets the error as it is. */
  ask(pack: () => Handed<Task>): Promise<Answer | undefined> {
    return this.#most > 0 ? this.#thread().ask(pack) : Promise.resolve(undefined);
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await Promise.all(this.#threads.splice(0).map((thread) => thread.end()));
  }

  #thread(): Thread<Task, Answer> {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => void this.#endIdle(), IDLE_MS);
    this.#idle.unref();
    const [least] = this.#threads.sort((a, b) => a.waiting - b.waiting);
    if (least !== undefined && (least.waiting === 0 || this.#threads.length >= this.#most)) return least;
    const thread = new Thread<Task, Answer>(this.#file, this.#name);
    this.#threads.push(thread);
    return thread;
  }

  async #endIdle(): Promise<void> {
    if (this.#threads.every((thread) => thread.waiting === 0)) await this.close();
  }
}

class Thread<Task, Answer> {
  readonly #worker: Worker | undefined;
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  #asked = 0;
  #failed = false;

  constructor(file: URL, name: string) {
    try {
      // Nothing of ours is on its command line or in its environment.
      this.#worker = new Worker(file, {
        ...{ name, env: {}, argv: [], execArgv: [] },
        // Nothing lives longer than its task: more would only be more memory.
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
      });
    } catch {
      this.#failed = true;
      return;
    }
    this.#worker.unref();
    this.#worker.on('message', ({ number, answer }: Answered<Answer>) => {
      this.#answer(number, answer);
    });
    const lost = (): void => {
      this.#failed = true;
      for (const number of [...this.#waiting.keys()]) this.#answer(number, undefined);
    };
    this.#worker.on('error', lost);
    this.#worker.on('exit', lost);
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  ask(pack: () => Handed<Task>): Promise<Answer | undefined> {
    const worker = this.#worker;
    if (worker === undefined || this.#failed) return Promise.resolve(undefined);
    const number = this.#asked++;
    const [task, memory] = pack();
    return new Promise((resolve) => {
      this.#waiting.set(number, resolve);
      // A process whose last work is there must not end before it.
      worker.ref();
      worker.postMessage({ number, task } satisfies Asked<Task>, [...memory]);
    });
  }

  async end(): Promise<void> {
    await this.#worker?.terminate();
  }

  #answer(number: number, answer: Answer | undefined): void {
    this.#waiting.get(number)?.(answer);
    this.#waiting.delete(number);
    if (this.#waiting.size === 0) this.#worker?.unref();
  }
}

/** In the thread: answers tasks, one at a time, and keeps nothing. */
export function answerTasks(work: (task: never) => Handed<unknown>): void {
  parentPort?.on('message', ({ number, task }: Asked<never>) => {
    try {
      const [answer, memory] = work(task);
      parentPort?.postMessage({ number, answer } satisfies Answered<unknown>, [...memory]);
    } catch {
      parentPort?.postMessage({ number, answer: undefined } satisfies Answered<unknown>);
    }
  });
}
