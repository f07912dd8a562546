import type { StartingPoint } from './lane-database.ts';

/** Where a project can stand when its transactions meet. Version 3 was made and never used. */
export const starts = {
  /** Version 2 is staged; version 1 encrypts. */
  staged: { versions: 3, primary: 1, secrets: { a: 1, b: 1 }, rotation: { state: 'staged', source: 1, target: 2 } },
  /** Version 2 was promoted; the sweep has moved `b`. */
  sweeping: {
    versions: 3,
    primary: 2,
    secrets: { a: 1, b: 2 },
    rotation: { state: 'sweeping', source: 1, target: 2 },
  },
  /** The rotation is over and version 1 past its retention; `a` came back from a backup since. */
  retired: {
    versions: 3,
    primary: 2,
    secrets: { a: 1, b: 2 },
    rotation: { state: 'completed', source: 1, target: 2 },
    retired: [1],
  },
  /** As `retired`, and nothing names version 1: it may be destroyed. */
  destructible: {
    versions: 3,
    primary: 2,
    secrets: { b: 2 },
    rotation: { state: 'completed', source: 1, target: 2 },
    retired: [1],
  },
} as const satisfies Record<string, StartingPoint>;
