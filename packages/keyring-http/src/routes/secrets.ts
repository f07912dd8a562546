import { createRoute } from '@hono/zod-openapi';
import { KeyringError } from '@meshhook/keyring';
import { permit, type PermitScope } from '../access/permit.ts';
import { answers, bearer, bodyRefusals, jsonBody, refusals, routes } from '../api.ts';
import { MAX_VALUE_BODY_BYTES, readBody, readNoBody } from '../body.ts';
import { pageOf, positionOf } from '../cursor.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { idParam, noQuery, storedName, withReason } from '../schemas/common.ts';
import {
  putSecret,
  putSecretRequest,
  revealedSecret,
  secretList,
  secretParam,
  secretsQuery,
} from '../schemas/secrets.ts';
import { wireRevealed, wireSecret } from '../wire/projects.ts';
import { projectOf } from './projects.ts';

/** Of a value that is there, and does not open. */
const unopened = ['illegal_state', 'decryption_failed', 'key_destroyed', 'key_disabled'] as const;

/** Secrets of a project. No answer holds a value, but of a service that resolves one and of a person who reveals one. */
export function secretRoutes(options: ResolvedHandlerOptions) {
  const inProject: PermitScope = { project: (c) => c.req.param('id') };
  const path = '/api/projects/{id}/secrets/{name}';

  const list = createRoute({
    method: 'get',
    path: '/api/projects/{id}/secrets',
    summary: 'Secrets, by name, without values.',
    security: bearer,
    middleware: permit(options, 'secrets:list', inProject),
    request: { params: idParam, query: secretsQuery },
    responses: { 200: answers('the secrets', secretList), ...refusals('unknown_project', 'ambiguous_project') },
  });

  const resolve = createRoute({
    method: 'get',
    path,
    summary: 'Read a value, as a service: the trail has how many it read, and not an entry for each.',
    security: bearer,
    middleware: permit(options, 'secrets:resolve', inProject),
    request: { params: secretParam, query: noQuery },
    responses: {
      200: answers('the value', revealedSecret),
      ...refusals('unknown_project', 'ambiguous_project', 'unknown_secret', 'invalid_name', ...unopened),
    },
  });

  const put = createRoute({
    method: 'put',
    path,
    summary: 'Encrypt and store a value.',
    security: bearer,
    middleware: [permit(options, 'secrets:write', inProject), ...readBody(options, MAX_VALUE_BODY_BYTES)] as const,
    request: { params: secretParam, query: noQuery, body: jsonBody(putSecretRequest) },
    responses: {
      200: answers('there was one', putSecret),
      201: answers('it is new', putSecret),
      ...bodyRefusals('unknown_project', 'ambiguous_project', 'invalid_name', 'invalid_value'),
    },
  });

  const remove = createRoute({
    method: 'delete',
    path,
    summary: 'Delete a secret.',
    security: bearer,
    middleware: [permit(options, 'secrets:write', inProject), ...readNoBody(options)] as const,
    request: { params: secretParam, query: noQuery },
    responses: {
      204: { description: 'it is gone' },
      ...bodyRefusals('unknown_project', 'ambiguous_project', 'unknown_secret', 'invalid_name'),
    },
  });

  const reveal = createRoute({
    method: 'post',
    path: `${path}/reveal`,
    summary: 'Look at a value, on the record.',
    security: bearer,
    middleware: [permit(options, 'secrets:reveal', inProject), ...readBody(options)] as const,
    request: { params: secretParam, query: noQuery, body: jsonBody(withReason) },
    responses: {
      200: answers('the value', revealedSecret),
      ...bodyRefusals('unknown_project', 'ambiguous_project', 'unknown_secret', 'invalid_name', ...unopened),
    },
  });

  return routes()
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const found = await c.var.sight.secrets.list(projectOf(c).id, {
        limit: limit + 1,
        ...(cursor === undefined ? {} : { after: positionOf(storedName, cursor) }),
      });
      const { items, next } = pageOf(found, limit, ({ name }) => name);
      return c.json({ secrets: items.map(wireSecret), next }, 200);
    })
    .openapi(resolve, async (c) => {
      const secret = await c.var.sight.secrets.get(projectOf(c).id, c.req.valid('param').name);
      if (secret === undefined) throw unknownSecret();
      return c.json(wireRevealed(secret), 200);
    })
    .openapi(put, async (c) => {
      const { name } = c.req.valid('param');
      const { value, encoding } = c.req.valid('json');
      const bytes = encoding === 'base64' ? fromBase64(value) : value;
      const { id, created, keyId } = await c.var.keyring.secrets.put(projectOf(c).id, name, bytes);
      const stored = { id, name, created, keyId };
      return created ? c.json(stored, 201) : c.json(stored, 200);
    })
    .openapi(remove, async (c) => {
      const { name } = c.req.valid('param');
      if (!(await c.var.keyring.secrets.remove(projectOf(c).id, name))) throw unknownSecret();
      return c.body(null, 204);
    })
    .openapi(reveal, async (c) => {
      const { name } = c.req.valid('param');
      const { reason } = c.req.valid('json');
      const secret = await c.var.sight.secrets.reveal(projectOf(c).id, name, { reason });
      if (secret === undefined) throw unknownSecret();
      return c.json(wireRevealed(secret), 200);
    });
}

/** What Node would skip over is refused: a value with a typing error in it is not that value. */
function fromBase64(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64').replace(/=+$/, '') === text.replace(/=+$/, '')) return bytes;
  throw new KeyringError('invalid_value', 'The value is not base64.');
}

function unknownSecret(): KeyringError {
  return new KeyringError('unknown_secret', 'The project has no such secret.');
}
