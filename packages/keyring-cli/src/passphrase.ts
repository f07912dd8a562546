import { KeyringError } from '@meshhook/keyring';
import { readInputFile, readStdin } from './input.ts';
import type { App } from './session.ts';
import { ask } from './terminal/prompt.ts';

export interface PassphraseOptions {
  /** Ask at the terminal; without one, the first line of standard input. */
  readonly passphrase?: boolean;
  /** The first line of a file. */
  readonly passphraseFile?: string;
}

/**
 * A passphrase, never from the command line. `twice`: a new one, which nobody could type again if the first time was an error.
 * Undefined when none was asked for.
 * @throws KeyringError `invalid_argument` when the two differ, or there is none; `interrupted`.
 */
export async function readPassphrase(
  app: App,
  { passphrase, passphraseFile }: PassphraseOptions,
  { twice = false } = {},
): Promise<string | undefined> {
  if (passphraseFile !== undefined) return firstLine(await readInputFile(passphraseFile));
  if (passphrase !== true) return undefined;
  if (app.stdin.isTTY !== true) return firstLine(await readStdin(app));
  const typed = await ask(app.stdin, app.stderr, 'Passphrase (not shown): ', { hidden: true });
  if (twice && typed !== (await ask(app.stdin, app.stderr, 'The same again: ', { hidden: true }))) {
    throw new KeyringError('invalid_argument', 'The two are not the same. Nothing was done.', { remedy: 'Try again.' });
  }
  return typed;
}

function firstLine(text: Buffer): string {
  const line = text.toString('utf8').split(/\r?\n/, 1)[0] ?? '';
  text.fill(0);
  if (line !== '') return line;
  throw new KeyringError('invalid_argument', 'There is no passphrase in the first line.', {
    remedy: 'Put it there, followed by nothing but a line end.',
  });
}
