/**
 * What a statement is to the other actors:
 *
 * - `local`: nothing, no step of its own.
 * - `read`: sees what others have committed; takes no lock that they want.
 * - `write`: takes locks, may wait, may be refused; nobody sees what it did yet.
 * - `end`: commits or rolls back, and lets go of locks. A writing statement outside of a transaction, too.
 */
export type StepKind = 'local' | 'read' | 'write' | 'end';

const plainRead = /^select [^(]*\sfrom (public|keyring)\.\w+(\s\w+)?\swhere\s/;
const locks = /\bfor (no key )?update\b|\bfor (key )?share\b|\block\b|_lock/;

/** Anything not known to be less is a `write`: the careful answer. */
export function stepKind(text: string, isolation: string, inTransaction: boolean): StepKind {
  if (/^begin\b|^set local\b|^insert into keyring\.audit_log\b/.test(text)) return 'local';
  // The first statement of a stricter transaction takes its snapshot, whatever it reads.
  if (isolation === 'read committed' && /^select pg_catalog\.set_config\('\w+', \$1, true\)$/.test(text))
    return 'local';
  if (/^(commit|rollback)\b/.test(text)) return 'end';
  if (plainRead.test(text.replace(/\s+/g, ' ')) && !locks.test(text)) return 'read';
  return inTransaction ? 'write' : 'end';
}

/** May two neighbouring steps of two actors change places, and nobody ever know? */
export function commute(one: StepKind, other: StepKind, serializable: boolean): boolean {
  if (one === 'read' && other === 'read') return true;
  return !serializable && ((one === 'read' && other === 'write') || (one === 'write' && other === 'read'));
}

export function inTransactionAfter(text: string, before: boolean): boolean {
  if (/^begin\b/.test(text)) return true;
  return /^(commit|rollback)\b/.test(text) ? false : before;
}

/** A few words for the report of a schedule. */
export function labelOf(text: string): string {
  if (/pg_advisory_xact_lock/.test(text)) return 'queue';
  const change = /\b(insert into|update|delete from) (\w+\.\w+)/.exec(text);
  if (change !== null) return `${change[1]!.split(' ')[0]!} ${change[2]!}`;
  const read = /^select .*? from (\w+\.\w+)/s.exec(text);
  return read === null ? (text.split(/\s/, 1)[0] ?? '') : `select ${read[1]!}`;
}
