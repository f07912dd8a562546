/** The MeshHook Keyring HTTP API as one fetch handler: `(Request) → Promise<Response>`, for any host to mount. */
export { keyringHandler } from './handler.ts';
export type { KeyringHandlerOptions } from './options.ts';
export { httpCodes, problem, statusOfCode, type HttpCode, type Problem, type ProblemCode } from './problems.ts';
export type * as shapes from './shapes.ts';
export { scopes, tokenDigest, type ApiToken, type Scope } from './access/configured-tokens.ts';
export { SESSION_COOKIE } from './access/cookie.ts';
export type { JwtOptions } from './access/jwt.ts';
export type { RequestContext } from './api.ts';
