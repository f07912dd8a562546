import type { Actor } from '../api.ts';
import { KeyringError } from '../errors.ts';

/** Who has a shell where the keyring runs. */
export const OPERATOR = 'operator';

const shape = /^(operator|user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|person:[a-z0-9._@-]{1,100})$/;

/** Who is answerable for what an actor does. Whoever uses the command line has a shell. */
export function personOf({ name, kind, person }: Actor): string {
  return person ?? (kind === 'cli' ? OPERATOR : name);
}

/** @throws KeyringError `invalid_argument`. */
export function requirePerson(text: string): string {
  if (!shape.test(text)) {
    throw new KeyringError('invalid_argument', 'That is not how a person is named here.', {
      remedy: 'Write user:ID with the id of a user, person:NAME with a name in lower case, or operator.',
    });
  }
  return text;
}

/** The id of a user of Supabase Auth, if that is who it is. */
export function userId(person: string): string | undefined {
  return person.startsWith('user:') ? person.slice('user:'.length) : undefined;
}
