import { errorCodes, KeyringError, type Rotation } from '@meshhook/keyring';
import pino from 'pino';
import { events, nameOf, placesOf, type Facts, type Log } from './log.ts';

export const logFormats = ['text', 'json'] as const;
export const logLevels = ['info', 'error', 'silent'] as const;

export interface EventLogOptions {
  /** `text`: a line for people. `json`: a JSON object a line, for a log collector. */
  readonly format: (typeof logFormats)[number];
  /** What is said at least. */
  readonly level: (typeof logLevels)[number];
  /** Where what is ordinary goes; all of it, with `json`. */
  readonly stdout: { write(text: string): unknown };
  /** Where, with `text`, what is not goes. */
  readonly stderr: { write(text: string): unknown };
}

/**
 * A log of events. A line holds what `Facts` names and nothing else, each looked at before it is written: an id that is none, a word
 * that is not one of ours, an object with more in it: none of it gets through, whatever the types were told. So nothing has to be redacted.
 * @throws TypeError for a format or level that is none.
 */
export function eventLog({ format, level, stdout, stderr }: EventLogOptions): Log {
  if (!logFormats.includes(format)) throw new TypeError(`no format of a log: ${format}`);
  if (!logLevels.includes(level)) throw new TypeError(`no level of a log: ${level}`);
  if (format === 'text') {
    return {
      info: (text) => {
        if (level === 'info') stdout.write(`${text}\n`);
      },
      error: (text) => {
        if (level !== 'silent') stderr.write(`${text}\n`);
      },
    };
  }
  const logger = pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => stdout.write(line) },
  );
  return {
    info: (_, facts = { event: 'note' }) => {
      logger.info(written(facts));
    },
    error: (_, facts = { event: 'note' }) => {
      logger.error(written(facts));
    },
  };
}

const id = (value: unknown): boolean =>
  typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
const oneOf =
  (words: readonly string[]) =>
  (value: unknown): boolean =>
    typeof value === 'string' && words.includes(value);
const number = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value);

const states: readonly Rotation['state'][] = [
  ...(['requested', 'running', 'paused', 'blocked', 'rolling_back'] as const),
  ...(['completed', 'rolled_back', 'canceled', 'failed'] as const),
];

const looksRight: Readonly<Record<Exclude<keyof Facts, 'error'>, (value: unknown) => boolean>> = {
  event: oneOf(events),
  rotationId: id,
  workerId: id,
  errorId: id,
  outcome: oneOf(states),
  projects: number,
  secrets: number,
  quarantined: number,
  keys: number,
  durationMs: number,
  retryMs: number,
  port: number,
};

function written(facts: Facts): Record<string, unknown> {
  const line: Record<string, unknown> = {};
  for (const [name, isRight] of Object.entries(looksRight)) {
    const value: unknown = facts[name as keyof Facts];
    if (value !== undefined && isRight(value)) line[name] = value;
  }
  if (facts.error !== undefined) Object.assign(line, ofError(facts.error));
  return line;
}

/**
 * Of an error its code, and where it came from. Not its message: of one that is not ours it may quote what it choked on, and of one
 * that is, a name.
 */
function ofError(error: unknown): Record<string, unknown> {
  if (error instanceof KeyringError && errorCodes.includes(error.code)) {
    const { sqlState } = error.details;
    return {
      code: error.code,
      ...(typeof sqlState === 'string' && /^[0-9A-Z]{5}$/.test(sqlState) ? { sqlState } : {}),
    };
  }
  if (!(error instanceof Error)) return { code: 'internal' };
  return {
    code: 'internal',
    error: nameOf(error),
    at: placesOf(error).slice(0, 8),
  };
}
