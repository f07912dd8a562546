/** What failed, as the end of a log has room for it: whoever looks at it later may see nothing else. */
import { stripVTControlCharacters } from 'node:util';

const MOST_LINES = 90;
const LEAST_LINES_EACH = 3;
const MOST_LINES_EACH = 15;
const LINES_OF_END = 3;
const MOST_IN_A_LINE = 240;

/** What failed, and what is known of it, line by line. */
export interface Note {
  readonly title: string;
  readonly lines: readonly string[];
}

/** All of them, each shortened by as much as the others need. */
export function inFewLines(notes: readonly Note[]): string[] {
  const each = Math.min(
    MOST_LINES_EACH,
    Math.max(LEAST_LINES_EACH, Math.floor(MOST_LINES / Math.max(notes.length, 1))),
  );
  const shown = notes.slice(0, Math.floor(MOST_LINES / LEAST_LINES_EACH));
  const left = notes.length - shown.length;
  return [
    ...shown.flatMap(({ title, lines }) => [
      oneLine(title),
      ...shortened(lines, each - 1).map((line) => `    ${line}`),
    ]),
    ...(left > 0 ? [`and ${String(left)} more`] : []),
  ];
}

function shortened(lines: readonly string[], most: number): string[] {
  const full = lines.flatMap((text) => text.split('\n')).filter((line) => line.trim() !== '');
  if (full.length <= most) return full.map(oneLine);
  // What is wrong is at the head; where, and what caused it, at the end.
  const end = most > 2 * LINES_OF_END ? LINES_OF_END : 0;
  const head = most - 1 - end;
  const left = `… ${String(full.length - head - end)} more lines above`;
  return [...full.slice(0, head).map(oneLine), left, ...full.slice(full.length - end).map(oneLine)];
}

function oneLine(text: string): string {
  const line = withoutSecrets(stripVTControlCharacters(text).replaceAll(/[\s\p{Cc}]+/gu, ' '));
  return line.length <= MOST_IN_A_LINE ? line : `${line.slice(0, MOST_IN_A_LINE)}…`;
}

/** Credentials in URLs, and whatever may be a key: in hex, in base64, as numbers. Ids and fingerprints in short stay. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/(\w:\/\/[^\s/:@]*):[^\s/@]+@/g, '$1:[…]@')
    .replaceAll(/AGE-SECRET-KEY-\w+/gi, '[…]')
    .replaceAll(/\b[0-9a-fA-F]{2}(?:[\s:]?[0-9a-fA-F]{2}){15,}/g, '[…]')
    .replaceAll(/\b\d{1,3}(?:,\s*\d{1,3}){15,}/g, '[…]')
    .replaceAll(/[A-Za-z0-9+/_-]{21,}={0,2}/g, (run) => (isRandom(run) ? '[…]' : run));
}

/** Names and paths are words; 21 characters of base64 without a digit, a capital or a small letter between them are hardly ever drawn. */
function isRandom(run: string): boolean {
  return run
    .split('/')
    .some((part) => part.length >= 12 && /\d/.test(part) && /[A-Z]/.test(part) && /[a-z]/.test(part));
}
