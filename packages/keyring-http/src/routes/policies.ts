import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type PolicyChange } from '@meshhook/keyring';
import { permit, requireProject } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { cursorOf, pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { approvalNeeded } from '../schemas/access.ts';
import { noQuery } from '../schemas/common.ts';
import {
  overdueList,
  overduePosition,
  overdueQuery,
  policiesQuery,
  policyChange,
  policyDates,
  policyList,
  policyPosition,
  policyPreview,
  revisionQuery,
} from '../schemas/policies.ts';
import { wireOverdue, wirePolicy, wirePolicyDates } from '../wire/policies.ts';

const projectParam = z.object({ project: z.string() });

/** When keys are rotated by themselves: the default, and what projects have of their own. */
export function policyRoutes(options: ResolvedHandlerOptions) {
  const ofProject = (permission: 'keys:read' | 'keys:schedule') =>
    permit(options, permission, { project: (c) => c.req.param('project') });
  const somewhere = permit(options, 'keys:read', { anyProject: true });
  const dates = answers('the policy, and the next dates by it', policyDates);
  const asked = answers('not done, but asked for: another admin decides', approvalNeeded);

  const list = createRoute({
    method: 'get',
    path: '/api/policies',
    summary: 'The default policy, then those that projects have of their own.',
    security: bearer,
    middleware: somewhere,
    request: { query: policiesQuery },
    responses: { 200: answers('the policies', policyList), ...refusals() },
  });
  const overdue = createRoute({
    method: 'get',
    path: '/api/policies/overdue',
    summary: 'Projects whose key is older than their policy allows, and why, the oldest first.',
    security: bearer,
    middleware: somewhere,
    request: { query: overdueQuery },
    responses: { 200: answers('the projects', overdueList), ...refusals() },
  });
  const preview = createRoute({
    method: 'post',
    path: '/api/policies/preview',
    summary: 'What a change would come to. Changes nothing.',
    security: bearer,
    middleware: [somewhere, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(policyPreview) },
    responses: { 200: dates, ...bodyRefusals('unknown_project', 'ambiguous_project') },
  });
  const showDefault = createRoute({
    method: 'get',
    path: '/api/policies/default',
    summary:
      'The default policy, and the next dates by it: of the first project that goes by it and that the caller may see.',
    security: bearer,
    middleware: somewhere,
    request: { query: noQuery },
    responses: { 200: dates, ...refusals() },
  });
  const setDefault = createRoute({
    method: 'put',
    path: '/api/policies/default',
    summary: 'Change the default policy.',
    security: bearer,
    middleware: [permit(options, 'keys:schedule', { instance: true }), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(policyChange) },
    responses: { 200: dates, 202: asked, ...bodyRefusals('conflict') },
  });
  const show = createRoute({
    method: 'get',
    path: '/api/projects/{project}/policy',
    summary: "A project's policy, its own or the default, and the next dates by it.",
    security: bearer,
    middleware: ofProject('keys:read'),
    request: { params: projectParam, query: noQuery },
    responses: { 200: dates, ...refusals('unknown_project', 'ambiguous_project') },
  });
  const set = createRoute({
    method: 'put',
    path: '/api/projects/{project}/policy',
    summary: "Change a project's policy; one that goes by the default gets its own.",
    security: bearer,
    middleware: [ofProject('keys:schedule'), ...readBody(options)] as const,
    request: { params: projectParam, query: noQuery, body: jsonBody(policyChange) },
    responses: { 200: dates, 202: asked, ...bodyRefusals('unknown_project', 'ambiguous_project', 'conflict') },
  });
  const unset = createRoute({
    method: 'delete',
    path: '/api/projects/{project}/policy',
    summary: 'Let a project go by the default again.',
    security: bearer,
    middleware: [ofProject('keys:schedule'), ...readNoBody(options)] as const,
    request: { params: projectParam, query: revisionQuery },
    responses: {
      200: dates,
      202: asked,
      ...bodyRefusals('unknown_project', 'ambiguous_project', 'illegal_state', 'conflict'),
    },
  });

  return routes()
    .openapi(list, async (c) => {
      const { sight, principal } = c.var;
      const { limit, cursor } = c.req.valid('query');
      const found = await sight.policies.list({
        limit: limit + 1,
        among: principal.projects,
        ...(cursor === undefined ? {} : { after: positionOf(policyPosition, cursor) ?? theDefault }),
      });
      const { items, next } = pageOf(found, limit, ({ projectId, projectName }) =>
        projectId === undefined ? null : { projectId, projectName },
      );
      return c.json({ policies: items.map(wirePolicy), next }, 200);
    })
    .openapi(overdue, async (c) => {
      const { sight, principal } = c.var;
      const { limit, cursor } = c.req.valid('query');
      const after = cursor === undefined ? undefined : positionOf(overduePosition, cursor);
      const { total, projects, next } = await sight.policies.overdue({
        ...{ limit, among: principal.projects },
        ...(after === undefined ? {} : { after: { ...after, promisedAt: new Date(after.promisedAt) } }),
      });
      return c.json(
        { total, projects: projects.map(wireOverdue), next: next === undefined ? null : cursorOf(next) },
        200,
      );
    })
    .openapi(preview, async (c) => {
      const { project, count, ...change } = c.req.valid('json');
      const found = project === undefined ? undefined : await requireProject(c, 'keys:read', project);
      const next = await c.var.sight.policies.next({
        projectId: found?.id,
        change: given(change),
        among: c.var.principal.projects,
        ...(count === undefined ? {} : { count }),
      });
      return c.json(wirePolicyDates(next), 200);
    })
    .openapi(showDefault, async (c) => {
      const { sight, principal } = c.var;
      return c.json(wirePolicyDates(await sight.policies.next({ among: principal.projects })), 200);
    })
    .openapi(setDefault, async (c) => {
      const { revision, ...change } = c.req.valid('json');
      const { policies } = c.var.keyring;
      await policies.set(given(change), { revision });
      return c.json(wirePolicyDates(await policies.next()), 200);
    })
    .openapi(show, async (c) => {
      const projectId = c.var.project?.id;
      return c.json(wirePolicyDates(await c.var.sight.policies.next({ projectId })), 200);
    })
    .openapi(set, async (c) => {
      const { revision, ...change } = c.req.valid('json');
      const { policies } = c.var.keyring;
      const projectId = named(c.var.project?.id);
      await policies.set(given(change), { projectId, revision });
      return c.json(wirePolicyDates(await policies.next({ projectId })), 200);
    })
    .openapi(unset, async (c) => {
      const { policies } = c.var.keyring;
      const projectId = named(c.var.project?.id);
      await policies.unset(projectId, c.req.valid('query'));
      return c.json(wirePolicyDates(await policies.next({ projectId })), 200);
    });
}

const theDefault = { projectId: undefined, projectName: undefined };

type Given = { readonly [Name in keyof PolicyChange]?: PolicyChange[Name] | undefined };

/** Without the members that are there and undefined. */
function given(change: Given): PolicyChange {
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

function named(projectId: string | undefined): string {
  if (projectId === undefined) throw new KeyringError('unknown_project', 'There is no such project.');
  return projectId;
}
