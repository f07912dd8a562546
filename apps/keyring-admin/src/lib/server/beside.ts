import type { Problem } from '@meshhook/keyring-http';

/** Which field a refusal is about, where the API names none. */
const aboutField: Readonly<Record<string, readonly string[]>> = {
  unknown_project: ['project', 'projects'],
  ambiguous_project: ['project', 'projects'],
  invalid_name: ['name'],
};

/**
 * What a refusal says, beside the fields that a form has; undefined when there is more to say than that.
 * @param names what the API calls a field, and what the form does, where they differ.
 */
export function besideFields(
  { code, detail, fields = [] }: Problem,
  has: (field: string) => boolean,
  names: Readonly<Record<string, string>> = {},
): { readonly fields: Readonly<Record<string, string>>; readonly isAll: boolean } {
  const about = fields.length > 0 ? undefined : aboutField[code]?.find(has);
  if (about !== undefined) return { fields: { [about]: detail }, isAll: true };
  // Of a list, the API names the one in it.
  const nameOf = (field: string): string => names[field] ?? (has(field) ? field : (field.split('.')[0] ?? field));
  const named = fields.map(({ field, message }) => [nameOf(field), sayWrong(message)] as const);
  return { fields: Object.fromEntries(named), isAll: named.length > 0 && named.every(([field]) => has(field)) };
}

/** What the check of a request says, for who reads a page. */
const said: readonly (readonly [RegExp, string])[] = [
  [/^Too big: expected string to have <=(\d+) characters$/, 'At most $1 characters.'],
  [/^Too big: expected number to be <=(\d+)$/, 'At most $1.'],
  [/^Too small: expected number to be >=(\d+)$/, 'At least $1.'],
  [/^Invalid string: must match pattern .*$/s, 'It is not written like that; the hint says how.'],
  [/^Invalid option: .*$/s, 'Choose one of those that are offered.'],
];

function sayWrong(message: string): string {
  const known = said.find(([pattern]) => pattern.test(message));
  return known === undefined ? message : message.replace(...known);
}
