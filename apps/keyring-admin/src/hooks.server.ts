import { randomUUID } from 'node:crypto';
import { building } from '$app/env';
import type { shapes } from '@meshhook/keyring-http';
import { inWords } from '@meshhook/keyring-worker';
import { redirect, type RequestEvent } from '@sveltejs/kit';
import type { Handle, HandleServerError, ServerInit } from '@sveltejs/kit/hooks';
import { refuse } from '#lib/server/guard.ts';
import { program, startProgram } from '#lib/server/program.ts';
import { themeCookie, themeOf } from '#lib/theme.ts';

/** The API sets its own, stricter ones. */
const commonHeaders = {
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  // Not `no-referrer`: a form that is sent without scripts would come with `Origin: null`, as from anywhere.
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
};

export const init: ServerInit = async () => {
  if (!building) await startProgram();
};

export const handle: Handle = async ({ event, resolve }) => {
  const theme = themeOf(event.cookies.get(themeCookie));
  const response =
    refuse(event.request, program().settings.allowedHosts) ??
    (await requireSignIn(event)) ??
    (await resolve(event, {
      transformPageChunk: ({ html }) => html.replace('data-theme="system"', `data-theme="${theme}"`),
    }));
  for (const [name, value] of Object.entries(commonHeaders)) {
    if (!response.headers.has(name)) response.headers.set(name, value);
  }
  return response;
};

// What answers for itself, and what is there before anybody is signed in.
const open = /^\/(api\/.*|healthz|readyz|metrics|sign-in|theme|favicon\.svg)$/;

/** Every page is for who is known: the API says who that is. What else it says, as that it does not answer, the page tells itself. */
async function requireSignIn(event: RequestEvent): Promise<Response | undefined> {
  if (open.test(event.url.pathname)) return undefined;
  const headers = new Headers();
  for (const name of ['cookie', 'authorization', 'host']) {
    const value = event.request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  const known = await program().api(new Request(new URL('/api/session', event.url.origin), { headers }), {
    address: event.getClientAddress(),
  });
  if (known.ok) event.locals.you = (await known.json()) as shapes.WhoAmI;
  if (known.status === 429) return known;
  if (known.status !== 401) return undefined;
  // What a form sent is refused by the API, and so stays in the form.
  if (event.request.method === 'POST' && event.request.headers.has('x-sveltekit-action')) return undefined;
  redirect(303, '/sign-in');
}

/** What nobody expected: the log has it, the page only an id. What was expected was thrown with its words. */
export const handleError: HandleServerError = (caught) => {
  if (caught.kind !== 'unknown') return undefined;
  const id = randomUUID();
  const { error } = caught;
  program().log.error(`error ${id}: ${inWords(error)}`, { event: 'page_failed', errorId: id, error });
  return { message: 'Something went wrong here.', id };
};
