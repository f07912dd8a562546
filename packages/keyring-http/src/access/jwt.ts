import { createSecretKey } from 'node:crypto';
import { KeyringError } from '@meshhook/keyring';
import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload, type JWTVerifyOptions } from 'jose';

/** Whose JWTs are believed: Supabase Auth's, by its keys or by its secret. */
export type JwtOptions = {
  /** `iss`, exactly: `https://PROJECT.supabase.co/auth/v1`. */
  readonly issuer: string;
  /** `aud`. Default `authenticated`. */
  readonly audience?: string;
  /** How far clocks may be apart, in seconds, 0 to 60. Default 5. */
  readonly clockToleranceSeconds?: number;
} & (
  | {
      /** Where its public keys are: `https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json`. */
      readonly jwksUrl: string;
      readonly secret?: never;
    }
  | {
      /** The secret that it signs with (HS256), of 32 bytes at least. Whoever has it can be any user: keys are better. */
      readonly secret: string;
      readonly jwksUrl?: never;
    }
);

/** A user of Supabase Auth, who said so. */
export interface JwtUser {
  /** `sub`. */
  readonly id: string;
  readonly name: string;
}

/** The user of a JWT; undefined for one that is not believed. @throws KeyringError `issuer_unreachable` for keys that cannot be had. */
export type JwtVerifier = (jwt: string) => Promise<JwtUser | undefined>;

const LEAST_SECRET_BYTES = 32;
const MOST_TOLERANCE = 60;
const TOLERANCE = 5;
const MOST_CHARACTERS = 8_192;
const LONGEST_NAME = 200;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const shape = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/**
 * The algorithms are pinned by the kind of key, never by what a JWT says: a public key is no HMAC secret, and `none` is nothing.
 * @throws TypeError for options that make no sense: misuse, not a failure.
 */
export function jwtVerifier(options: JwtOptions): JwtVerifier {
  const { issuer, audience = 'authenticated', clockToleranceSeconds: clockTolerance = TOLERANCE } = options;
  if (issuer === '' || audience === '') throw new TypeError('jwt: issuer and audience are not empty');
  if (!Number.isInteger(clockTolerance) || clockTolerance < 0 || clockTolerance > MOST_TOLERANCE) {
    throw new TypeError(`jwt: clockToleranceSeconds takes a whole number from 0 to ${String(MOST_TOLERANCE)}`);
  }
  const common = { issuer, audience, clockTolerance, requiredClaims: ['exp', 'sub'] };
  const verify = verifierOf(options, common);
  return async (jwt) => {
    if (!looksLikeJwt(jwt)) return undefined;
    let payload: JWTPayload;
    try {
      payload = await verify(jwt);
    } catch (error) {
      if (error instanceof errors.JOSEError && !isUnreachable(error)) return undefined;
      throw options.jwksUrl === undefined ? error : issuerUnreachable(error);
    }
    // The keys of Supabase's API are JWTs by the same secret, and no users.
    if (payload['role'] !== 'authenticated' || typeof payload.sub !== 'string' || !uuid.test(payload.sub))
      return undefined;
    const { email } = payload;
    const id = payload.sub.toLowerCase();
    return { id, name: typeof email === 'string' && email !== '' ? email.slice(0, LONGEST_NAME) : id };
  };
}

export function looksLikeJwt(text: string): boolean {
  return text.length <= MOST_CHARACTERS && shape.test(text);
}

function verifierOf(options: JwtOptions, common: JWTVerifyOptions): (jwt: string) => Promise<JWTPayload> {
  const { secret, jwksUrl } = options;
  if ((secret === undefined) === (jwksUrl === undefined)) throw new TypeError('jwt: give either jwksUrl or secret');
  if (secret !== undefined) {
    const bytes = Buffer.from(secret, 'utf8');
    if (bytes.length < LEAST_SECRET_BYTES) {
      throw new TypeError(`jwt: a secret has ${String(LEAST_SECRET_BYTES)} bytes at least`);
    }
    const key = createSecretKey(bytes);
    return async (jwt) => (await jwtVerify(jwt, key, { ...common, algorithms: ['HS256'] })).payload;
  }
  const url = new URL(jwksUrl);
  const isHere = ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname);
  if (url.protocol !== 'https:' && !isHere) throw new TypeError('jwt: jwksUrl is an https: address');
  const keys = createRemoteJWKSet(url, { timeoutDuration: 5_000, cooldownDuration: 30_000 });
  const algorithms = ['ES256', 'RS256', 'EdDSA', 'Ed25519'];
  return async (jwt) => (await jwtVerify(jwt, keys, { ...common, algorithms })).payload;
}

/** For the log: a caller is told the code. */
function issuerUnreachable(error: unknown): KeyringError {
  const { message, cause } = error as { message?: unknown; cause?: { code?: unknown } };
  const why = [message, cause?.code].filter((part) => typeof part === 'string').join(', ');
  return new KeyringError('issuer_unreachable', `The keys that JWTs are signed with cannot be had: ${why}`, {
    remedy: 'Check MESHHOOK_JWKS_URL, and that it answers from here. API tokens and sessions work meanwhile.',
  });
}

/** The keys could not be had: no fault of the JWT. */
function isUnreachable(error: errors.JOSEError): boolean {
  return (
    error instanceof errors.JWKSTimeout || error.code === 'ERR_JOSE_GENERIC' || error instanceof errors.JWKSInvalid
  );
}
