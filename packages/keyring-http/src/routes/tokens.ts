import { createRoute } from '@hono/zod-openapi';
import { KeyringError, permissionsOf, type AccessToken, type Holding } from '@meshhook/keyring';
import type { Context } from 'hono';
import { isPermittedIn, lacking, permit, requireProject } from '../access/permit.ts';
import { mayHandOut } from '../access/principal.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes, type ApiEnv } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { accessToken, madeToken, newToken, tokenList, tokensQuery } from '../schemas/access.ts';
import { idParam, noQuery, uuid } from '../schemas/common.ts';
import { wireToken } from '../wire/access.ts';

/** API tokens, of those who may manage the access to all that a token is for. */
export function tokenRoutes(options: ResolvedHandlerOptions) {
  const manage = permit(options, 'access:manage', { anyProject: true });

  const list = createRoute({
    method: 'get',
    path: '/api/tokens',
    summary: 'API tokens, newest first, without the tokens.',
    security: bearer,
    middleware: manage,
    request: { query: tokensQuery },
    responses: { 200: answers('the tokens', tokenList), ...refusals() },
  });

  const create = createRoute({
    method: 'post',
    path: '/api/tokens',
    summary: 'Make a token. It may do no more than who makes it, and is shown this once.',
    security: bearer,
    middleware: [manage, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(newToken) },
    responses: {
      201: answers('made', madeToken),
      ...bodyRefusals('invalid_name', 'unknown_project', 'ambiguous_project'),
    },
  });

  const revoke = createRoute({
    method: 'delete',
    path: '/api/tokens/{id}',
    summary: 'Revoke a token: nobody gets in with it from now on.',
    security: bearer,
    middleware: [manage, ...readNoBody(options)] as const,
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('revoked', accessToken), ...bodyRefusals('unknown_token') },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.sight.access.tokens.list({
        limit: limit + 1,
        among: c.var.principal.projects,
        ...(cursor === undefined ? {} : { before: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ tokens: items.map(wireToken), next }, 200);
    })
    .openapi(create, async (c) => {
      const { name, role, permissions, projects: named, expiresInDays } = c.req.valid('json');
      const { keyring, principal } = c.var;
      const ids = new Set<string>();
      for (const one of named ?? []) ids.add((await requireProject(c, 'access:manage', one)).id);
      const projects = named === undefined ? 'all' : [...ids];
      const wanted: Holding = {
        role,
        permissions: permissions ?? (role === undefined ? [] : permissionsOf[role]),
        projects,
      };
      if (projects === 'all' && !principal.can('access:manage')) throw lacking('access:manage');
      if (!mayHandOut(wanted, principal.held)) {
        throw new KeyringError('forbidden', 'A token may do no more than who makes it.', {
          remedy: 'Choose fewer permissions, or fewer projects.',
        });
      }
      const made = await keyring.access.tokens.create({
        ...{ name, projects },
        ...(role === undefined ? {} : { role }),
        ...(permissions === undefined ? {} : { permissions }),
        ...(expiresInDays === undefined ? {} : { expiresInDays }),
      });
      return c.json({ token: made.token, entry: wireToken(made.entry) }, 201);
    })
    .openapi(revoke, async (c) => {
      const { id } = await requireToken(c, c.req.valid('param').id);
      return c.json(wireToken(await c.var.keyring.access.tokens.revoke(id)), 200);
    });
}

/** One of an instance is known to those who manage the instance; one of projects to those who know them all. */
async function requireToken(c: Context<ApiEnv>, id: string): Promise<AccessToken> {
  const token = await c.var.sight.access.tokens.get(id);
  const known =
    token !== undefined &&
    (token.projects === 'all'
      ? c.var.principal.can('access:manage')
      : isPermittedIn(c, 'access:manage', token.projects));
  if (!known) throw new KeyringError('unknown_token', 'There is no such token.');
  return token;
}
