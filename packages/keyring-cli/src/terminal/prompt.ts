import { StringDecoder } from 'node:string_decoder';
import { KeyringError } from '@meshhook/keyring';
import type { OutputStream } from './terminal.ts';

/** A terminal's input; a part of Node's own, so that tests can bring their own. */
export interface InputStream extends AsyncIterable<unknown> {
  readonly isTTY?: boolean | undefined;
  setRawMode?(raw: boolean): unknown;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  off(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
  off(event: 'end', listener: () => void): unknown;
  resume(): unknown;
  pause(): unknown;
}

const ENTER = /[\r\n]/;
const CTRL_C = '\u0003';
const CTRL_D = '\u0004';
const CTRL_U = '\u0015';
const BACKSPACE = /[\b\u007f]/;
const PASTE_MARK = /\u001b\[20[01]~/g;

/**
 * Asks for one line at the terminal. `hidden`: nothing of what is typed is shown. Enter ends it and is not part of it.
 * @throws KeyringError `interrupted` on Ctrl-C, and on Ctrl-D before anything was typed.
 */
export async function ask(
  input: InputStream,
  output: OutputStream,
  question: string,
  { hidden }: { readonly hidden: boolean },
): Promise<string> {
  output.write(question);
  // Raw: the terminal echoes nothing, and gives up Ctrl-C too, which is ours to obey then.
  if (hidden) input.setRawMode?.(true);
  try {
    return await readLine(input);
  } finally {
    if (hidden) {
      input.setRawMode?.(false);
      output.write('\n');
    }
    input.pause();
  }
}

async function readLine(input: InputStream): Promise<string> {
  const decoder = new StringDecoder('utf8');
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const giveUp = (): void => reject(new KeyringError('interrupted', 'Nothing was entered.'));
  let typed = '';
  const take = (character: string): void => {
    if (character === CTRL_C) giveUp();
    else if (ENTER.test(character)) resolve(typed);
    else if (character === CTRL_D) onEnd();
    else if (character === CTRL_U) typed = '';
    else if (BACKSPACE.test(character)) typed = [...typed].slice(0, -1).join('');
    else typed += character;
  };
  const onEnd = (): void => (typed === '' ? giveUp() : resolve(typed));
  const onData = (chunk: Buffer): void => {
    for (const character of decoder.write(chunk).replace(PASTE_MARK, '')) take(character);
  };
  input.on('data', onData);
  input.on('end', onEnd);
  input.resume();
  try {
    return await promise;
  } finally {
    input.off('data', onData);
    input.off('end', onEnd);
  }
}
