import type { DueProject, Overview } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import type * as schemas from '../schemas/overview.ts';
import { time, timeOrNull } from './common.ts';
import { wireRotationHead } from './rotations.ts';

type Wire = z.infer<typeof schemas.overview>;

export function wireOverview(
  overview: Overview,
  others: Pick<Wire, 'awaitingApproval' | 'workersAlive' | 'verified'>,
): Wire {
  const { at, projects, keys, oldest, ages, rotations, quarantined, next } = overview;
  const { running, paused, blocked, recent } = rotations;
  return {
    at: time(at),
    projects: { total: projects.total, withKey: projects.withKey, due: projects.due, overdue: projects.overdue },
    keys: { compromised: keys.compromised, suspended: keys.suspended },
    oldest: oldest === undefined ? null : wireDueProject(oldest),
    ages: ages.map((group) => ({ fromDays: group.fromDays, toDays: group.toDays ?? null, keys: group.keys })),
    rotations: { running, paused, blocked, recent: recent.map(wireRecent) },
    quarantined,
    next: next.map(wireDueProject),
    ...others,
  };
}

function wireDueProject({ projectId, projectName, keyId, madeAt, dueAt }: DueProject): Wire['next'][number] {
  return { projectId, projectName, keyId, madeAt: time(madeAt), dueAt: timeOrNull(dueAt) };
}

function wireRecent(rotation: Overview['rotations']['recent'][number]): Wire['rotations']['recent'][number] {
  return {
    ...wireRotationHead(rotation),
    projectNames: [...rotation.projectNames],
    moreProjects: rotation.moreProjects,
  };
}
