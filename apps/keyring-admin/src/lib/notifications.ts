/** What an endpoint can be told of, as people say it. */
export const notificationEvents = [
  { value: 'rotation.completed', text: 'A rotation completed' },
  { value: 'rotation.failed', text: 'A rotation failed' },
  { value: 'rotation.blocked', text: 'A rotation is blocked' },
  { value: 'rotation.overdue', text: 'Keys are older than their policy allows' },
  { value: 'key.compromised', text: 'A key was marked compromised' },
  { value: 'approval.wanted', text: 'An act waits for a second person' },
] as const;

export function sayNotification(event: string): string {
  return notificationEvents.find(({ value }) => value === event)?.text ?? event;
}
