import type { Keyring, KeyVersion, Project, Rotation, RotationDetail } from '@meshhook/keyring';

/** What the first page shows. Dates are dates, names are names; no value, key or token is in it. */

export interface Overview {
  readonly now: Date;
  readonly projects: readonly ProjectKeys[];
  /** There are more than are shown. */
  readonly moreProjects: boolean;
  readonly rotations: readonly RotationSummary[];
}

export interface ProjectKeys {
  readonly id: string;
  readonly name: string;
  readonly versions: readonly VersionSummary[];
  /** Older versions without rows, which are not shown. */
  readonly olderVersions: number;
}

export type VersionSummary = Pick<
  KeyVersion,
  'id' | 'version' | 'status' | 'active' | 'rows' | 'fingerprint' | 'createdAt' | 'nextDueAt' | 'retentionUntil'
>;

export interface RotationSummary extends Pick<
  Rotation,
  'id' | 'state' | 'requestedAt' | 'requestedBy' | 'reason' | 'durationMs' | 'rows'
> {
  /** Something is happening, or will by itself. */
  readonly open: boolean;
  /** Of which projects, as far as they are few; empty when they are many. */
  readonly projectNames: readonly string[];
  readonly projectsTotal: number;
  readonly projectsDone: number;
  /** Of projects that did not come through. */
  readonly troubles: readonly { readonly projectName: string; readonly detail: string }[];
}

const PROJECTS_SHOWN = 100;
const VERSIONS_SHOWN = 4;
const ROTATIONS_SHOWN = 10;
const NAMES_SHOWN = 3;

export async function loadOverview(keyring: Keyring): Promise<Overview> {
  const projects = await keyring.projects.list({ limit: PROJECTS_SHOWN + 1 });
  // Both lists are by name, so the keys of the projects that are shown are among these.
  const keys = await keyring.keys.list({ limit: PROJECTS_SHOWN });
  const rotations = await keyring.rotations.list({ limit: ROTATIONS_SHOWN });
  const summaries: RotationSummary[] = [];
  for (const rotation of rotations) {
    const isSmall = rotation.projects.total <= NAMES_SHOWN || rotation.state === 'blocked';
    summaries.push(summarize(rotation, isSmall ? await keyring.rotations.get(rotation.id) : undefined));
  }
  const byProject = Map.groupBy(keys, (key) => key.projectId);
  return {
    now: new Date(),
    projects: projects.slice(0, PROJECTS_SHOWN).map((project) => projectKeys(project, byProject.get(project.id) ?? [])),
    moreProjects: projects.length > PROJECTS_SHOWN,
    rotations: summaries,
  };
}

function projectKeys({ id, name }: Project, keys: readonly KeyVersion[]): ProjectKeys {
  const newestFirst = keys.toSorted((a, b) => b.version - a.version);
  const shown = newestFirst.filter((key, index) => index < VERSIONS_SHOWN || key.active || key.rows > 0);
  return {
    id,
    name,
    olderVersions: keys.length - shown.length,
    versions: shown.map((key) => ({
      id: key.id,
      version: key.version,
      status: key.status,
      active: key.active,
      rows: key.rows,
      fingerprint: key.fingerprint,
      createdAt: key.createdAt,
      nextDueAt: key.nextDueAt,
      retentionUntil: key.retentionUntil,
    })),
  };
}

function summarize(rotation: Rotation, detail: RotationDetail | undefined): RotationSummary {
  const { id, state, requestedAt, requestedBy, reason, durationMs, rows, projects } = rotation;
  const details = detail?.projectDetails ?? [];
  return {
    ...{ id, state, requestedAt, requestedBy, reason, durationMs, rows },
    open: state === 'requested' || state === 'running' || state === 'rolling_back',
    projectNames: projects.total <= NAMES_SHOWN ? details.map((project) => project.projectName) : [],
    projectsTotal: projects.total,
    projectsDone: (projects.completed ?? 0) + (projects.rolled_back ?? 0),
    troubles: details
      .filter((project) => project.errorCode !== undefined && project.state !== 'completed')
      .slice(0, NAMES_SHOWN)
      .map(({ projectName, errorDetail, errorCode = '' }) => ({ projectName, detail: errorDetail ?? errorCode })),
  };
}
