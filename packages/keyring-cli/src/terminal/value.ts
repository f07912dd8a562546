import { isUtf8 } from 'node:buffer';
import { KeyringError } from '@meshhook/keyring';
import type { App } from '../session.ts';
import { printable } from './text.ts';

/** As a document of JSON holds it: `valueBase64` where it is not UTF-8. */
export function valueInJson(bytes: Buffer): { value: string } | { valueBase64: string } {
  return isUtf8(bytes) ? { value: bytes.toString('utf8') } : { valueBase64: bytes.toString('base64') };
}

/** Writes a value to standard output: byte for byte into a pipe or a file, and with a line's end for a person. */
export function printValue({ terminal }: App, name: string, bytes: Buffer): void {
  if (!terminal.isInteractive) {
    terminal.raw(bytes);
    return;
  }
  // As age does it: what is not text, or would command the terminal, is for a file or a pipe.
  const text = bytes.toString('utf8');
  if (!isUtf8(bytes) || printable(text) !== text) throw notForTerminals(name);
  terminal.raw(Buffer.concat([bytes, Buffer.from('\n')]));
}

function notForTerminals(name: string): KeyringError {
  return new KeyringError('invalid_argument', `The value of ${name} is not text that can be shown at a terminal.`, {
    remedy: 'Send it to a file or a pipe, or use --json.',
  });
}
