import { z } from '@hono/zod-openapi';
import { next, page, text, time, uuid } from './common.ts';
import { key } from './keys.ts';

export const projectsQuery = z.strictObject({
  ...page(1000, 100),
  search: text(1, 200).optional().openapi({ description: 'In names, whatever its case.' }),
});

export const newProject = z
  .strictObject({
    name: text(1, 200),
    owner: uuid.optional().openapi({ description: 'A user id. Default: the nil UUID.' }),
  })
  .openapi('NewProject');

export const project = z.object({ id: uuid, name: z.string(), owner: uuid, createdAt: time }).openapi('Project');

export const projectList = z.object({ projects: z.array(project), next }).openapi('ProjectList');

/** What happened to a project's keys, from the trail, the newest first. */
export const timeline = z
  .object({
    project,
    keys: z.array(key).openapi({ description: 'All versions, up to 1,000, the newest first.' }),
    events: z.array(
      z.object({
        id: z.string(),
        at: time,
        actor: z.string(),
        action: z.string().openapi({ description: 'As `key.promoted`.' }),
        outcome: z.enum(['succeeded', 'failed', 'refused']),
        subject: z.string().openapi({ description: 'What it was done to, as `key:ID` or `rotation:ID`.' }),
        reason: z.string().nullable(),
        version: z.int().positive().nullable().openapi({ description: 'Of the key, where it is about one.' }),
      }),
    ),
    next,
  })
  .openapi('KeyTimeline');

export const timelineQuery = z.strictObject(page(500, 100));
