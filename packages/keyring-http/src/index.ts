/** The MeshHook Keyring HTTP API as one fetch handler: `(Request) → Promise<Response>`, for any host to mount. */
export { keyringHandler } from './handler.ts';
export type { KeyringHandlerOptions } from './options.ts';
export { httpCodes, problem, statusOfCode, type HttpCode, type Problem, type ProblemCode } from './problems.ts';
export { scopes, tokenDigest, type ApiToken, type Scope } from './tokens.ts';
