import { OpenAPIHono, type z } from '@hono/zod-openapi';
import type { Keyring, Project, Sight } from '@meshhook/keyring';
import type { Principal } from './access/principal.ts';
import { problem, statusOfCode, type ProblemCode } from './problems.ts';
import { problemSchema } from './schemas/problem.ts';

/** What every group of routes is made of. */

export interface ApiEnv {
  Bindings: RequestContext;
  /** Set by `permit`. */
  Variables: {
    principal: Principal;
    /** Acts in the principal's name. */
    keyring: Keyring;
    /** What the principal sees: for looking, also before something is done. */
    sight: Sight;
    /** The project that the request names, where `permit` was told how to find it and it names one. */
    project: Project | undefined;
  };
}

/** What the host knows of a request that the request itself does not say. */
export interface RequestContext {
  /** Where it came from, for the trail and for slowing down who guesses: an IP address. */
  readonly address?: string | undefined;
}

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

/** What a route takes, for its description. */
export const jsonBody = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true as const,
  content: { 'application/json': { schema } },
});

/** What a route answers with, for its description. */
export const answers = <Schema extends z.ZodType>(description: string, schema: Schema) => ({
  description,
  content: { 'application/json': { schema } },
});

/** Of routes that anybody may be refused at; of those that take a body. */
const ofAccess: readonly ProblemCode[] = ['invalid_argument', 'unauthenticated', 'forbidden', 'rate_limited'];
const ofBodies: readonly ProblemCode[] = [
  'malformed_json',
  'body_too_large',
  'body_too_slow',
  'unsupported_media_type',
  'invalid_argument',
];
const ofUs: readonly ProblemCode[] = [
  'internal',
  'database_refused',
  'database_unreachable',
  'issuer_unreachable',
  'contended',
];

/** Of a route that wants a permission and takes no body. */
export const refusals = (...codes: ProblemCode[]) => problems(...ofAccess, ...codes, ...ofUs);

/** Of a route that wants a permission and reads a body. */
export const bodyRefusals = (...codes: ProblemCode[]) => problems(...ofAccess, ...ofBodies, ...codes, ...ofUs);

/** The problems a route answers with, for its description: by status, each naming its codes. Call it once a route. */
export function problems(...codes: ProblemCode[]) {
  const described: Record<number, { description: string; content: typeof problemContent }> = {};
  for (const code of new Set(codes)) {
    const status = statusOfCode[code];
    const before = described[status];
    const description = before === undefined ? code : `${before.description}, ${code}`;
    described[status] = { description, content: problemContent };
  }
  return described;
}

const problemContent = { 'application/problem+json': { schema: problemSchema } };
export const bearer = [{ bearer: [] }];
