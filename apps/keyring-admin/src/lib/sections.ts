import type { Permission } from './may.ts';

/** What the navigation leads to, in the order in which people ask. */
export interface Section {
  readonly href: string;
  readonly name: string;
  /** With any of these it has something to show. */
  readonly wants: readonly Permission[];
}

export const sections: readonly Section[] = [
  { href: '/', name: 'Overview', wants: ['keys:read'] },
  { href: '/keys', name: 'Keys', wants: ['keys:read'] },
  { href: '/rotate', name: 'Rotate', wants: ['keys:rotate', 'keys:compromise'] },
  { href: '/rotations', name: 'Rotations', wants: ['keys:read'] },
  { href: '/schedule', name: 'Schedule', wants: ['keys:read'] },
  { href: '/secrets', name: 'Secrets', wants: ['secrets:list'] },
  { href: '/audit', name: 'Audit', wants: ['audit:read'] },
  { href: '/settings', name: 'Settings', wants: ['access:manage', 'instance:read'] },
];

export function isWithin(section: Section, pathname: string): boolean {
  return section.href === '/' ? pathname === '/' : pathname === section.href || pathname.startsWith(`${section.href}/`);
}
