import { z } from '@hono/zod-openapi';
import { auditVerified } from './audit.ts';
import { count, orNull, time, uuid } from './common.ts';
import { rotationFacts } from './rotations.ts';

const dueProject = z
  .object({
    projectId: uuid,
    projectName: z.string(),
    keyId: uuid,
    madeAt: time.openapi({ description: 'When its primary version was made.' }),
    dueAt: time.nullable().openapi({ description: 'When its policy has its rotation begin. Null: never, by age.' }),
  })
  .openapi('DueProject');

const ageGroup = z
  .object({
    fromDays: count.openapi({ description: 'As old, or older.' }),
    toDays: count.nullable().openapi({ description: 'Younger than that. Null: any age.' }),
    keys: count,
  })
  .openapi('AgeGroup');

/** Are we safe? Only of the projects that the caller may look at. */
export const overview = z
  .object({
    at: time,
    projects: z.object({
      total: count,
      withKey: count,
      due: count.openapi({ description: 'Their policy wants them rotated, by age or by use.' }),
      overdue: count.openapi({ description: 'Their version is older than their policy allows.' }),
    }),
    keys: z
      .object({ compromised: count, suspended: count })
      .openapi({ description: 'Versions that are not destroyed yet.' }),
    oldest: orNull(dueProject).openapi({ description: 'The primary version that was made first.' }),
    ages: z.array(ageGroup).openapi({ description: 'Primary versions by age, the youngest first.' }),
    rotations: z.object({
      running: count.openapi({ description: 'Asked for, running or on their way back.' }),
      paused: count,
      blocked: count,
      recent: z
        .array(z.object({ ...rotationFacts, projectNames: z.array(z.string()), moreProjects: z.boolean() }))
        .openapi({ description: 'The newest ten, each with up to three names of projects.' }),
    }),
    quarantined: count.openapi({ description: 'Rows that do not open.' }),
    next: z.array(dueProject).openapi({ description: 'Up to ten that become due next by age, the soonest first.' }),
    awaitingApproval: count.nullable().openapi({ description: 'Null for who may not approve.' }),
    workersAlive: count,
    verified: orNull(auditVerified).openapi({ description: 'Of the trail. Null for who may not read all of it.' }),
  })
  .openapi('Overview');
