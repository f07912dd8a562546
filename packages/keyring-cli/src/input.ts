import { readFile, stat } from 'node:fs/promises';
import { KeyringError } from '@meshhook/keyring';
import type { App } from './session.ts';
import { ask } from './terminal/prompt.ts';

// Far above the longest value and envelope, far below what hurts: what is longer is a mistake, and is not read to its end.
const MAX_INPUT_BYTES = 1_048_576;

const LEGACY_KEY_BYTES = 32;

/**
 * A secret's value: from a file, typed at the terminal without being shown, or standard input as it is. From a file or a
 * pipe nothing is stripped: `printf` gives a value exactly, `echo` one with a line end, which the caller is told.
 */
export async function readValue(app: App, name: string, fromFile: string | undefined): Promise<Buffer> {
  if (fromFile === undefined && app.stdin.isTTY === true) {
    const question = `Value of ${name} (not shown, Enter ends it): `;
    return Buffer.from(await ask(app.stdin, app.stderr, question, { hidden: true }));
  }
  const value = fromFile === undefined ? await readStdin(app) : await readInputFile(fromFile);
  if (value.at(-1) === 0x0a) {
    app.terminal.note('The value ends with a line end, which is stored with it; `printf %s` gives one without.');
  }
  return value;
}

/** Standard input, to its end. @throws KeyringError `invalid_value` past 1 MiB. */
export async function readStdin({ stdin }: App): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > MAX_INPUT_BYTES) throw tooLong('Standard input');
  }
  const whole = Buffer.concat(chunks);
  for (const chunk of chunks) chunk.fill(0);
  return whole;
}

export async function readInputFile(path: string): Promise<Buffer> {
  try {
    if ((await stat(path)).size > MAX_INPUT_BYTES) throw tooLong(path);
    return await readFile(path);
  } catch (error) {
    if (error instanceof KeyringError) throw error;
    const reason = (error as NodeJS.ErrnoException).code ?? 'it cannot be read';
    throw new KeyringError('invalid_argument', `The file ${path} cannot be read: ${reason}.`, {
      remedy: 'Name a file that you may read.',
      cause: error,
    });
  }
}

/** The 32-byte key in a file: as they are, as 64 hex digits, or in base64; white space around text does not count. */
export function parseLegacyKey(content: Buffer): Buffer {
  if (content.length === LEGACY_KEY_BYTES) return content;
  const text = content.toString('latin1').trim();
  if (/^[0-9a-f]{64}$/i.test(text)) return Buffer.from(text, 'hex');
  const decoded = /^[A-Za-z0-9+/_-]{43}=?$/.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0);
  if (decoded.length === LEGACY_KEY_BYTES) return decoded;
  throw new KeyringError('invalid_argument', 'The legacy key file does not hold a key of 32 bytes.', {
    remedy: 'Give 32 raw bytes, 64 hex digits, or base64 of 32 bytes.',
  });
}

export interface EnvelopeInput {
  readonly bytes: Buffer;
  readonly encoding: 'raw' | 'hex' | 'base64';
}

/** An envelope as people have it at hand: bytes, hex as psql shows it (`\x01…`) or plain, or base64. */
export function decodeEnvelopeInput(input: Buffer): EnvelopeInput {
  // No envelope is text: its first byte is the format version.
  const text = /^[\t\n\r\x20-\x7e]+$/.test(input.toString('latin1'))
    ? input.toString('latin1').replace(/\s+/g, '')
    : '';
  const hex = /^(?:\\{1,2}x)?((?:[0-9a-f]{2})+)$/i.exec(text)?.[1];
  if (hex !== undefined) return { bytes: Buffer.from(hex, 'hex'), encoding: 'hex' };
  if (/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return { bytes: Buffer.from(text, 'base64'), encoding: 'base64' };
  return { bytes: input, encoding: 'raw' };
}

function tooLong(what: string): KeyringError {
  return new KeyringError('invalid_value', `${what} has more than 1 MiB: that is no secret's value.`);
}
