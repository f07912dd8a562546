import { OpenAPIHono } from '@hono/zod-openapi';
import { KeyringError } from '@meshhook/keyring';
import { HTTPException } from 'hono/http-exception';
import { methodNotAllowed } from 'hono/method-not-allowed';
import type { ApiEnv, RequestContext } from './api.ts';
import { mountOpenApi } from './openapi.ts';
import { resolveOptions, type KeyringHandlerOptions, type ResolvedHandlerOptions } from './options.ts';
import { problem, problemOf } from './problems.ts';
import { approvalRoutes } from './routes/approvals.ts';
import { grantRoutes } from './routes/grants.ts';
import { auditRoutes } from './routes/audit.ts';
import { healthRoutes } from './routes/health.ts';
import { instanceRoutes } from './routes/instances.ts';
import { keyActRoutes } from './routes/key-acts.ts';
import { keyRoutes } from './routes/keys.ts';
import { metricsRoutes } from './routes/metrics.ts';
import { notificationRoutes } from './routes/notifications.ts';
import { overviewRoutes } from './routes/overview.ts';
import { policyRoutes } from './routes/policies.ts';
import { projectRoutes } from './routes/projects.ts';
import { quarantineRoutes } from './routes/quarantine.ts';
import { reportRoutes } from './routes/report.ts';
import { rootKeyRoutes } from './routes/root-keys.ts';
import { rotateRoutes } from './routes/rotate.ts';
import { rotationActRoutes } from './routes/rotation-acts.ts';
import { rotationEventRoutes } from './routes/rotation-events.ts';
import { rotationRoutes } from './routes/rotations.ts';
import { secretRoutes } from './routes/secrets.ts';
import { sessionRoutes } from './routes/session.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { wrappingKeyRoutes } from './routes/wrapping-keys.ts';

/** Each of a noun. A path that is spelled out comes before the one that takes anything in its place. */
const groups = [
  healthRoutes,
  overviewRoutes,
  auditRoutes,
  rotateRoutes,
  keyRoutes,
  keyActRoutes,
  rotationRoutes,
  rotationActRoutes,
  rotationEventRoutes,
  quarantineRoutes,
  policyRoutes,
  notificationRoutes,
  projectRoutes,
  secretRoutes,
  instanceRoutes,
  rootKeyRoutes,
  wrappingKeyRoutes,
  reportRoutes,
  metricsRoutes,
  sessionRoutes,
  tokenRoutes,
  grantRoutes,
  approvalRoutes,
];

/** What the trail keeps. A host that takes an address from a header takes what somebody sent. */
const LONGEST_ADDRESS = 100;

const securityHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/**
 * The HTTP API as one function. It answers `/api/…`, `/metrics`, `/healthz` and `/readyz`, and everything else with a 404 problem; it
 * never rejects. Mount it under those paths as they are.
 * @throws TypeError for options that are unknown, missing or make no sense.
 */
export function keyringHandler(
  options: KeyringHandlerOptions,
): (request: Request, context?: RequestContext) => Promise<Response> {
  const app = createApp(resolveOptions(options));
  return async (request, { address } = {}) =>
    app.fetch(request, { address: address?.slice(0, LONGEST_ADDRESS) || undefined });
}

/** All routes, and what goes around them. */
export function createApp(resolved: ResolvedHandlerOptions): OpenAPIHono<ApiEnv> {
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
  for (const group of groups) app.route('/', group(resolved));
  mountOpenApi(app, resolved);

  app.notFound(() => problem('unknown_route', 'There is nothing at this address.'));
  app.onError((error, c) => {
    if (error instanceof KeyringError && error.code === 'approval_needed') {
      const { approval: id, action, subject, state, expiresAt } = error.details;
      return c.json({ approval: { id, action, subject, state, expiresAt } }, 202);
    }
    if (error instanceof HTTPException && error.res !== undefined) return error.res;
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

  return app;
}
