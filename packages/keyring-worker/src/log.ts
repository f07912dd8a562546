import { KeyringError, type Rotation } from '@meshhook/keyring';

/** One line each, for people; no names, no values. */
export interface Log {
  info(text: string): void;
  error(text: string): void;
}

/** What a failure says, and nothing of what it may hold besides. */
export function inWords(error: unknown): string {
  if (error instanceof KeyringError) return `${error.message} (${error.code})`;
  return error instanceof Error ? `${error.name}: ${error.message}.` : 'something that is no error was thrown.';
}

/** `completed, 3 projects, 60 secrets re-encrypted in 0.4 s`. */
export function summary({ state, projects, rows, durationMs }: Rotation): string {
  const seconds = durationMs === undefined ? '' : ` in ${(durationMs / 1000).toFixed(1)} s`;
  const lost = rows.quarantined === 0 ? '' : `, ${count(rows.quarantined, 'row does', 'rows do')} not open`;
  return `${state}, ${count(projects.total, 'project')}, ${count(rows.moved, 'secret')} re-encrypted${lost}${seconds}`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;
}

/** Says a trouble that lasts once, and when it is over: an outage of an hour is two lines, not a thousand. */
export class Trouble {
  readonly #log: Log;
  readonly #what: string;
  readonly #over: string;
  #lasts = false;

  constructor(log: Log, what: string, over: string) {
    this.#log = log;
    this.#what = what;
    this.#over = over;
  }

  met(error: unknown): void {
    if (!this.#lasts) this.#log.error(`${this.#what}: ${inWords(error)}`);
    this.#lasts = true;
  }

  ended(): void {
    if (this.#lasts) this.#log.info(this.#over);
    this.#lasts = false;
  }
}
