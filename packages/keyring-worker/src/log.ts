import { KeyringError, type Rotation } from '@meshhook/keyring';

const troubles = [
  ...(['start', 'beat', 'claim', 'look', 'schedule', 'seal'] as const),
  ...(['notify', 'wrapping', 'verify', 'tidy', 'queue', 'worker'] as const),
] as const;
type TroubleName = `${(typeof troubles)[number]}_trouble`;

/** Every event there is: docs/monitoring.md says when. */
export const events = [
  'listening',
  'stopping',
  'start_failed',
  'worker_ready',
  'rotation_due',
  'rotation_ended',
  'rotation_interrupted',
  'unit_failed',
  'wrapping_rotation_resumed',
  'projects_overdue',
  'versions_destroyed',
  'versions_in_use',
  'audit_verified',
  'audit_broken',
  'request_failed',
  'page_failed',
  'note',
  ...troubles.flatMap((what) => [`${what}_trouble`, `${what}_trouble_over`] as const),
] as const;

export type EventName = (typeof events)[number];

/** What happens, as a log collector is told: ids, words of ours, numbers. There is no room for anything else. */
export interface Facts {
  readonly event: EventName;
  readonly rotationId?: string;
  readonly workerId?: string;
  /** Under which whoever was refused finds it. */
  readonly errorId?: string;
  readonly outcome?: Rotation['state'];
  readonly projects?: number;
  readonly secrets?: number;
  readonly quarantined?: number;
  readonly keys?: number;
  readonly durationMs?: number;
  /** When it is tried again. */
  readonly retryMs?: number;
  readonly port?: number;
  /** Of which its code, SQLSTATE and place are written, and no message. */
  readonly error?: unknown;
}

/** One line each: a text for people, without names and values, and what it is about for programs. */
export interface Log {
  info(text: string, facts?: Facts): void;
  error(text: string, facts?: Facts): void;
}

/** What a failure says, and nothing of what it may hold besides: the message of an error that is not ours may quote anything. */
export function inWords(error: unknown): string {
  if (error instanceof KeyringError) return `${error.message} (${error.code})`;
  if (!(error instanceof Error)) return 'something that is no error was thrown.';
  const [place] = placesOf(error);
  return `${nameOf(error)}${place === undefined ? '' : ` at ${place}`}.`;
}

const errorNames = ['AbortError', 'AggregateError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError'];

/** The name of an error of the runtime's; what others call theirs is their affair. */
export function nameOf({ name }: Error): string {
  return errorNames.includes(name) ? name : 'Error';
}

/** Where an error came from, the innermost first, without its message. */
export function placesOf({ stack = '', message }: Error): string[] {
  // What comes before is the message, which may have any number of lines.
  const frames = stack.slice(stack.indexOf(message) + message.length).split('\n');
  return frames.flatMap((line) => /^ +at (.*:\d+:\d+\)?)$/.exec(line)?.[1]?.slice(0, 200) ?? []);
}

/** What a rotation came to. */
export function ended({ id, state, projects, rows, durationMs }: Rotation): Facts {
  return {
    ...{ event: 'rotation_ended', rotationId: id, outcome: state, projects: projects.total, secrets: rows.moved },
    quarantined: rows.quarantined,
    ...(durationMs === undefined ? {} : { durationMs }),
  };
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
  readonly #event: TroubleName;
  #lasts = false;

  /** `event`: what is wrong, as `queue_trouble`; over, it is `queue_trouble_over`. */
  constructor(log: Log, what: string, over: string, event: TroubleName = 'worker_trouble') {
    this.#log = log;
    this.#what = what;
    this.#over = over;
    this.#event = event;
  }

  met(error: unknown): void {
    if (!this.#lasts) this.#log.error(`${this.#what}: ${inWords(error)}`, { event: this.#event, error });
    this.#lasts = true;
  }

  ended(): void {
    if (this.#lasts) this.#log.info(this.#over, { event: `${this.#event}_over` });
    this.#lasts = false;
  }
}
