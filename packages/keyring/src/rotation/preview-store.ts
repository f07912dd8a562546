import type { Queryable } from '../db/port.ts';
import type { EncryptedColumn } from '../keyring/columns.ts';
import { replaceCiphertexts, type Replacement } from './rows-store.ts';

// Above this it is cheaper to count the tables once than project by project.
const COUNTED_ONE_BY_ONE = 100;

/** Encrypted rows of these projects, over every registered column. */
export async function countEncryptedRows(database: Queryable, projectIds: readonly string[] | 'all'): Promise<number> {
  const few = projectIds !== 'all' && projectIds.length <= COUNTED_ONE_BY_ONE;
  const { rows } = await database.query<{ total: string }>(
    few
      ? {
          text: `select coalesce(sum(c.row_count), 0) as total
                 from unnest($1::uuid[]) p (id) cross join lateral keyring.reference_counts(p.id) c
                 where c.encryption_key_id is not null`,
          values: [projectIds],
        }
      : {
          text: `select coalesce(sum(c.row_count), 0) as total from keyring.reference_counts() c
                 where c.encryption_key_id is not null and ($1::uuid[] is null or c.project_id = any ($1))`,
          values: [projectIds === 'all' ? null : projectIds],
        },
  );
  return Number(rows[0]?.total ?? 0);
}

// A sample waits for nobody. The statement's own limit bounds all else.
const LOCK_WAIT_MS = 50;
const STATEMENT_MS = 5_000;

// No rotation has it, so nothing is counted into one.
const NO_ROTATION = '00000000-0000-0000-0000-000000000000';

export interface Timed {
  readonly moved: number;
  readonly ms: number;
}

/**
 * Times the statement that a sweep moves rows with, in a transaction that its caller has to roll back. Once to warm up, to
 * be undone at once; the second time counts. Rows that somebody holds are passed over.
 */
export async function timeReplacement(
  tx: Queryable,
  column: EncryptedColumn,
  move: { readonly projectId: string; readonly rows: readonly Replacement[] },
): Promise<Timed> {
  await tx.query({
    text: `select pg_catalog.set_config('lock_timeout', $1, true), pg_catalog.set_config('statement_timeout', $2, true)`,
    values: [String(LOCK_WAIT_MS), String(STATEMENT_MS)],
  });
  await tx.query({ text: 'savepoint sample' });
  await replaceCiphertexts(tx, column, { ...move, rotationId: NO_ROTATION });
  await tx.query({ text: 'rollback to savepoint sample' });
  const began = performance.now();
  const moved = await replaceCiphertexts(tx, column, { ...move, rotationId: NO_ROTATION });
  return { moved, ms: performance.now() - began };
}
