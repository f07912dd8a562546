import { accessWarnings } from '../access/access.ts';
import type { DoctorFinding, DoctorReport, QuarantinedRow } from '../api.ts';
import { selectFirstSignedAt, selectLastCheckpoint, selectUnsealedCount } from '../audit/seal-store.ts';
import { selectVerified } from '../audit/verification-store.ts';
import { selectBackups } from '../backup/store.ts';
import type { Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { selectCatalogProblems, selectEncryptedColumns, type EncryptedColumn } from '../keyring/columns.ts';
import type { DataKeys } from '../keyring/data-keys.ts';
import { selectQuarantine } from '../rotation/quarantine-store.ts';
import { selectRotations } from '../rotation/rotation-store.ts';
import type { Unreadable } from '../rotation/rows.ts';
import { verifyProject } from '../rotation/verify.ts';
import { SECRETS_LABEL } from '../secrets/store.ts';
import { examineUpperKeys } from './upper-keys.ts';
import {
  countPlaintext,
  selectAllKeys,
  selectColumnProjects,
  selectReferenceTrouble,
  selectServiceTrouble,
} from './store.ts';

const EXAMPLES = 20;
// Sealers come by every two seconds; an idle transaction does not hold them up.
const MOST_LAG_MS = 600_000;
// Workers verify it every day.
const MOST_UNVERIFIED_MS = 3 * 86_400_000;

interface Examination {
  readonly database: Database;
  readonly dataKeys: DataKeys;
  readonly sweepBatchSize: number;
  readonly onProgress: ((rowsChecked: number) => void) | undefined;
  readonly error: (code: string, message: string, remedy: string) => void;
  readonly warning: (code: string, message: string, remedy: string) => void;
  rowsChecked: number;
  keysChecked: number;
}

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
  const examination: Examination = {
    database,
    dataKeys,
    sweepBatchSize: options.sweepBatchSize,
    onProgress: options.onProgress,
    error: (code, message, remedy) => findings.push({ severity: 'error', code, message, remedy }),
    warning: (code, message, remedy) => findings.push({ severity: 'warning', code, message, remedy }),
    rowsChecked: 0,
    keysChecked: 0,
  };
  for (const examinePart of [
    examineCatalog,
    examineUpperKeys,
    examineKeys,
    examineRows,
    examineReferences,
    examineRotations,
    examineBackups,
    examineTrail,
    examineLogin,
    examineAccess,
  ]) {
    await sparing(examination, () => examinePart(examination));
  }
  return {
    healthy: findings.every((finding) => finding.severity !== 'error'),
    rowsChecked: examination.rowsChecked,
    keysChecked: examination.keysChecked,
    findings,
  };
}

async function examineAccess({ database, warning }: Examination): Promise<void> {
  for (const { code, message, remedy } of await accessWarnings(database)) warning(code, message, remedy);
}

/** What one part trips over is a finding like any other; the other parts are looked at all the same. */
async function sparing({ error }: Examination, part: () => Promise<void>): Promise<void> {
  try {
    await part();
  } catch (failure) {
    if (!(failure instanceof KeyringError) || failure.code === 'database_unreachable') throw failure;
    error(
      'not_examined',
      `A part could not be examined: ${failure.message}`,
      failure.remedy ?? 'Mend the other findings first.',
    );
  }
}

async function examineCatalog({ database, error }: Examination): Promise<void> {
  for (const problem of await selectCatalogProblems(database)) {
    const where = problem.column === undefined ? problem.relation : `${problem.relation}.${problem.column}`;
    error(problem.code, `${where}: ${problem.detail}.`, 'See docs/runbooks/unregistered-column.md.');
  }
}

async function examineKeys(examination: Examination): Promise<void> {
  for (const key of await selectAllKeys(examination.database)) {
    if (key.state === 'destroyed' || key.state === 'disabled') continue;
    examination.keysChecked += 1;
    try {
      await examination.dataKeys.selfTest(key.project_id, key.id);
    } catch (failure) {
      if (!(failure instanceof KeyringError) || failure.code === 'database_unreachable') throw failure;
      examination.error(
        'key_does_not_unwrap',
        `Version ${String(key.version)} (${key.id}) of project ${key.project_id} does not unwrap.`,
        'Restore keyring.encryption_keys from a backup; check that the root key is the right one.',
      );
    }
  }
}

async function examineRows(examination: Examination): Promise<void> {
  const { database, error } = examination;
  const counts = new Map<QuarantinedRow['reason'], { number: number; examples: string[] }>();
  for (const column of await selectEncryptedColumns(database)) {
    await sparing(examination, async () => {
      for (const projectId of await selectColumnProjects(database, column)) {
        for (const lost of await openRows(examination, column, projectId)) {
          const entry = counts.get(lost.reason) ?? { number: 0, examples: [] };
          entry.number += 1;
          if (entry.examples.length < EXAMPLES) entry.examples.push(`${column.label} ${lost.id}`);
          counts.set(lost.reason, entry);
        }
      }
    });
  }
  for (const [reason, { number, examples }] of counts) {
    const more = number > examples.length ? ` and ${String(number - examples.length)} more` : '';
    error(
      reason,
      `${String(number)} rows do not open (${reason}): ${examples.join(', ')}${more}.`,
      rowRemedies[reason],
    );
  }
}

async function openRows(examination: Examination, column: EncryptedColumn, projectId: string): Promise<Unreadable[]> {
  const never = new AbortController().signal;
  const before = examination.rowsChecked;
  const result = await verifyProject(examination, projectId, undefined, [column], never, (opened) => {
    examination.onProgress?.(before + opened);
  });
  const lost = [...result.unreadable.values()].flat();
  examination.rowsChecked += result.opened + lost.length;
  return lost;
}

async function examineReferences(examination: Examination): Promise<void> {
  const { database, error, warning } = examination;
  for (const column of await selectEncryptedColumns(database)) {
    await sparing(examination, async () => {
      const rows = await countPlaintext(database, column);
      if (rows === 0) return;
      warning(
        'not_encrypted',
        `${String(rows)} ${rows === 1 ? 'row' : 'rows'} of ${column.label} ${rows === 1 ? 'is' : 'are'} not encrypted yet.`,
        column.label === SECRETS_LABEL
          ? 'Run `mh-keys secrets adopt`, then `--finish`.'
          : 'The fence lets none in: find out who switched it off, and have the application set these values again.',
      );
    });
  }
  for (const trouble of await selectReferenceTrouble(database)) {
    const rows = `${String(trouble.rows)} rows of ${trouble.label}`;
    if (trouble.kind === 'destroyed') {
      error('names_destroyed_key', `${rows} name a destroyed version.`, 'Set these secrets again.');
    } else {
      warning(
        'stale_rows',
        `${rows} are not under their primary version, and no rotation is open.`,
        'Run `mh-keys rotate` for their projects: rows restored from a backup move with it.',
      );
    }
  }
}

async function examineRotations({ database, error }: Examination): Promise<void> {
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
}

/** Losing the root key loses everything: is there a file that holds what it opens, and did anybody see it open? */
async function examineBackups({ database, warning }: Examination): Promise<void> {
  const written = (await selectBackups(database)).filter(({ writtenAt }) => writtenAt !== undefined);
  const complete = written.filter((backup) => backup.complete);
  const make =
    'Run `mh-keys root-key backup --recipient age1… --output FILE` (or `--passphrase`), and keep the file apart from the database.';
  if (written.length === 0) {
    warning('no_backup', 'There is no backup: whoever loses the root key loses every secret.', make);
  } else if (complete.length === 0) {
    warning('backup_outdated', 'The newest wrapping key is in no backup.', make);
  } else if (complete.every(({ verifiedAt }) => verifiedAt === undefined)) {
    warning(
      'backup_not_verified',
      'No backup that holds every wrapping key was ever opened again.',
      'Run `mh-keys root-key backup verify FILE`: it proves that the file opens this database.',
    );
  }
}

async function examineTrail({ database, error, warning }: Examination): Promise<void> {
  const last = await selectLastCheckpoint(database);
  const { whole } = await selectVerified(database);
  if (whole?.problem !== undefined) {
    error(
      'audit_broken',
      `The trail is not as it was written, as ${whole.by} found ${whole.at.toISOString()}: ${whole.problem.message}`,
      'See docs/runbooks/the-audit-chain-is-broken.md. It stands until `mh-keys audit verify` finds nothing.',
    );
  }
  const { entries, oldestAt, now } = await selectUnsealedCount(database, last?.floor_id ?? '0');
  const since = whole === undefined ? await selectFirstSignedAt(database) : whole.at;
  if (since !== undefined && now.getTime() - since.getTime() > MOST_UNVERIFIED_MS) {
    warning(
      'audit_not_verified',
      `The trail was not verified as a whole since ${since.toISOString()}: what was changed in it was not looked for.`,
      'Let a worker or the server run, which verify it every day, or run `mh-keys audit verify`.',
    );
  }
  if (oldestAt === undefined || now.getTime() - oldestAt.getTime() <= MOST_LAG_MS) return;
  warning(
    'audit_not_sealed',
    `${String(entries)} entries of the trail have no place in its chain, the oldest since ${oldestAt.toISOString()}: what is done to them is not found out.`,
    'Let a worker or the server run, or `mh-keys audit seal` once in a while; if that fails, see docs/runbooks/the-audit-chain-is-broken.md.',
  );
}

async function examineLogin({ database, warning }: Examination): Promise<void> {
  for (const trouble of await selectServiceTrouble(database)) warning(trouble.code, trouble.message, trouble.remedy);
}
