import { createHash, timingSafeEqual } from 'node:crypto';
import { permissions, roles, type Permission, type ProjectIds, type Role } from '@meshhook/keyring';
import { holding, principal, type Principal } from './principal.ts';

/** Short for permissions: `read` looks at keys and rotations, `rotate` asks for rotations. Neither includes the other. */
export const scopes = ['read', 'rotate', ...permissions] as const;
export type Scope = (typeof scopes)[number];

/** A token that the host configured, as it is kept: never itself, only its digest. With a role, or with scopes. */
export interface ApiToken {
  /** Who it is, for people: `deploy`, `start`. */
  readonly name: string;
  /** `tokenDigest(token)`. */
  readonly digest: string;
  readonly role?: Role;
  readonly scopes?: readonly Scope[];
  /** Ids of the projects it is for. Default: all. */
  readonly projects?: ProjectIds;
  /** Who is answerable for it, for the rule of two people: `operator`, `person:ada`. Default: the token itself. */
  readonly person?: string;
}

const permissionOf = (scope: Scope): Permission =>
  scope === 'read' ? 'keys:read' : scope === 'rotate' ? 'keys:rotate' : scope;

/**
 * SHA-256 of the token, in hex. A plain hash is enough because tokens are random (256 bits): there is no dictionary to
 * try, which is what slow password hashes are for.
 */
export function tokenDigest(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex');
}

/** @throws TypeError for tokens that make no sense: misuse, not a failure. */
export function checkTokens(tokens: readonly ApiToken[]): void {
  const names = new Set<string>();
  for (const { name, digest, role, scopes: given } of tokens) {
    if (name === '') throw new TypeError('a token has no name');
    if (names.has(name)) throw new TypeError(`two tokens are named "${name}"`);
    names.add(name);
    if (!/^[0-9a-f]{64}$/.test(digest)) {
      throw new TypeError(`the digest of the token "${name}" is not a SHA-256 in lower-case hex: use tokenDigest()`);
    }
    if ((role === undefined) === (given === undefined)) {
      throw new TypeError(`the token "${name}" needs either a role or scopes`);
    }
    if (role !== undefined && !roles.includes(role)) {
      throw new TypeError(`the token "${name}" has an unknown role: ${role as string}`);
    }
    for (const scope of given ?? []) {
      if (!scopes.includes(scope)) throw new TypeError(`the token "${name}" has an unknown scope: ${scope as string}`);
    }
  }
}

/**
 * Finds the token that was presented. Compares digests, all of them, in constant time: how long it takes tells neither how
 * much of a guess was right nor which token it was.
 */
export function findToken(tokens: readonly ApiToken[], presented: string): ApiToken | undefined {
  const digest = Buffer.from(tokenDigest(presented), 'hex');
  let found: ApiToken | undefined;
  for (const token of tokens) {
    if (timingSafeEqual(Buffer.from(token.digest, 'hex'), digest)) found = token;
  }
  return found;
}

export function tokenPrincipal({ name, role, scopes: given = [], projects = 'all', person }: ApiToken): Principal {
  const held = role === undefined ? { role, permissions: given.map(permissionOf), projects } : holding(role, projects);
  const id = `token:${name}`;
  return principal({ id, kind: 'token', name, person: person ?? id }, [held]);
}

/** The token of an `Authorization: Bearer …` header (RFC 6750 section 2.1), undefined when it is none. */
export function bearerToken(header: string | undefined): string | undefined {
  return /^Bearer +([A-Za-z0-9\-._~+/]+=*)$/i.exec(header ?? '')?.[1];
}
