import { z } from '@hono/zod-openapi';

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string(),
    remedy: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
    fields: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
    id: z.string().optional(),
  })
  .openapi('Problem');

export const health = z.object({ status: z.literal('ok'), version: z.string().optional() }).openapi('Health');
export const readiness = z.object({ status: z.literal('ready') }).openapi('Readiness');
