import { createRoute } from '@hono/zod-openapi';
import { permissions } from '@meshhook/keyring';
import type { MiddlewareHandler } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { tried } from '../access/authenticate.ts';
import { giveSession, isSameOrigin, sessionCookie, takeSession } from '../access/cookie.ts';
import { anybodyKnown } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes, type ApiEnv } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { problem } from '../problems.ts';
import { newSession, session, whoAmI } from '../schemas/access.ts';
import { noQuery } from '../schemas/common.ts';
import { time } from '../wire/common.ts';

/** Nobody is signed in as somebody else by a page from elsewhere. Programs send no Origin. */
const fromHere: MiddlewareHandler<ApiEnv> = async (c, next) => {
  if (c.req.header('origin') !== undefined && !isSameOrigin(c)) {
    return problem('forbidden', 'The sign-in was asked for from another origin.');
  }
  await next();
  return undefined;
};

/** Signing in with a link, looking who one is, and signing out. */
export function sessionRoutes(options: ResolvedHandlerOptions) {
  const path = '/api/session';

  const open = createRoute({
    method: 'post',
    path,
    summary: 'Sign in: a link becomes a session, once. The session is in a cookie that no script reads.',
    security: [],
    middleware: [fromHere, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(newSession) },
    responses: { 201: answers('signed in', session), ...bodyRefusals() },
  });

  const look = createRoute({
    method: 'get',
    path,
    summary: 'Who you are here, and what you may do where.',
    security: bearer,
    middleware: anybodyKnown(options),
    request: { query: noQuery },
    responses: { 200: answers('you', whoAmI), ...refusals() },
  });

  const end = createRoute({
    method: 'delete',
    path,
    summary: 'Sign out: the session of the cookie ends at once.',
    security: bearer,
    middleware: [anybodyKnown(options), ...readNoBody(options)] as const,
    request: { query: noQuery },
    responses: { 204: { description: 'signed out' }, ...bodyRefusals() },
  });

  return routes()
    .openapi(open, async (c) => {
      const { link } = c.req.valid('json');
      const { address } = c.env;
      const keyring = options.keyring.as({
        name: 'sign-in',
        kind: 'system',
        ...(address === undefined ? {} : { address }),
      });
      const opened = await tried(options, c, link, 'The link is used up, too old, or none.', () =>
        keyring.access.sessions.open(link),
      );
      // A refusal is a problem, which every route answers with as it is.
      if (opened instanceof Response) throw new HTTPException(401, { res: opened });
      // A session that the browser had before ends with the new one.
      const before = sessionCookie(c);
      if (before !== undefined) await keyring.access.sessions.end(before);
      giveSession(c, opened.secret, opened.session.expiresAt);
      return c.json({ person: opened.session.person, expiresAt: time(opened.session.expiresAt) }, 201);
    })
    .openapi(look, async (c) => {
      const { principal, keyring } = c.var;
      const held = permissions.map((permission) => [permission, principal.projectsWith(permission)] as const);
      const warnings = principal.can('access:manage') ? await keyring.access.warnings() : [];
      return c.json(
        {
          id: principal.id,
          kind: principal.kind,
          name: principal.name,
          person: principal.person,
          roles: [...principal.roles],
          permissions: Object.fromEntries(
            held
              .filter(([, projects]) => projects === 'all' || projects.length > 0)
              .map(([permission, projects]) => [permission, projects === 'all' ? 'all' : [...projects]]),
          ),
          warnings: warnings.map(({ code, message, remedy }) => ({ code, message, remedy })),
        },
        200,
      );
    })
    .openapi(end, async (c) => {
      const cookie = sessionCookie(c);
      if (cookie !== undefined) {
        await c.var.keyring.access.sessions.end(cookie);
        takeSession(c);
      }
      return c.body(null, 204);
    });
}
