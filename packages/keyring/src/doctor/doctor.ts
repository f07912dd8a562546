import type { DoctorFinding, DoctorReport, QuarantinedRow } from '../api.ts';
import type { Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { selectCatalogProblems, selectEncryptedColumns } from '../keyring/columns.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import { selectQuarantine } from '../rotation/quarantine-store.ts';
import { selectRotations } from '../rotation/rotation-store.ts';
import { isUnreadable } from '../rotation/rows.ts';
import { verifyProject } from '../rotation/verify.ts';
import { selectAllKeys, selectColumnProjects, selectReferenceTrouble, selectServiceTrouble } from './store.ts';

const EXAMPLES = 20;

const rowRemedies: Readonly<Record<QuarantinedRow['reason'], string>> = {
  does_not_open: 'Set the secret again, or restore its row from a backup (docs/runbooks/a-row-does-not-open.md).',
  malformed: 'Set the secret again, or restore its row from a backup (docs/runbooks/a-row-does-not-open.md).',
  unknown_key: 'Restore keyring.encryption_keys from the backup this row came from.',
  key_unavailable: 'Its key version is destroyed, suspended or does not unwrap; `mh-keys keys list` says which.',
};

/** Looks at everything, believes nothing that was counted before, and changes nothing. */
export async function examine(
  database: Database,
  dataKeys: DataKeys,
  options: { readonly sweepBatchSize: number; readonly onProgress?: ((rowsChecked: number) => void) | undefined },
): Promise<DoctorReport> {
  const findings: DoctorFinding[] = [];
  const error = (code: string, message: string, remedy: string): void => {
    findings.push({ severity: 'error', code, message, remedy });
  };
  const warning = (code: string, message: string, remedy: string): void => {
    findings.push({ severity: 'warning', code, message, remedy });
  };

  for (const problem of await selectCatalogProblems(database)) {
    const where = problem.column === undefined ? problem.relation : `${problem.relation}.${problem.column}`;
    error(problem.code, `${where}: ${problem.detail}.`, 'See docs/runbooks/unregistered-column.md.');
  }

  let keysChecked = 0;
  for (const key of await selectAllKeys(database)) {
    if (key.state === 'destroyed') continue;
    keysChecked += 1;
    try {
      if (key.state === 'disabled') continue;
      await dataKeys.selfTest(key.project_id, key.id);
    } catch (failure) {
      if (!(failure instanceof KeyringError) || failure.code === 'database_unreachable') throw failure;
      error(
        'key_does_not_unwrap',
        `Version ${String(key.version)} (${key.id}) of project ${key.project_id} does not unwrap.`,
        'Restore keyring.encryption_keys from a backup; check that the root key is the right one.',
      );
    }
  }

  const rowsChecked = await examineRows(database, dataKeys, options, error);

  for (const trouble of await selectReferenceTrouble(database)) {
    const rows = `${String(trouble.rows)} rows of ${trouble.label}`;
    if (trouble.kind === 'plaintext') {
      warning('not_encrypted', `${rows} are not encrypted yet.`, 'Run `mh-keys secrets adopt`, then `--finish`.');
    } else if (trouble.kind === 'destroyed') {
      error('names_destroyed_key', `${rows} name a destroyed version.`, 'Set these secrets again.');
    } else {
      warning(
        'stale_rows',
        `${rows} are not under their primary version, and no rotation is open.`,
        'Run `mh-keys rotate` for their projects: rows restored from a backup move with it.',
      );
    }
  }

  for (const rotation of await selectRotations(database, { limit: 500, before: undefined })) {
    if (rotation.state !== 'blocked') continue;
    const quarantined = await selectQuarantine(database, rotation.id);
    const rows = quarantined.slice(0, EXAMPLES).map((row) => `${row.label} ${row.rowId}`);
    error(
      'rotation_blocked',
      `The rotation ${rotation.id} is blocked${rows.length === 0 ? '' : ` by ${rows.join(', ')}`}.`,
      `Mend what it names, then \`mh-keys rotate --resume ${rotation.id}\`.`,
    );
  }

  for (const trouble of await selectServiceTrouble(database)) warning(trouble.code, trouble.message, trouble.remedy);

  return {
    healthy: findings.every((finding) => finding.severity !== 'error'),
    rowsChecked,
    keysChecked,
    findings,
  };
}

async function examineRows(
  database: Database,
  dataKeys: DataKeys,
  options: { readonly sweepBatchSize: number; readonly onProgress?: ((rowsChecked: number) => void) | undefined },
  error: (code: string, message: string, remedy: string) => void,
): Promise<number> {
  const never = new AbortController().signal;
  const context = { database, dataKeys, sweepBatchSize: options.sweepBatchSize };
  const counts = new Map<string, { number: number; examples: string[] }>();
  let rowsChecked = 0;
  for (const column of await selectEncryptedColumns(database)) {
    for (const projectId of await selectColumnProjects(database, column)) {
      const before = rowsChecked;
      const result = await verifyProject(context, projectId, undefined, [column], never, (opened) => {
        options.onProgress?.(before + opened);
      });
      rowsChecked += result.opened;
      for (const lost of [...result.unreadable.values()].flat()) {
        rowsChecked += 1;
        if (!isUnreadable(lost)) continue;
        const entry = counts.get(lost.reason) ?? { number: 0, examples: [] };
        entry.number += 1;
        if (entry.examples.length < EXAMPLES) entry.examples.push(`${column.label} ${lost.row.id}`);
        counts.set(lost.reason, entry);
      }
    }
  }
  for (const [reason, { number, examples }] of counts) {
    const more = number > examples.length ? ` and ${String(number - examples.length)} more` : '';
    error(
      reason,
      `${String(number)} rows do not open (${reason}): ${examples.join(', ')}${more}.`,
      rowRemedies[reason as QuarantinedRow['reason']],
    );
  }
  return rowsChecked;
}
