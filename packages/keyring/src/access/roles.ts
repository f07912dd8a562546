/** What may be done, and which role may do it: the one table. Deny by default: what is not listed is not allowed. */

export const permissions = [
  'keys:read',
  'keys:rotate',
  'keys:schedule',
  'keys:destroy',
  'keys:compromise',
  'secrets:list',
  'secrets:write',
  'secrets:reveal',
  'secrets:resolve',
  'audit:read',
  'access:manage',
  'instance:read',
] as const;
export type Permission = (typeof permissions)[number];

/**
 * `project_owner` is nobody's to grant: it is whom `projects.owner` names. The others are granted, for one project or for the
 * whole instance; `instance_admin` for the instance only.
 */
export const roles = ['instance_admin', 'project_owner', 'project_admin', 'auditor', 'service'] as const;
export type Role = (typeof roles)[number];

const projectAdmin: readonly Permission[] = [
  'keys:read',
  'keys:rotate',
  'keys:schedule',
  'keys:compromise',
  'secrets:list',
  'secrets:write',
  'secrets:reveal',
  'audit:read',
];

/** `secrets:resolve` is a service's alone: what a person reads is a reveal, with an entry of its own. */
export const permissionsOf: Readonly<Record<Role, readonly Permission[]>> = {
  instance_admin: permissions.filter((permission) => permission !== 'secrets:resolve'),
  project_owner: [...projectAdmin, 'keys:destroy', 'access:manage'],
  project_admin: projectAdmin,
  auditor: ['keys:read', 'audit:read', 'instance:read'],
  service: ['secrets:resolve'],
};
