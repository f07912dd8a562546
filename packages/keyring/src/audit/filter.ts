import type { AuditFilter, PrincipalKind } from '../api.ts';
import { KeyringError } from '../errors.ts';
import { requireUuid } from '../validate.ts';
import { principalKinds } from './actor.ts';

/** As the statements take it: null is anything. */
export interface EntryFilter {
  readonly projectIds: readonly string[] | null;
  readonly actor: string | null;
  readonly kind: PrincipalKind | null;
  readonly action: string | null;
  /** `key.` for `key.*`. */
  readonly actionPrefix: string | null;
  readonly outcome: string | null;
  readonly subject: string | null;
  readonly since: Date | null;
  readonly until: Date | null;
}

const names: ReadonlySet<string> = new Set<keyof AuditFilter>([
  ...(['projectId', 'projectIds', 'actor', 'kind', 'action', 'outcome', 'subject', 'since', 'until'] as const),
]);
const outcomes: ReadonlySet<string> = new Set(['succeeded', 'failed', 'refused']);
const actionShape = /^([a-z_]+)\.([a-z_]+|\*)$/;

/** @throws KeyringError `invalid_argument` naming what cannot be. @throws TypeError for a filter that does not exist. */
export function requireFilter(given: AuditFilter): EntryFilter {
  for (const name of Object.keys(given)) {
    if (!names.has(name)) throw new TypeError(`there is no filter ${name}`);
  }
  const { projectId, projectIds, actor, kind, action, outcome, subject, since, until } = given;
  const [, noun, verb] = action === undefined ? [] : (actionShape.exec(action) ?? []);
  if (action !== undefined && noun === undefined) throw invalid('The action is not like key.destroyed, or key.*.');
  if (kind !== undefined && !principalKinds.has(kind)) throw invalid('There is no such kind of principal.');
  if (outcome !== undefined && !outcomes.has(outcome)) {
    throw invalid('An outcome is succeeded, failed or refused.');
  }
  for (const [name, time] of Object.entries({ since, until })) {
    if (time !== undefined && Number.isNaN(time.getTime())) throw invalid(`The time of ${name} is none.`);
  }
  return {
    projectIds: projectsOf(projectId, projectIds),
    action: verb === '*' ? null : (action ?? null),
    actionPrefix: noun !== undefined && verb === '*' ? `${noun}.` : null,
    ...{ actor: actor ?? null, kind: kind ?? null, outcome: outcome ?? null, subject: subject ?? null },
    ...{ since: since ?? null, until: until ?? null },
  };
}

/** Both have to hold. */
function projectsOf(one: string | undefined, some: readonly string[] | undefined): readonly string[] | null {
  const id = one === undefined ? undefined : requireUuid('project id', one);
  const ids = some?.map((given) => requireUuid('project id', given));
  if (id === undefined) return ids ?? null;
  return ids === undefined || ids.includes(id) ? [id] : [];
}

function invalid(message: string): KeyringError {
  return new KeyringError('invalid_argument', message);
}
