import type { Actor } from '../api.ts';
import { KeptBack } from '../db/kept-back.ts';
import type { Queryable } from '../db/port.ts';
import type { NewAuditEntry } from './audit.ts';
import { insertEntries } from './store.ts';

const LEAST_INTERVAL_MS = 60_000;
// Readers times projects that are told apart between two flushes; what is above is counted together.
const MOST_TOLD_APART = 2_000;
const ENTRIES_AT_ONCE = 500;

interface Reads {
  readonly actor: Actor;
  readonly byProject: Map<string, number>;
  /** Of projects that are not told apart. */
  others: number;
}

/**
 * Counts the reads of secrets by services in memory, and writes them into the trail once in a while: one entry for a reader and a
 * project, however many reads. What a process that is killed has counted since is lost; what fails to be written is written by the next
 * flush, and twice when only the answer was lost.
 */
export class ReadSummaries {
  readonly #database: Queryable;
  readonly #now: () => Date;
  readonly #keptBack: KeptBack;
  #reads = new Map<string, Reads>();
  #toldApart = 0;
  #since: Date;

  constructor(database: Queryable, { heartbeatMs, now }: { readonly heartbeatMs: number; readonly now: () => Date }) {
    this.#database = database;
    this.#now = now;
    this.#since = now();
    this.#keptBack = new KeptBack(() => this.#write(), Math.max(LEAST_INTERVAL_MS, heartbeatMs));
  }

  /** What counts one reader's reads. */
  by(actor: Actor): (projectId: string) => void {
    const key = `${actor.kind} ${actor.name}`;
    return (projectId) => {
      this.#count(key, actor, projectId, 1);
    };
  }

  #count(key: string, actor: Actor, projectId: string | undefined, reads: number): void {
    let mine = this.#reads.get(key);
    if (mine === undefined) this.#reads.set(key, (mine = { actor, byProject: new Map(), others: 0 }));
    const before = projectId === undefined ? undefined : mine.byProject.get(projectId);
    if (projectId === undefined || (before === undefined && this.#toldApart >= MOST_TOLD_APART)) {
      mine.others += reads;
      return;
    }
    if (before === undefined) this.#toldApart += 1;
    mine.byProject.set(projectId, (before ?? 0) + reads);
  }

  /** Writes what was counted; what could not be written is counted on. */
  flush(): Promise<void> {
    return this.#keptBack.flush();
  }

  close(): Promise<void> {
    return this.#keptBack.close();
  }

  async #write(): Promise<void> {
    if (this.#reads.size === 0) return;
    const counted = [...this.#reads];
    const from = this.#since;
    this.#reads = new Map();
    this.#toldApart = 0;
    this.#since = this.#now();
    const between = { from: from.toISOString(), to: this.#since.toISOString() };
    for (const [index, [key, reads]] of counted.entries()) {
      const entries = entriesOf(reads, between);
      for (let at = 0; at < entries.length; at += ENTRIES_AT_ONCE) {
        try {
          await insertEntries(this.#database, reads.actor, entries.slice(at, at + ENTRIES_AT_ONCE));
        } catch (error) {
          // Written or not is not known of these: rather twice than never. What is counted on was read since then.
          this.#since = from;
          for (const { projectId, details } of entries.slice(at))
            this.#count(key, reads.actor, projectId, Number(details?.['reads']));
          for (const [other, left] of counted.slice(index + 1)) this.#giveBack(other, left);
          throw error;
        }
      }
    }
  }

  #giveBack(key: string, { actor, byProject, others }: Reads): void {
    for (const [projectId, reads] of byProject) this.#count(key, actor, projectId, reads);
    if (others > 0) this.#count(key, actor, undefined, others);
  }
}

function entriesOf({ byProject, others }: Reads, between: Readonly<Record<string, unknown>>): NewAuditEntry[] {
  const entries: NewAuditEntry[] = [...byProject].map(([projectId, reads]) => ({
    action: 'secret.read',
    projectId,
    subject: `project:${projectId}`,
    details: { reads, ...between },
  }));
  if (others > 0)
    entries.push({ action: 'secret.read', subject: 'projects:others', details: { reads: others, ...between } });
  return entries;
}
