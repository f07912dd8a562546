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

/** A step that an actor can take next, and what of it others could notice. */
export interface Step {
  readonly kind: StepKind;
  readonly serializable: boolean;
  /** Of a read: what it finds depends on nothing that is committed from now on, on tables of `public` alone, or on anything. */
  readonly sees: 'its snapshot' | 'public' | 'anything';
  /** Of an end: the tables whose rows others find changed by it. */
  readonly changes: 'keyring' | 'anything';
}

const oneTable = /\bfrom (public|keyring)\.\w+/g;
const queues = /^select pg_catalog\.pg_advisory_xact_lock(_shared)?\(keyring\.project_lock\(\$1\)\)$/;

/** What an actor did so far in its transaction. */
export class Past {
  readonly #stricter: boolean;
  readonly #serializable: boolean;
  inTransaction = false;
  /** It sees what it saw at its first statement. */
  #snapshot = false;
  #changed: Step['changes'] = 'keyring';

  constructor(isolation: 'read committed' | 'repeatable read' | 'serializable') {
    this.#stricter = isolation !== 'read committed';
    this.#serializable = isolation === 'serializable';
  }

  kind(text: string): StepKind {
    return stepKind(text, this.#stricter ? 'stricter' : 'read committed', this.inTransaction);
  }

  next(text: string): Step {
    const sees = this.inTransaction && this.#snapshot ? 'its snapshot' : seenBy(text);
    const changes = this.inTransaction ? this.#changed : changedBy(text);
    return {
      kind: this.kind(text),
      serializable: this.#serializable,
      // What a snapshot is taken of is seen by all that follows.
      sees: this.#stricter && sees === 'public' ? 'anything' : sees,
      changes,
    };
  }

  note(text: string): void {
    const kind = this.kind(text);
    this.inTransaction = inTransactionAfter(text, this.inTransaction);
    if (!this.inTransaction) {
      this.#snapshot = false;
      this.#changed = 'keyring';
    } else if (kind !== 'local') {
      this.#snapshot ||= this.#stricter;
      if (kind === 'write' && changedBy(text) === 'anything') this.#changed = 'anything';
    }
  }
}

function seenBy(text: string): Step['sees'] {
  const tables = [...text.matchAll(oneTable)];
  const alone = (text.match(/\b(select|join)\b/g) ?? []).length === 1;
  return alone && tables.length === 1 && tables[0]?.[1] === 'public' ? 'public' : 'anything';
}

/** Triggers of tables in `keyring` change nothing elsewhere: `scheduler.test.ts` asks the catalog. */
function changedBy(text: string): Step['changes'] {
  const ofKeyring = /^update keyring\.\w+\s/.test(text) && !/\b(keyring|public)\.\w+\s*\(/.test(text);
  return ofKeyring || queues.test(text) ? 'keyring' : 'anything';
}

/** May two neighbouring steps of two actors change places, and nobody ever know? */
export function commute(one: Step, other: Step): boolean {
  if (one.kind === 'read' && other.kind === 'read') return true;
  // What a serializable transaction reads is noted for other serializable transactions, and for no others.
  if (one.serializable && other.serializable) return false;
  const [read, change] = one.kind === 'read' ? [one, other] : [other, one];
  if (read.kind !== 'read') return false;
  if (change.kind === 'write' || read.sees === 'its snapshot') return true;
  return read.sees === 'public' && change.changes === 'keyring';
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
