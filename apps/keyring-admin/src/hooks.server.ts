import { randomUUID } from 'node:crypto';
import { building } from '$app/env';
import type { Handle, HandleServerError, ServerInit } from '@sveltejs/kit/hooks';
import { refuse } from '#lib/server/guard.ts';
import { consoleLog } from '#lib/server/log.ts';
import { program, startProgram } from '#lib/server/program.ts';

/** The API sets its own, stricter ones. */
const commonHeaders = {
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

export const init: ServerInit = async () => {
  if (!building) await startProgram();
};

export const handle: Handle = async ({ event, resolve }) => {
  const response = refuse(event.request, program().settings.allowedHosts) ?? (await resolve(event));
  for (const [name, value] of Object.entries(commonHeaders)) {
    if (!response.headers.has(name)) response.headers.set(name, value);
  }
  return response;
};

/** What nobody expected: the log has it, the page only an id. What was expected was thrown with its words. */
export const handleError: HandleServerError = (caught) => {
  if (caught.kind !== 'unknown') return undefined;
  const id = randomUUID();
  const { error } = caught;
  consoleLog.error(`error ${id}: ${error instanceof Error ? (error.stack ?? error.message) : typeof error}`);
  return { message: 'Something went wrong here.', id };
};
