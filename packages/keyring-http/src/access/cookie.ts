import type { Context } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';
import type { ApiEnv } from '../api.ts';

export const SESSION_COOKIE = 'mh_session';

/** Strict: it comes along from our own pages only, not even with a link from elsewhere. No script reads it. */
const attributes = { path: '/', httpOnly: true, sameSite: 'Strict' } as const;

export function sessionCookie(c: Context<ApiEnv>): string | undefined {
  return getCookie(c, SESSION_COOKIE);
}

export function giveSession(c: Context<ApiEnv>, secret: string, expiresAt: Date): void {
  setCookie(c, SESSION_COOKIE, secret, { ...attributes, secure: isSecure(c), expires: expiresAt });
}

export function takeSession(c: Context<ApiEnv>): void {
  setCookie(c, SESSION_COOKIE, '', { ...attributes, secure: isSecure(c), maxAge: 0 });
}

/** Over plain HTTP on one's own machine, some browsers would not keep a cookie that is `Secure`. */
function isSecure(c: Context<ApiEnv>): boolean {
  return new URL(c.req.url).protocol === 'https:';
}

/**
 * Is it asked for by a page of ours, as far as the browser says? A cookie comes along whoever asks, so what changes something has to
 * say where it comes from.
 */
export function isSameOrigin(c: Context<ApiEnv>): boolean {
  const origin = c.req.header('origin');
  const site = c.req.header('sec-fetch-site');
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  if (origin === undefined) return site === 'same-origin';
  const host = c.req.header('host') ?? new URL(c.req.url).host;
  return URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
}
