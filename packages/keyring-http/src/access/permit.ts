import { KeyringError, type Keyring, type Permission, type Project, type Sight } from '@meshhook/keyring';
import type { Context, MiddlewareHandler } from 'hono';
import type { ApiEnv } from '../api.ts';
import type { ResolvedHandlerOptions } from '../options.ts';
import { problem } from '../problems.ts';
import { authenticate, REALM } from './authenticate.ts';
import { covers, type Principal } from './principal.ts';

/** Where a route wants its permission to be held. */
export type PermitScope =
  /** In the project that the request names, by id or name; it is then `c.var.project`. It names none: as `anyProject`. */
  | { readonly project: (c: Context<ApiEnv>) => string | undefined }
  /** In the whole instance. */
  | { readonly instance: true }
  /** Somewhere. The handler limits what it shows and does to `c.var.principal.projects`. */
  | { readonly anyProject: true };

/**
 * Lets a request pass whose principal holds the permission, and puts `c.var.principal`, `c.var.keyring` (which acts in its name) and
 * `c.var.sight` (which looks with its eyes) there. Otherwise: 401 without a known principal; 404, as for a project that does not exist, for one where it may do nothing; 403
 * where it may do something, but not this.
 */
export function permit(
  options: ResolvedHandlerOptions,
  permission: Permission,
  scope: PermitScope,
): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const known = await authenticate(options, c);
    if (known instanceof Response) return known;
    const who = { ...known, projects: known.projectsWith(permission) };
    setOut(options, c, who);

    if ('instance' in scope) {
      if (!who.can(permission)) return forbidden(c, permission);
    } else {
      const named = 'project' in scope ? scope.project(c) : undefined;
      if (named !== undefined) c.set('project', await requireProject(c, permission, named));
      else if (who.projects !== 'all' && who.projects.length === 0) return forbidden(c, permission);
    }
    await next();
    return undefined;
  };
}

/** Lets a request pass whose principal is known, whatever it may do. */
export function anybodyKnown(options: ResolvedHandlerOptions): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const known = await authenticate(options, c);
    if (known instanceof Response) return known;
    setOut(options, c, known);
    await next();
    return undefined;
  };
}

/**
 * The project with that id or name, where the principal holds the permission. For handlers whose body names projects.
 * @throws KeyringError `unknown_project` for one that is not there or in which it may do nothing, in the same words;
 *   `ambiguous_project`, naming those that it knows; `forbidden`.
 */
export async function requireProject(c: Context<ApiEnv>, permission: Permission, nameOrId: string): Promise<Project> {
  const { principal, sight } = c.var;
  const project = await sight.projects.resolve(nameOrId, { among: principal.visible });
  if (!principal.can(permission, project.id)) throw lacking(permission);
  return project;
}

/**
 * For what belongs to projects, as a key or a rotation does: may the principal do this in all of them? False when it may not know
 * of one of them: then answer as for a thing that does not exist.
 * @throws KeyringError `forbidden` when it knows all of them, and may not do this in each.
 */
export function isPermittedIn(c: Context<ApiEnv>, permission: Permission, projectIds: readonly string[]): boolean {
  const { principal } = c.var;
  if (!projectIds.every((id) => covers(principal.visible, id))) return false;
  if (!projectIds.every((id) => principal.can(permission, id))) throw lacking(permission);
  return true;
}

/**
 * @throws KeyringError `unknown_rotation`, also for one that has a project in which the principal may do nothing; `forbidden` where it
 *   may not do this in each of its projects.
 */
export async function requireRotation(c: Context<ApiEnv>, permission: Permission, id: string): Promise<void> {
  const { principal, sight } = c.var;
  if (!(await sight.rotations.isAmong(id, principal.visible))) {
    throw new KeyringError('unknown_rotation', 'There is no such rotation.');
  }
  if (!(await sight.rotations.isAmong(id, principal.projectsWith(permission)))) throw lacking(permission);
}

/** What is told to who knows a thing and may not do this to it. */
export function lacking(permission: Permission): KeyringError {
  return new KeyringError('forbidden', `The permission "${permission}" is missing.`, {
    remedy: 'docs/access.md lists which role may do what.',
    details: { permission },
  });
}

function forbidden(c: Context<ApiEnv>, permission: Permission): Response {
  const { message, remedy, details } = lacking(permission);
  const challenge = `${REALM}, error="insufficient_scope", scope="${permission}"`;
  const headers = c.var.principal.kind === 'token' ? { 'www-authenticate': challenge } : undefined;
  return problem('forbidden', message, { remedy, details }, headers);
}

/** What a principal sees, through a keyring that acts in its name. */
export function sightOf({ sight }: Principal, keyring: Keyring): Sight {
  return sight === undefined ? keyring : keyring.seenBy(sight);
}

function setOut({ keyring }: ResolvedHandlerOptions, c: Context<ApiEnv>, principal: Principal): void {
  const { id, kind, person } = principal;
  const { address } = c.env;
  const acting = keyring.as({ name: id, kind, person, ...(address === undefined ? {} : { address }) });
  c.set('principal', principal);
  c.set('keyring', acting);
  c.set('sight', sightOf(principal, acting));
}
