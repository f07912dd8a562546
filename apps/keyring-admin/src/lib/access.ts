/** Roles and acts, as people say them. */

export const grantableRoles = [
  { value: 'instance_admin', text: 'instance admin: everything, everywhere' },
  { value: 'project_admin', text: 'project admin: keys and secrets' },
  { value: 'auditor', text: 'auditor: looks at everything, changes nothing' },
  { value: 'service', text: 'service: resolves secrets, and nothing else' },
] as const;

const acts: Readonly<Record<string, string>> = {
  'key.destroy_early': 'Destroy a key before its retention is over',
  'retention.shorten': 'Shorten how long old keys are kept',
  'quarantine.discard': 'Give up a row that does not open',
  'admin.grant': 'Make somebody an instance admin',
  'admin.remove': 'Take an instance admin’s role away',
  'rule.switch_off': 'Switch off the rule of two people',
};

export function sayAct(action: string): string {
  return acts[action] ?? action;
}
