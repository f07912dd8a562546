import { OpenAPIHono } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { ResolvedHandlerOptions } from './options.ts';
import { problem, statusOfCode, type ProblemCode } from './problems.ts';
import { problemSchema } from './schemas.ts';
import { bearerToken, findToken, type ApiToken, type Scope } from './tokens.ts';

/** What every group of routes is made of. */

export interface ApiEnv {
  Variables: { token: ApiToken };
}

const MAX_BODY_BYTES = 64 * 1024;
const REALM = 'Bearer realm="meshhook-keyring"';

/** An empty group: a request that does not fit its route's schema is answered with a problem that names each field. */
export function routes(): OpenAPIHono<ApiEnv> {
  return new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (result.success) return undefined;
      const fields = result.error.issues.flatMap((issue) => {
        const at = issue.path.join('.');
        if (issue.code !== 'unrecognized_keys') return [{ field: at, message: issue.message }];
        return issue.keys.map((name) => ({ field: at === '' ? name : `${at}.${name}`, message: 'unknown field' }));
      });
      const said = fields.map(({ field, message }) => (field === '' ? message : `${field}: ${message}`)).join('; ');
      return problem('invalid_argument', `The request does not fit: ${said.slice(0, 1000)}.`, {
        remedy: 'docs/http-api.md lists what this route takes.',
        fields: fields.slice(0, 100),
      });
    },
  });
}

/** @see RFC 6750 section 3 for the challenges. */
export function requireScope({ tokens }: ResolvedHandlerOptions, scope: Scope): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const presented = bearerToken(c.req.header('authorization'));
    const token = presented === undefined ? undefined : findToken(tokens, presented);
    if (token === undefined) {
      const challenge = presented === undefined ? REALM : `${REALM}, error="invalid_token"`;
      return problem(
        'unauthenticated',
        presented === undefined ? 'This route needs a token.' : 'The token is not known here.',
        {
          remedy: 'Send `Authorization: Bearer …` with an API token; `npm start` prints the path of the file it is in.',
        },
        { 'www-authenticate': challenge },
      );
    }
    if (!token.scopes.includes(scope)) {
      return problem(
        'forbidden',
        `The token "${token.name}" lacks the scope "${scope}".`,
        { remedy: `Use a token with the scope "${scope}".`, details: { scope } },
        { 'www-authenticate': `${REALM}, error="insufficient_scope", scope="${scope}"` },
      );
    }
    c.set('token', token);
    await next();
    return undefined;
  };
}

export const limitBody = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: () =>
    problem('body_too_large', `The body has more than ${MAX_BODY_BYTES} bytes.`, {
      details: { limit: MAX_BODY_BYTES },
    }),
});

/** The problems a route answers with, for its description: by status, each naming its codes. */
export function problems(...codes: ProblemCode[]) {
  const described: Record<number, { description: string; content: typeof problemContent }> = {};
  for (const code of codes) {
    const status = statusOfCode[code];
    const before = described[status];
    const description = before === undefined ? code : `${before.description}, ${code}`;
    described[status] = { description, content: problemContent };
  }
  return described;
}

const problemContent = { 'application/problem+json': { schema: problemSchema } };
export const bearer = [{ bearer: [] }];
