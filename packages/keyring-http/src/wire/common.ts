/**
 * From the library's objects to what goes over the wire, member by member: a member that the library gains is not published
 * until somebody writes it here.
 */

export const time = (date: Date): string => date.toISOString();
export const timeOrNull = (date: Date | undefined): string | null => (date === undefined ? null : date.toISOString());
