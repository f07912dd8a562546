import { permissionsOf, type Holding } from '@meshhook/keyring';
import type { Context } from 'hono';
import type { ApiEnv } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { problem } from '../problems.ts';
import { bearerToken, findToken, tokenPrincipal } from './configured-tokens.ts';
import { isSameOrigin, sessionCookie } from './cookie.ts';
import { looksLikeJwt } from './jwt.ts';
import { principal, within, type Principal } from './principal.ts';
import type { Verdict } from './throttle.ts';

export const REALM = 'Bearer realm="meshhook-keyring"';
const isSomebody = /^(user|person):/;
const reading: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * Who sends this request: by its token, its JWT, or else its session's cookie. Or the answer to whom nobody knows.
 * @see RFC 6750 section 3 for the challenges.
 */
export async function authenticate(options: ResolvedHandlerOptions, c: Context<ApiEnv>): Promise<Principal | Response> {
  const credential = credentialOf(c);
  if (credential === undefined) return unknown('This route needs a token.');
  if (credential.kind === 'session' && !reading.has(c.req.method) && !isSameOrigin(c)) {
    return problem('forbidden', 'A change was asked for from another origin.', {
      remedy: 'Ask from the page of this server, or with a token.',
    });
  }
  const refusal = credential.kind === 'session' ? 'The session has ended.' : 'The token is not known here.';
  return tried(options, c, credential.text, refusal, () => find(options, credential));
}

/**
 * Who sent this request, as of now: what they may do can be less than it was when the request came. Nobody is at work because a stream
 * of theirs is open: their session goes idle.
 */
export async function recognizeAgain(
  options: ResolvedHandlerOptions,
  c: Context<ApiEnv>,
): Promise<Principal | undefined> {
  const credential = credentialOf(c);
  return credential && find(options, credential, { seen: false });
}

interface Credential {
  readonly kind: 'bearer' | 'session';
  readonly text: string;
}

/** A header that is there counts, whatever is in it: nobody falls back to a cookie. */
function credentialOf(c: Context<ApiEnv>): Credential | undefined {
  const header = c.req.header('authorization');
  const text = header === undefined ? sessionCookie(c) : bearerToken(header);
  return text === undefined ? undefined : { kind: header === undefined ? 'session' : 'bearer', text };
}

function find(
  options: ResolvedHandlerOptions,
  { kind, text }: Credential,
  { seen = true } = {},
): Promise<Principal | undefined> {
  return kind === 'session' ? session(options, text, seen) : bearer(options, text);
}

/** One try of a source: slowed down when many were wrong, and noted when it is. */
export async function tried<T extends object>(
  { throttle, refusals }: ResolvedHandlerOptions,
  c: Context<ApiEnv>,
  credential: string,
  refusal: string,
  look: () => Promise<T | undefined>,
): Promise<T | Response> {
  const source = c.env.address ?? 'unknown';
  const refused = () => {
    refusals.note(source);
    return unknown(refusal, ', error="invalid_token"');
  };
  if (throttle.isGivenUp(credential)) return refused();
  const seconds = throttle.begin(source, credential);
  if (seconds > 0) {
    refusals.note(source);
    return problem(
      'rate_limited',
      'Too many tries failed from this address.',
      { remedy: `Wait ${String(seconds)} s, then try again.` },
      { 'retry-after': String(seconds) },
    );
  }
  let verdict: Verdict = 'undecided';
  try {
    const found = await look();
    verdict = found === undefined ? 'wrong' : 'right';
    if (found !== undefined) return found;
  } finally {
    throttle.end(source, credential, verdict);
  }
  // What is random is never right later. A JWT can be: once its time has come, or its key is there.
  if (!looksLikeJwt(credential)) throttle.giveUp(credential);
  return refused();
}

function unknown(message: string, challenge = ''): Response {
  return problem(
    'unauthenticated',
    message,
    {
      remedy:
        'Send `Authorization: Bearer …` with an API token (`npm start` prints the path of the file it is in), or sign in with `mh-keys sign-in`.',
    },
    { 'www-authenticate': REALM + challenge },
  );
}

async function bearer(options: ResolvedHandlerOptions, presented: string): Promise<Principal | undefined> {
  const { tokens, keyring, verifyJwt } = options;
  const configured = findToken(tokens, presented);
  if (configured !== undefined) return tokenPrincipal(configured);
  if (verifyJwt !== undefined && looksLikeJwt(presented)) {
    const user = await verifyJwt(presented);
    if (user === undefined) return undefined;
    const person = `user:${user.id}`;
    return principal(
      { id: person, kind: 'user', name: user.name, person, sight: person },
      await keyring.access.holdings(person),
    );
  }
  const token = await keyring.access.tokens.find(presented);
  if (token === undefined) return undefined;
  const { id, name, person, role, permissions, projects } = token;
  const held: Holding = { role, permissions: permissions ?? (role === undefined ? [] : permissionsOf[role]), projects };
  // What is somebody's does no more than they may by now.
  const bounds = isSomebody.test(person) ? await keyring.access.holdings(person) : undefined;
  return principal(
    { id: `token:${id}`, kind: 'token', name, person, sight: `token:${id}` },
    bounds === undefined ? [held] : within(held, bounds),
  );
}

async function session(
  { keyring }: ResolvedHandlerOptions,
  cookie: string,
  seen: boolean,
): Promise<Principal | undefined> {
  const found = await keyring.access.sessions.find(cookie, { seen });
  if (found === undefined) return undefined;
  const { person } = found;
  return principal(
    { id: person, kind: 'session', name: person, person, sight: person },
    await keyring.access.holdings(person),
  );
}
