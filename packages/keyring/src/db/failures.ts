import { KeyringError } from '../errors.ts';

/** What the fence and the guards in the migrations say, by SQLSTATE. */
export const refusals = {
  staleVersion: 'MK001',
  plaintext: 'MK002',
  envelopeMismatch: 'MK003',
  identityChanged: 'MK004',
  illegalMove: 'MK005',
  inUse: 'MK006',
  appendOnly: 'MK007',
  retentionNotOver: 'MK008',
  staleWrapping: 'MK009',
  approvalNeeded: 'MK010',
} as const;

export const sqlStates = {
  ...refusals,
  uniqueViolation: '23505',
  foreignKeyViolation: '23503',
  serializationFailure: '40001',
  deadlock: '40P01',
  canceled: '57014',
  lockNotAvailable: '55P03',
  syntaxError: '42601',
  undefinedTable: '42P01',
  undefinedColumn: '42703',
  undefinedSchema: '3F000',
  failedTransaction: '25P02',
  readOnly: '25006',
  diskFull: '53100',
  outOfMemory: '53200',
  ioError: '58030',
} as const;

const unreachableStates = /^(08|57P0[1235]|25P0[34]|53300|28|3D)/;
const serverStates: ReadonlySet<string> = new Set([
  sqlStates.readOnly,
  sqlStates.diskFull,
  sqlStates.outOfMemory,
  sqlStates.ioError,
]);
// The driver's own errors come without a code.
const unreachableMessages =
  /^(Connection terminated|Client (was closed|has encountered)|Cannot use a pool|timeout e|The server does not support SSL)/;

const lostPreparedStatement =
  'Behind a transaction-mode pooler that does not track prepared statements, set MESHHOOK_PREPARED_STATEMENTS=off.';
const remedies: Readonly<Partial<Record<string, string>>> = {
  '42501': 'Grant the role keyring_service to the login of the service.',
  [sqlStates.canceled]:
    'It took longer than the `statement_timeout` of the login or the database, which can be raised (`alter role … set statement_timeout`), or somebody canceled it.',
  [sqlStates.readOnly]:
    'This is a standby, or read-only by `default_transaction_read_only`: let DATABASE_URL name the primary server.',
  [sqlStates.diskFull]:
    'Make room on the disk that PostgreSQL names, then run this again: what was committed is where it was.',
  [sqlStates.outOfMemory]:
    'PostgreSQL has no memory left, or no room in its table of locks (`max_locks_per_transaction`): its log says which.',
  [sqlStates.ioError]:
    'PostgreSQL cannot read or write its files: look at its log, and at the disk, before anything else.',
  '26000': lostPreparedStatement,
  '42P05': lostPreparedStatement,
};

/** The SQLSTATE of a refusal by PostgreSQL, if that is what the error is. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof KeyringError && typeof error.details['sqlState'] === 'string'
    ? error.details['sqlState']
    : undefined;
}

/** No room on its disk or in its memory, a disk that fails, a standby: whatever is asked next meets it as well. */
export function isOfTheServer(error: unknown): boolean {
  return serverStates.has(sqlState(error) ?? '');
}

/** Did the connection, not the statement, fail? What the statement did is then unknown. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof KeyringError && error.code === 'database_unreachable';
}

/** Would the same work, begun anew, likely succeed? */
export function isTransient(error: unknown): boolean {
  const state = sqlState(error);
  return state === sqlStates.serializationFailure || state === sqlStates.deadlock;
}

/**
 * The driver's error as one of ours. The driver's own is not kept as the cause: its `detail` can hold a whole row.
 */
export function databaseFailure(error: unknown): KeyringError {
  if (error instanceof KeyringError) return error;
  const { code, message, constraint } = error as { code?: unknown; message?: unknown; constraint?: unknown };
  const state = typeof code === 'string' ? code : '';
  const text = typeof message === 'string' && message !== '' ? message : state;
  // Sockets have codes, too, one of them as long as a SQLSTATE.
  const isSqlState = /^[0-9A-Z]{5}$/.test(state) && state !== 'EPIPE';
  if (isSqlState && !unreachableStates.test(state)) {
    return new KeyringError('database_refused', `PostgreSQL refused a statement: ${text}`, {
      details: { sqlState: state, ...(typeof constraint === 'string' ? { constraint } : {}) },
      ...(remedies[state] === undefined ? {} : { remedy: remedies[state] }),
    });
  }
  if (text.startsWith('timeout exceeded when trying to connect')) {
    return new KeyringError('contended', 'Every connection to the database is in use.', {
      remedy:
        'Statements wait for locks that others hold, or there are more of them than connections: see pg_stat_activity.',
    });
  }
  if (state === '' && !unreachableMessages.test(text)) {
    return new KeyringError('internal', `The database driver failed: ${text}`);
  }
  return new KeyringError('database_unreachable', `The database cannot be used: ${text}`, {
    remedy: 'Check DATABASE_URL, and that PostgreSQL runs and accepts connections from here.',
    details: isSqlState ? { sqlState: state } : {},
  });
}
