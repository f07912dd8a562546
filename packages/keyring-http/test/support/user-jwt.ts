import { createHmac } from 'node:crypto';

/** What Supabase Auth gives a user who signs in, under a shared secret. */
export function userJwt({ issuer, secret }: { issuer: string; secret: string }, sub: string): string {
  const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    iss: issuer,
    aud: 'authenticated',
    role: 'authenticated',
    sub,
    exp: Math.floor(Date.now() / 1000) + 3_600,
  };
  const input = `${base64({ alg: 'HS256' })}.${base64(claims)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}
