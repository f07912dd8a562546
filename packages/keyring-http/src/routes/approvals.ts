import { createRoute } from '@hono/zod-openapi';
import { permit } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { approval, approvalList, approvalNeeded, approvalsQuery, rule, ruleChange } from '../schemas/access.ts';
import { idParam, noQuery, uuid } from '../schemas/common.ts';
import { wireApproval } from '../wire/access.ts';

/** The rule of two people: what waits for another admin, and the rule itself. */
export function approvalRoutes(options: ResolvedHandlerOptions) {
  const manage = permit(options, 'access:manage', { instance: true });

  const list = createRoute({
    method: 'get',
    path: '/api/approvals',
    summary: 'What was asked for that takes two people, newest first.',
    security: bearer,
    middleware: manage,
    request: { query: approvalsQuery },
    responses: { 200: answers('the approvals', approvalList), ...refusals() },
  });

  const decide = <Verb extends string>(verb: Verb, summary: string) =>
    createRoute({
      method: 'post',
      path: `/api/approvals/{id}/${verb}`,
      summary,
      security: bearer,
      middleware: [manage, ...readNoBody(options)] as const,
      request: { params: idParam, query: noQuery },
      responses: {
        200: answers('decided', approval),
        ...bodyRefusals('unknown_approval', 'illegal_state'),
      },
    });
  const approve = decide('approve', 'Let the person who asked do it, once. Nobody approves what they asked for.');
  const reject = decide('reject', 'Refuse it, or take it back.');

  const look = createRoute({
    method: 'get',
    path: '/api/two-person-rule',
    summary: 'The rule of two people, as it is now.',
    security: bearer,
    middleware: manage,
    request: { query: noQuery },
    responses: { 200: answers('the rule', rule), ...refusals() },
  });

  const change = createRoute({
    method: 'put',
    path: '/api/two-person-rule',
    summary: 'Switch the rule on, or off: off takes two people while it is in force.',
    security: bearer,
    middleware: [manage, ...readBody(options)] as const,
    request: { query: noQuery, body: jsonBody(ruleChange) },
    responses: {
      200: answers('the rule', rule),
      202: answers('not done, but asked for: another admin decides', approvalNeeded),
      ...bodyRefusals(),
    },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor, open } = c.req.valid('query');
      const found = await c.var.keyring.access.approvals.list({
        limit: limit + 1,
        open: open === 'true',
        ...(cursor === undefined ? {} : { before: positionOf(uuid, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ id }) => id);
      return c.json({ approvals: items.map(wireApproval), next }, 200);
    })
    .openapi(approve, async (c) =>
      c.json(wireApproval(await c.var.keyring.access.approvals.approve(c.req.valid('param').id)), 200),
    )
    .openapi(reject, async (c) =>
      c.json(wireApproval(await c.var.keyring.access.approvals.reject(c.req.valid('param').id)), 200),
    )
    .openapi(look, async (c) => c.json(await c.var.keyring.access.rule(), 200))
    .openapi(change, async (c) => {
      const { wanted, reason } = c.req.valid('json');
      return c.json(await c.var.keyring.access.setRule(wanted, { reason }), 200);
    });
}
