import type { Permission } from '@meshhook/keyring';
import type { Context } from 'hono';
import type { ApiEnv } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { recognizeAgain } from './authenticate.ts';
import { lacking } from './permit.ts';

// So few that what a revoked token still gets is a fraction of a second's.
const PIECES_UNASKED = 1_000;

/**
 * A long answer, piece by piece, that outlives nobody's permission: whether they still have it, for the project that the request names or
 * for all that it is about, is asked again on the way. When not, and when something fails, the answer is cut off in the middle.
 */
export function permittedStream(
  options: ResolvedHandlerOptions,
  c: Context<ApiEnv>,
  permission: Permission,
  pieces: AsyncIterable<string>,
): ReadableStream<Uint8Array> {
  const { principal, project } = c.var;
  const projects = project === undefined ? principal.projects : [project.id];
  const may = async (): Promise<boolean> => {
    const who = await recognizeAgain(options, c);
    if (who === undefined) return false;
    return projects === 'all' ? who.can(permission) : projects.every((id) => who.can(permission, id));
  };
  return ReadableStream.from(whilePermitted(pieces, permission, may)).pipeThrough(new TextEncoderStream());
}

async function* whilePermitted<T>(
  pieces: AsyncIterable<T>,
  permission: Permission,
  may: () => Promise<boolean>,
): AsyncIterable<T> {
  let count = 0;
  for await (const piece of pieces) {
    if (++count % PIECES_UNASKED === 0 && !(await may())) throw lacking(permission);
    yield piece;
  }
  // What is read under an identity that has ended looks like the end of what there is.
  if (!(await may())) throw lacking(permission);
}
