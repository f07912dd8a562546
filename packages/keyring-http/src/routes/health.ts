import { createRoute } from '@hono/zod-openapi';
import { KeyringError, type Keyring } from '@meshhook/keyring';
import { problems, routes } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { health, readiness } from '../schemas/problem.ts';

const READY_TIMEOUT_MS = 5_000;

const healthz = createRoute({
  method: 'get',
  path: '/healthz',
  summary: 'Is the process alive? Asks nobody.',
  responses: { 200: { description: 'alive', content: { 'application/json': { schema: health } } } },
});

const readyz = createRoute({
  method: 'get',
  path: '/readyz',
  summary: 'Can it answer? The database is there and migrated, and the keys are in hand.',
  responses: {
    200: { description: 'ready', content: { 'application/json': { schema: readiness } } },
    ...problems('database_unreachable', 'not_migrated', 'schema_too_new'),
  },
});

export function healthRoutes({ keyring, version }: ResolvedHandlerOptions) {
  return routes()
    .openapi(healthz, (c) => c.json({ status: 'ok' as const, ...(version === '' ? {} : { version }) }, 200))
    .openapi(readyz, async (c) => {
      await readyInTime(keyring);
      return c.json({ status: 'ready' as const }, 200);
    });
}

/** Whoever asks has a time-out of its own, and wants an answer before it. */
async function readyInTime(keyring: Keyring): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new KeyringError('database_unreachable', `No answer in ${READY_TIMEOUT_MS} ms.`));
    }, READY_TIMEOUT_MS);
  });
  try {
    await Promise.race([keyring.ready(), late]);
  } finally {
    clearTimeout(timer);
  }
}
