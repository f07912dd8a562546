import { KeyringError } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';

/** Where a list goes on, as callers hand it back: theirs to keep, not to read. */
export function cursorOf(position: unknown): string {
  return Buffer.from(JSON.stringify(position), 'utf8').toString('base64url');
}

/** @throws KeyringError `invalid_argument` for one that this list did not give. */
export function positionOf<Schema extends z.ZodType>(schema: Schema, cursor: string): z.infer<Schema> {
  let position: unknown;
  try {
    position = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    position = undefined;
  }
  const parsed = schema.safeParse(position);
  if (parsed.success) return parsed.data;
  throw new KeyringError('invalid_argument', 'The cursor is not one of this list.', {
    remedy: 'Give the `next` of the page before, as it is.',
  });
}

/** A page of `limit`, of a list that was asked for one more: that one tells whether there are more. */
export function pageOf<Item>(
  found: readonly Item[],
  limit: number,
  position: (item: Item) => unknown,
): { readonly items: readonly Item[]; readonly next: string | null } {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  return { items, next: found.length > limit && last !== undefined ? cursorOf(position(last)) : null };
}
