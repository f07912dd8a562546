import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError, type Project } from '@meshhook/keyring';
import type { Context } from 'hono';
import { permit } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes, type ApiEnv } from '../api.ts';
import { readBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery, storedName } from '../schemas/common.ts';
import {
  newProject,
  project as projectSchema,
  projectList,
  projectsQuery,
  timeline,
  timelineQuery,
} from '../schemas/projects.ts';
import { wireKey } from '../wire/keys.ts';
import { wireEvent, wireProject } from '../wire/projects.ts';

const position = z.strictObject({ name: storedName, id: z.uuid() });
const KEYS_SHOWN = 1000;

export function projectRoutes(options: ResolvedHandlerOptions) {
  const inProject = permit(options, 'keys:read', { project: (c) => c.req.param('id') });

  const list = createRoute({
    method: 'get',
    path: '/api/projects',
    summary: 'Projects, by name.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { query: projectsQuery },
    responses: { 200: answers('the projects', projectList), ...refusals() },
  });

  const create = createRoute({
    method: 'post',
    path: '/api/projects',
    summary: 'Make a project. Its first secret makes version 1 of its key.',
    security: bearer,
    middleware: [permit(options, 'access:manage', { instance: true }), ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(newProject) },
    responses: {
      201: { ...answers('made', projectSchema), headers: z.object({ Location: z.string() }) },
      ...bodyRefusals('invalid_name'),
    },
  });

  const one = createRoute({
    method: 'get',
    path: '/api/projects/{id}',
    summary: 'One project, by its id or its name.',
    security: bearer,
    middleware: inProject,
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('the project', projectSchema), ...refusals('unknown_project', 'ambiguous_project') },
  });

  const history = createRoute({
    method: 'get',
    path: '/api/projects/{id}/timeline',
    summary: "The versions of a project's key, and what happened to them, the newest first.",
    security: bearer,
    middleware: inProject,
    request: { params: idParam, query: timelineQuery },
    responses: { 200: answers('its keys', timeline), ...refusals('unknown_project', 'ambiguous_project') },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, search } = c.req.valid('query');
      const { sight, principal } = c.var;
      const found = await sight.projects.list({
        limit: limit + 1,
        among: principal.projects,
        ...(cursor === undefined ? {} : { after: positionOf(position, cursor) }),
        ...(search === undefined ? {} : { search }),
      });
      const { items, next } = pageOf(found, limit, ({ name, id }) => ({ name, id }));
      return c.json({ projects: items.map(wireProject), next }, 200);
    })
    .openapi(create, async (c) => {
      const { name, owner } = c.req.valid('json');
      const made = await c.var.keyring.projects.create({ name, ...(owner === undefined ? {} : { owner }) });
      return c.json(wireProject(made), 201, { location: `/api/projects/${made.id}` });
    })
    .openapi(one, (c) => c.json(wireProject(projectOf(c)), 200))
    .openapi(history, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const { sight } = c.var;
      const project = projectOf(c);
      const keys = await sight.keys.page({ projectId: project.id, limit: KEYS_SHOWN });
      const found = await sight.audit.list({
        projectId: project.id,
        limit: limit + 1,
        ...(cursor === undefined ? {} : { before: positionOf(z.string().regex(/^\d{1,18}$/), cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json(
        {
          project: wireProject(project),
          keys: keys.map(wireKey).toReversed(),
          events: items.filter(({ action }) => /^(key|rotation)\./.test(action)).map(wireEvent),
          next,
        },
        200,
      );
    });
}

/** The one that the path names: `permit` has found it. */
export function projectOf({ var: { project } }: Context<ApiEnv>): Project {
  if (project === undefined) throw new KeyringError('unknown_project', 'There is no such project.');
  return project;
}
