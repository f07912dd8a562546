import { createRoute } from '@hono/zod-openapi';
import { KeyringError, type Grant } from '@meshhook/keyring';
import type { Context } from 'hono';
import { isPermittedIn, lacking, permit, requireProject } from '../access/permit.ts';
import { holding, mayHandOut } from '../access/principal.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes, type ApiEnv } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { approvalNeeded, grant, grantList, grantPosition, grantsQuery, newGrant } from '../schemas/access.ts';
import { idParam, noQuery } from '../schemas/common.ts';
import { wireGrant } from '../wire/access.ts';

/** Who has which role where. */
export function grantRoutes(options: ResolvedHandlerOptions) {
  const manage = permit(options, 'access:manage', { anyProject: true });
  const asked = answers('not done, but asked for: another admin decides', approvalNeeded);

  const list = createRoute({
    method: 'get',
    path: '/api/grants',
    summary: 'Who has which role where, by person.',
    security: bearer,
    middleware: manage,
    request: { query: grantsQuery },
    responses: { 200: answers('the grants', grantList), ...refusals() },
  });

  const add = createRoute({
    method: 'post',
    path: '/api/grants',
    summary: 'Give a person a role, in a project or in the whole instance.',
    security: bearer,
    middleware: [manage, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(newGrant) },
    responses: {
      201: answers('granted', grant),
      202: asked,
      ...bodyRefusals('unknown_project', 'ambiguous_project'),
    },
  });

  const remove = createRoute({
    method: 'delete',
    path: '/api/grants/{id}',
    summary: 'Take a role away.',
    security: bearer,
    middleware: [manage, ...readNoBody(options)] as const,
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('taken away', grant), 202: asked, ...bodyRefusals('unknown_grant') },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const after = cursor === undefined ? undefined : positionOf(grantPosition, cursor);
      const found = await c.var.sight.access.grants.list({
        limit: limit + 1,
        among: c.var.principal.projects,
        ...(after === undefined ? {} : { after: { ...after, projectId: after.projectId ?? undefined } }),
      });
      const { items, next } = pageOf(found, limit, ({ person, role, projectId }) => ({
        ...{ person, role, projectId: projectId ?? null },
      }));
      return c.json({ grants: items.map(wireGrant), next }, 200);
    })
    .openapi(add, async (c) => {
      const { person, role, project, reason } = c.req.valid('json');
      const { keyring, principal } = c.var;
      const projectId = project === undefined ? undefined : (await requireProject(c, 'access:manage', project)).id;
      if (projectId === undefined && !principal.can('access:manage')) throw lacking('access:manage');
      if (!mayHandOut(holding(role, projectId === undefined ? 'all' : [projectId]), principal.held)) {
        throw new KeyringError('forbidden', 'Nobody grants more than they hold.');
      }
      const made = await keyring.access.grants.add({
        ...{ person, role },
        ...(projectId === undefined ? {} : { projectId }),
        ...(reason === undefined ? {} : { reason }),
      });
      return c.json(wireGrant(made), 201);
    })
    .openapi(remove, async (c) => {
      const { id } = await requireGrant(c, c.req.valid('param').id);
      return c.json(wireGrant(await c.var.keyring.access.grants.remove(id)), 200);
    });
}

async function requireGrant(c: Context<ApiEnv>, id: string): Promise<Grant> {
  const found = await c.var.sight.access.grants.get(id);
  const known =
    found !== undefined &&
    (found.projectId === undefined
      ? c.var.principal.can('access:manage')
      : isPermittedIn(c, 'access:manage', [found.projectId]));
  if (!known) throw new KeyringError('unknown_grant', 'There is no such grant.');
  return found;
}
