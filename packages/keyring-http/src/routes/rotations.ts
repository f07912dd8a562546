import { createRoute, z } from '@hono/zod-openapi';
import { KeyringError } from '@meshhook/keyring';
import { permit, requireRotation } from '../access/permit.ts';
import { answers, bearer, refusals, routes } from '../api.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery, uuid } from '../schemas/common.ts';
import {
  receipt,
  receiptList,
  receiptsQuery,
  rotationDetail,
  rotationList,
  rotationProjectList,
  rotationProjectsQuery,
  rotationsQuery,
} from '../schemas/rotations.ts';
import { wireReceipt, wireRotation, wireRotationDetail, wireRotationProject } from '../wire/rotations.ts';

export function rotationRoutes(options: ResolvedHandlerOptions) {
  const list = createRoute({
    method: 'get',
    path: '/api/rotations',
    summary: 'Rotations, newest first.',
    security: bearer,
    middleware: permit(options, 'keys:read', { project: (c) => c.req.query('project') }),
    request: { query: rotationsQuery },
    responses: { 200: answers('the rotations', rotationList), ...refusals('unknown_project', 'ambiguous_project') },
  });

  const one = createRoute({
    method: 'get',
    path: '/api/rotations/{id}',
    summary: 'One rotation, project by project.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: idParam, query: noQuery },
    responses: { 200: answers('the rotation', rotationDetail), ...refusals('unknown_rotation') },
  });

  const projects = createRoute({
    method: 'get',
    path: '/api/rotations/{id}/projects',
    summary: 'The projects of a rotation, by their ids.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: idParam, query: rotationProjectsQuery },
    responses: { 200: answers('the projects', rotationProjectList), ...refusals('unknown_rotation') },
  });

  const receipts = createRoute({
    method: 'get',
    path: '/api/rotations/{id}/receipts',
    summary: 'The signed receipts of the projects that a rotation finalized, by the id of their project.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: idParam, query: receiptsQuery },
    responses: { 200: answers('the receipts', receiptList), ...refusals('unknown_rotation') },
  });

  const oneReceipt = createRoute({
    method: 'get',
    path: '/api/rotations/{id}/receipts/{projectId}',
    summary: 'The signed receipt of one project.',
    security: bearer,
    middleware: permit(options, 'keys:read', { anyProject: true }),
    request: { params: z.object({ id: z.string(), projectId: z.string() }), query: noQuery },
    responses: { 200: answers('the receipt', receipt), ...refusals('unknown_rotation', 'unknown_project') },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, state } = c.req.valid('query');
      const { sight, principal, project } = c.var;
      const found = await sight.rotations.list({
        limit: limit + 1,
        among: principal.projects,
        ...(cursor === undefined ? {} : { before: positionOf(z.uuid(), cursor) }),
        ...(state === undefined ? {} : { state }),
        ...(project === undefined ? {} : { projectId: project.id }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ rotations: items.map(wireRotation), next }, 200);
    })
    .openapi(one, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:read', id);
      const found = await c.var.sight.rotations.get(id);
      if (found === undefined) throw new KeyringError('unknown_rotation', 'There is no such rotation.');
      return c.json(wireRotationDetail(found), 200);
    })
    .openapi(projects, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:read', id);
      const { limit, cursor, state } = c.req.valid('query');
      const found = await c.var.sight.rotations.projects(id, {
        limit: limit + 1,
        ...(cursor === undefined ? {} : { after: positionOf(uuid, cursor) }),
        ...(state === undefined ? {} : { state }),
      });
      const { items, next } = pageOf(found, limit, ({ projectId }) => projectId);
      return c.json({ projects: items.map(wireRotationProject), next }, 200);
    })
    .openapi(receipts, async (c) => {
      const { id } = c.req.valid('param');
      await requireRotation(c, 'keys:read', id);
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.sight.rotations.receipts(id, {
        limit: limit + 1,
        ...(cursor === undefined ? {} : { after: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found.map(wireReceipt), limit, ({ projectId }) => projectId);
      return c.json({ receipts: [...items], next }, 200);
    })
    .openapi(oneReceipt, async (c) => {
      const { id, projectId } = c.req.valid('param');
      await requireRotation(c, 'keys:read', id);
      const [found] = await c.var.sight.rotations.receipts(id, { projectId });
      if (found === undefined) throw new KeyringError('unknown_project', 'The rotation finalized no such project.');
      return c.json(wireReceipt(found), 200);
    });
}
