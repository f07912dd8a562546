import { permissionsOf, type Holding, type Permission, type ProjectIds, type Role } from '@meshhook/keyring';

/** Somebody who was recognized, and what they may do. */
export interface Principal {
  /** Stable, with its kind: `token:3f…`, `user:9a…`. It is what the trail names. */
  readonly id: string;
  readonly kind: 'user' | 'token' | 'session';
  /** For people. */
  readonly name: string;
  /** Who is answerable, for the rule of two people: two principals of one person are one. */
  readonly person: string;
  readonly roles: readonly Role[];
  readonly held: readonly Holding[];
  /** In that project; without one, in the whole instance. */
  can(permission: Permission, projectId?: string): boolean;
  /** The projects where it holds the permission. */
  projectsWith(permission: Permission): ProjectIds;
  /** The projects where it holds the permission that the route asked for. */
  readonly projects: ProjectIds;
  /** The projects that it knows to exist: where it holds any permission. */
  readonly visible: ProjectIds;
  /**
   * As whom PostgreSQL knows it, so that what it looks at is read under that identity. Undefined: of the whole instance, or configured by
   * the host, of which the database knows nothing.
   */
  readonly sight: string | undefined;
}

export function holding(role: Role, projects: ProjectIds): Holding {
  return { role, permissions: permissionsOf[role], projects };
}

export function principal(
  who: Pick<Principal, 'id' | 'kind' | 'name' | 'person'> & { readonly sight?: string },
  held: readonly Holding[],
): Principal {
  const projectsOf = (some: readonly Holding[]): ProjectIds => {
    const ids = new Set<string>();
    for (const { projects } of some) {
      if (projects === 'all') return 'all';
      for (const id of projects) ids.add(id);
    }
    return [...ids];
  };
  const projectsWith = (permission: Permission) =>
    projectsOf(held.filter(({ permissions }) => permissions.includes(permission)));
  const visible = projectsOf(held.filter(({ permissions }) => permissions.length > 0));
  return {
    ...who,
    held,
    roles: [...new Set(held.flatMap(({ role }) => role ?? []))],
    can: (permission, projectId) => covers(projectsWith(permission), projectId),
    projectsWith,
    projects: [],
    visible,
    sight: visible === 'all' ? undefined : who.sight,
  };
}

/** Is the project among them? Without one: are they all? */
export function covers(projects: ProjectIds, projectId: string | undefined): boolean {
  return projects === 'all' || (projectId !== undefined && projects.includes(projectId));
}

/** Whoever may reveal a value may let a service resolve it. */
const handedOutBy: Readonly<Partial<Record<Permission, Permission>>> = { 'secrets:resolve': 'secrets:reveal' };

/** As much of a holding as somebody who holds `bounds` could hand out. */
export function within({ role, permissions, projects }: Holding, bounds: readonly Holding[]): Holding[] {
  const giver = principal({ id: '', kind: 'user', name: '', person: '' }, bounds);
  return permissions.flatMap((permission) => {
    const own = meet(projects, giver.projectsWith(permission));
    const given = handedOutBy[permission];
    const byOther = given === undefined ? [] : meet(projects, giver.projectsWith(given));
    return [own, byOther]
      .filter((some) => some === 'all' || some.length > 0)
      .map((some) => ({ role, permissions: [permission], projects: some }));
  });
}

/** Could somebody who holds `bounds` hand out all of it? */
export function mayHandOut(wanted: Holding, bounds: readonly Holding[]): boolean {
  const giver = principal({ id: '', kind: 'user', name: '', person: '' }, bounds);
  // In a project, what is of the instance means nothing.
  const meant = wanted.permissions.filter((one) => one !== 'instance:read' || wanted.projects === 'all');
  return meant.every((permission) =>
    [permission, handedOutBy[permission]].some(
      (own) => own !== undefined && isWithin(wanted.projects, giver.projectsWith(own)),
    ),
  );
}

function meet(some: ProjectIds, others: ProjectIds): ProjectIds {
  if (some === 'all') return others;
  return others === 'all' ? some : some.filter((id) => others.includes(id));
}

function isWithin(some: ProjectIds, others: ProjectIds): boolean {
  return others === 'all' || (some !== 'all' && some.every((id) => others.includes(id)));
}
