import { z } from '@hono/zod-openapi';

/**
 * What the shapes that go over the wire are made of: what requests are checked against, what handlers are typed by, and what
 * OpenAPI is generated from. Times are RFC 3339 in UTC; what is not there is `null`, never left out.
 */

export const time = z.iso.datetime().openapi({ example: '2026-11-23T20:30:00.000Z' });
export const uuid = z.uuid();
export const count = z.int().nonnegative();

// PostgreSQL stores neither NUL nor half a surrogate pair; control characters have no business in a name or a reason.
const printable = (text: string): boolean => text.isWellFormed() && !/\p{Cc}/u.test(text.replaceAll(/[\n\t]/g, ''));

/** Text that people typed. */
export const text = (least: number, most: number) =>
  z.string().min(least).max(most).refine(printable, { error: 'has control characters in it' });

export const reason = text(0, 1000).openapi({ description: 'Why, for the record.' });

/** A body of what is not done without a reason. */
export const withReason = z
  .strictObject({
    reason: text(1, 1000)
      .refine((given) => given.trim() !== '', { error: 'a reason is wanted' })
      .openapi({ description: 'Why, for the record.' }),
  })
  .openapi('WithReason');

export const projectReference = text(1, 400).openapi({ description: 'An id or a name of a project.' });

/** A name as it may be stored, also from before the keyring; anything else is in no list. */
export const storedName = z.string().refine((name) => name.isWellFormed() && !name.includes('\0'));

/** Where a list goes on. Long enough for any name that is stored. */
export const cursor = z
  .string()
  .min(1)
  .max(8_000)
  .regex(/^[A-Za-z0-9_-]+$/)
  .openapi({ description: 'The `next` of the page before, for the page after it.' });
export const next = z
  .string()
  .nullable()
  .openapi({ description: 'Give it as `cursor` for the next page; null at the end.' });

export const page = (most: number, usual: number) => ({
  limit: z.coerce.number().int().min(1).max(most).default(usual),
  cursor: cursor.optional(),
});

/** Ids in paths are not looked at here: one that is none is one that is not known. */
export const idParam = z.object({ id: z.string() });
/** Of a shape with a name: `nullable()` loses the null of those in OpenAPI. */
export const orNull = <Schema extends z.ZodType>(schema: Schema) => z.union([schema, z.null()]);

export const noQuery = z.strictObject({});
