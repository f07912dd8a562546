import { createHash, timingSafeEqual } from 'node:crypto';

/** What a token may do: `read` looks, `rotate` asks for rotations. Neither includes the other. */
export const scopes = ['read', 'rotate'] as const;
export type Scope = (typeof scopes)[number];

/** A token as it is kept: never itself, only its digest. */
export interface ApiToken {
  /** Who it is, for people: `deploy`, `start`. */
  readonly name: string;
  /** `tokenDigest(token)`. */
  readonly digest: string;
  readonly scopes: readonly Scope[];
}

/**
 * SHA-256 of the token, in hex. A plain hash is enough because tokens are random (256 bits): there is no dictionary to
 * try, which is what slow password hashes are for.
 */
export function tokenDigest(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex');
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

/** The token of an `Authorization: Bearer …` header (RFC 6750 section 2.1), undefined when it is none. */
export function bearerToken(header: string | undefined): string | undefined {
  return /^Bearer +([A-Za-z0-9\-._~+/]+=*)$/i.exec(header ?? '')?.[1];
}
