import { createRoute } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { noQuery, uuid } from '../schemas/common.ts';
import {
  logQuery,
  notification,
  notificationLog,
  notificationRequest,
  notificationSet,
  notificationSettings,
} from '../schemas/notifications.ts';
import { wireEndpoint, wireNotification } from '../wire/notifications.ts';

/** Whom this installation tells what happened. */
export function notificationRoutes(options: ResolvedHandlerOptions) {
  const manager = permit(options, 'access:manage', { instance: true });
  const settings = answers('where they go', notificationSettings);

  const show = createRoute({
    method: 'get',
    path: '/api/notifications',
    summary: 'The endpoint that is told what happened.',
    security: bearer,
    middleware: manager,
    request: { query: noQuery },
    responses: { 200: settings, ...refusals() },
  });
  const set = createRoute({
    method: 'put',
    path: '/api/notifications',
    summary: 'Set the endpoint. A secret that is made for it is in this answer, and in no other.',
    security: bearer,
    middleware: [manager, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(notificationRequest) },
    responses: { 200: answers('set', notificationSet), ...bodyRefusals() },
  });
  const unset = createRoute({
    method: 'delete',
    path: '/api/notifications',
    summary: 'Tell nobody anything any more.',
    security: bearer,
    middleware: [manager, ...readNoBody(options)] as const,
    request: { query: noQuery },
    responses: { 200: settings, ...bodyRefusals('illegal_state') },
  });
  const test = createRoute({
    method: 'post',
    path: '/api/notifications/test',
    summary: 'Put a message into the queue. The log says what becomes of it.',
    security: bearer,
    middleware: [manager, ...readNoBody(options)] as const,
    request: { query: noQuery },
    responses: { 202: answers('it is in the queue', notification), ...bodyRefusals('illegal_state') },
  });
  const log = createRoute({
    method: 'get',
    path: '/api/notifications/log',
    summary: 'What was told, and how its delivery went, the newest first.',
    security: bearer,
    middleware: manager,
    request: { query: logQuery },
    responses: { 200: answers('the newest messages', notificationLog), ...refusals() },
  });

  return routes()
    .openapi(show, async (c) => {
      const endpoint = await c.var.keyring.notifications.show();
      return c.json({ endpoint: endpoint === undefined ? null : wireEndpoint(endpoint) }, 200);
    })
    .openapi(set, async (c) => {
      const { url, events, newSecret } = c.req.valid('json');
      const { endpoint, secret } = await c.var.keyring.notifications.set({
        url,
        ...(events === undefined ? {} : { events }),
        ...(newSecret === undefined ? {} : { newSecret }),
      });
      return c.json({ endpoint: wireEndpoint(endpoint), secret: secret ?? null }, 200);
    })
    .openapi(unset, async (c) => {
      await c.var.keyring.notifications.unset();
      return c.json({ endpoint: null }, 200);
    })
    .openapi(test, async (c) => c.json(wireNotification(await c.var.keyring.notifications.test()), 202))
    .openapi(log, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.keyring.notifications.log({
        limit: limit + 1,
        ...(cursor === undefined ? {} : { before: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ notifications: items.map(wireNotification), next }, 200);
    });
}
