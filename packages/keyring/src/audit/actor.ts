import type { Actor, PrincipalKind } from '../api.ts';

export const principalKinds: ReadonlySet<string> = new Set<PrincipalKind>([
  'user',
  'token',
  'session',
  'cli',
  'service',
  'worker',
  'system',
]);
const MOST_OF_A_NAME = 200;
const MOST_OF_AN_ADDRESS = 100;

/**
 * Who acts, made whole: a bare name is a service's.
 * @throws TypeError for a name or an address that is empty or too long, or a kind that does not exist: misuse, not a failure.
 */
export function requireActor(given: string | Actor): Actor {
  const { name, kind, address, person }: Actor = typeof given === 'string' ? { name: given, kind: 'service' } : given;
  if (typeof name !== 'string' || name.length < 1 || name.length > MOST_OF_A_NAME) {
    throw new TypeError(`an actor's name takes 1 to ${String(MOST_OF_A_NAME)} characters`);
  }
  if (!principalKinds.has(kind)) throw new TypeError(`unknown kind of actor: ${kind}`);
  if (address !== undefined && (address.length < 1 || address.length > MOST_OF_AN_ADDRESS)) {
    throw new TypeError(`an actor's address takes 1 to ${String(MOST_OF_AN_ADDRESS)} characters`);
  }
  return { name, kind, ...(address === undefined ? {} : { address }), ...(person === undefined ? {} : { person }) };
}
