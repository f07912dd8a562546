import { visitorApi } from '#lib/server/api.ts';
import type { RequestHandler } from './$types';

/** Ends the session, without scripts, too. The API's answer takes the cookie. */
export const POST: RequestHandler = async (event) => {
  const ended = await visitorApi(event).forward('DELETE', '/api/session');
  // Who is not signed in any more is where they wanted to be.
  if (!ended.ok && ended.status !== 401) return ended;
  const headers = new Headers({ location: '/sign-in' });
  for (const cookie of ended.headers.getSetCookie()) headers.append('set-cookie', cookie);
  return new Response(null, { status: 303, headers });
};
