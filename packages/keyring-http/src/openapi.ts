import { createRoute, z, type OpenAPIHono } from '@hono/zod-openapi';
import type { ApiEnv } from './api.ts';
import { answers, problems, routes } from './api.ts';
import { noQuery } from './schemas/common.ts';
import type { ResolvedHandlerOptions } from './options.ts';

/** OpenAPI 3.1 of everything that is mounted, made from the routes themselves. It tells no secret, and wants no permission. */
export function mountOpenApi(app: OpenAPIHono<ApiEnv>, { version }: ResolvedHandlerOptions): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API token, or a JWT of Supabase Auth where the host takes them.',
  });
  const route = createRoute({
    method: 'get',
    path: '/api/openapi.json',
    summary: 'This description.',
    request: { query: noQuery },
    responses: {
      200: answers('OpenAPI 3.1', z.record(z.string(), z.unknown())),
      ...problems('invalid_argument', 'internal'),
    },
  });
  let document: Record<string, unknown> | undefined;
  app.route(
    '/',
    routes().openapi(route, (c) => {
      document ??= describe(app, version);
      return c.json(document, 200);
    }),
  );
}

function describe(app: OpenAPIHono<ApiEnv>, version: string): Record<string, unknown> {
  const described = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'MeshHook Keyring',
      version: version === '' ? '0' : version,
      license: { name: 'MIT' },
      description: 'Keys, their rotation, and the secrets under them. docs/http-api.md says what is not a schema.',
    },
    servers: [{ url: '/' }],
  });
  return described as unknown as Record<string, unknown>;
}
