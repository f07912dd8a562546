/** Fields of a document that was decrypted, and may be anything. Messages name no content of it. */
import { KeyringError } from '../errors.ts';
import { isUuid } from '../validate.ts';

export function asObject(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw unreadable('something in it is missing');
}

export function asList(value: unknown): Record<string, unknown>[] {
  if (Array.isArray(value)) return value.map(asObject);
  throw unreadable('something in it is missing');
}

export function asText(value: unknown): string {
  if (typeof value === 'string' && value !== '') return value;
  throw unreadable('something in it is missing');
}

export function asTexts(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(asText);
  throw unreadable('something in it is missing');
}

export function asUuid(value: unknown): string {
  const text = asText(value);
  if (isUuid(text)) return text.toLowerCase();
  throw unreadable('an id in it is none');
}

export function asNumber(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw unreadable('a number in it is none');
}

export function asDate(value: unknown): Date {
  const date = new Date(asText(value));
  if (!Number.isNaN(date.getTime())) return date;
  throw unreadable('a time in it is none');
}

export function asDateIfThere(value: unknown): Date | undefined {
  return value === undefined || value === null ? undefined : asDate(value);
}

export function unreadable(why: string): KeyringError {
  return new KeyringError('backup_unreadable', `This cannot be read as a backup: ${why}.`, {
    remedy: 'Take another copy of the file, or another backup; docs/spec/backup.md says what is inside.',
  });
}
