import { createHash } from 'node:crypto';
import type { NamedRequest } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { insertNamedRequest, selectNamedRequest, type RequestName } from './idempotency-store.ts';

/** Undoes a transaction whose request was answered by another, meanwhile. */
export class AlreadyMade extends Error {}

/** The name of a request, as it is stored: one actor's are not another's, and nobody reads what they were. */
export function requestName(actor: string, { key, request }: NamedRequest): RequestName {
  return { keyDigest: digest(actor, key), requestDigest: digest(request) };
}

/**
 * The id of the rotation that this request made when it was sent before.
 * @throws KeyringError `idempotency_conflict` when it asked for something else then.
 */
export async function rotationMadeBy(database: Queryable, name: RequestName): Promise<string | undefined> {
  const found = await selectNamedRequest(database, name);
  if (found === undefined || found.same) return found?.rotationId;
  throw new KeyringError('idempotency_conflict', 'This idempotency key was sent before with another request.', {
    remedy: 'Send another key with another request. The rotation that it made is in the details.',
    details: { rotationId: found.rotationId },
  });
}

/** In the transaction that records the rotation. @throws AlreadyMade when another one did. */
export async function nameRequest(tx: Queryable, name: RequestName, rotationId: string): Promise<void> {
  if (!(await insertNamedRequest(tx, name, rotationId))) throw new AlreadyMade();
}

/** Length-prefixed, so that no two lists of texts have one digest. */
function digest(...texts: readonly string[]): Buffer {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${String(Buffer.byteLength(text))}:`).update(text);
  return hash.digest();
}
