import { OpenAPIHono } from '@hono/zod-openapi';
import { HTTPException } from 'hono/http-exception';
import { methodNotAllowed } from 'hono/method-not-allowed';
import type { ApiEnv } from './api.ts';
import { resolveOptions, type KeyringHandlerOptions } from './options.ts';
import { problem, problemOf } from './problems.ts';
import { healthRoutes } from './routes/health.ts';
import { keyRoutes } from './routes/keys.ts';
import { rotationRoutes } from './routes/rotations.ts';

const securityHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/**
 * The HTTP API as one function. It answers `/api/…`, `/healthz` and `/readyz`, and everything else with a 404 problem; it
 * never rejects. Mount it under those paths as they are.
 * @throws TypeError for options that are unknown, missing or make no sense.
 */
export function keyringHandler(options: KeyringHandlerOptions): (request: Request) => Promise<Response> {
  const resolved = resolveOptions(options);
  const app = new OpenAPIHono<ApiEnv>();

  app.use(async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(securityHeaders)) c.res.headers.set(name, value);
  });
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, allowed) =>
        problem(
          'method_not_allowed',
          `${c.req.method} is not for this address.`,
          { details: { allowed } },
          { allow: allowed.join(', ') },
        ),
    }),
  );
  app.route('/', healthRoutes(resolved));
  app.route('/', keyRoutes(resolved));
  app.route('/', rotationRoutes(resolved));

  app.notFound(() => problem('unknown_route', 'There is nothing at this address.'));
  app.onError((error) => {
    if (error instanceof HTTPException && error.status === 415) {
      return problem('unsupported_media_type', 'The body is not declared as JSON.', {
        remedy: 'Send `Content-Type: application/json`.',
      });
    }
    if (error instanceof HTTPException && error.status === 400) {
      return problem('malformed_json', 'The body is not JSON.');
    }
    return problemOf(error, resolved.onError);
  });

  return async (request) => app.fetch(request);
}
