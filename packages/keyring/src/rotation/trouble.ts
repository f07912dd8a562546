import { isOfTheServer } from '../db/failures.ts';
import type { KeyringError } from '../errors.ts';

// Of the database as a whole, of whoever asked, or of this process, which was not given the root key that it would need.
const codes: ReadonlySet<string> = new Set(['database_unreachable', 'interrupted', 'contended', 'wrong_root_key']);

/** Trouble that is no trouble of the one project at work, and must not block it. */
export function isNotItsOwn(error: KeyringError): boolean {
  return codes.has(error.code) || error.code.startsWith('root_key_') || isOfTheServer(error);
}
