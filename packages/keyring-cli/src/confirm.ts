import { KeyringError } from '@meshhook/keyring';
import type { App } from './session.ts';
import { ask } from './terminal/prompt.ts';

export interface Confirmation {
  /** What will be done, and cannot be undone. */
  readonly warning: string;
  /** What has to be typed, without regard to case. */
  readonly wanted: string;
  /** What that is, as `id of the key`. */
  readonly what: string;
  readonly remedy: string;
}

/**
 * Asks for something to be typed back before it is gone for good.
 * @throws KeyringError `invalid_argument` when something else was typed, or where there is no terminal to ask at.
 */
export async function confirm({ stdin, stderr, terminal }: App, asked: Confirmation): Promise<void> {
  if (stdin.isTTY !== true) {
    throw new KeyringError('invalid_argument', 'There is no terminal to ask at whether you are sure.', {
      remedy: 'Add --yes.',
    });
  }
  terminal.say(asked.warning);
  const typed = await ask(stdin, stderr, `Type the ${asked.what} to go on: `, { hidden: false });
  if (typed.trim().toLowerCase() !== asked.wanted.toLowerCase()) {
    throw new KeyringError('invalid_argument', `That is not the ${asked.what}. Nothing was done.`, {
      remedy: asked.remedy,
    });
  }
}
