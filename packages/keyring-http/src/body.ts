import type { MiddlewareHandler } from 'hono';
import type { ApiEnv } from './api.ts';
import type { ResolvedHandlerOptions } from './options.ts';
import { problem } from './problems.ts';

const MAX_BODY_BYTES = 64 * 1024;
/** For a value of 65,536 bytes, each of which JSON may write as six. */
export const MAX_VALUE_BODY_BYTES = 512 * 1024;

/**
 * Reads the body, so that who validates it has it at hand: bounded in size and time, and nothing but UTF-8. After `permit`: of
 * whoever is refused nothing is read.
 */
export function readBody({ bodyTimeoutMs }: ResolvedHandlerOptions, most = MAX_BODY_BYTES) {
  return [read(most, bodyTimeoutMs)] as const;
}

/** For what takes none: an empty object is taken for none, too. */
export function readNoBody({ bodyTimeoutMs }: ResolvedHandlerOptions) {
  return [read(MAX_BODY_BYTES, bodyTimeoutMs), refuseBody] as const;
}

function read(most: number, timeoutMs: number): MiddlewareHandler<ApiEnv> {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const tooLarge = () =>
    problem('body_too_large', `The body has more than ${most} bytes.`, { details: { limit: most } });
  return async (c, next) => {
    const { body } = c.req.raw;
    if (body === null) return next();
    if (Number(c.req.header('content-length')) > most) return tooLarge();
    const bytes = await readAll(body, most, timeoutMs);
    if (bytes === 'too large') return tooLarge();
    if (bytes === 'broken off') return problem('malformed_json', 'The body broke off.');
    if (bytes === 'too slow') {
      return problem('body_too_slow', `The body did not come within ${timeoutMs} ms.`, {}, { connection: 'close' });
    }
    try {
      utf8.decode(bytes);
    } catch {
      return problem('malformed_json', 'The body is not UTF-8.');
    }
    c.req.raw = new Request(c.req.raw, { body: bytes });
    return next();
  };
}

/** Whatever was declared. What is not read is left where it is: to cancel it would cut the connection before the answer. */
async function readAll(
  body: ReadableStream<Uint8Array>,
  most: number,
  timeoutMs: number,
): Promise<Uint8Array<ArrayBuffer> | 'too large' | 'too slow' | 'broken off'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      resolve(undefined);
    }, timeoutMs);
  });
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const chunk = await Promise.race([reader.read(), late]);
      if (chunk === undefined) return 'too slow';
      if (chunk.done) return Buffer.concat(chunks, size);
      size += chunk.value.length;
      if (size > most) return 'too large';
      chunks.push(chunk.value);
    }
  } catch {
    return 'broken off';
  } finally {
    clearTimeout(timer);
  }
}

const refuseBody: MiddlewareHandler<ApiEnv> = async (c, next) => {
  const text = (await c.req.text()).trim();
  if (text !== '' && text !== '{}') return problem('invalid_argument', 'This route takes no body.');
  await next();
  return undefined;
};
