import type { AuditCheckpoint, AuditProblem, AuditVerification } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { openArchiveNote } from './archive-note.ts';
import { chainNext, chainStart, leafOf, type ChainedEntry } from './chain.ts';
import { selectUnsealedCount } from './seal-store.ts';
import { checkpointOf } from './sealer.ts';
import {
  isAnyBehind,
  isThere,
  selectArchive,
  selectCheckpoints,
  selectCounts,
  selectDoublePlace,
  selectEntriesAfter,
  selectFirstSeal,
  selectHeadAt,
  selectSealed,
  selectStowaway,
  selectTwin,
  type SealedRow,
  type SignedRow,
} from './verify-store.ts';

const PAGE = 2_000;
const LOWEST_ID = '-9223372036854775808';
const HIGHEST_ID = '9223372036854775807';

/** Ends a verification: the first thing that is wrong. */
class Found extends Error {
  readonly problem: AuditProblem;
  constructor(problem: AuditProblem) {
    super(problem.message);
    this.problem = problem;
  }
}

/** What there is to look at, and what to hold it against. */
export interface Way {
  readonly tx: Queryable;
  readonly origin: string;
  readonly publicKeys: readonly Uint8Array[];
  /** A checkpoint that was kept elsewhere. */
  readonly outside: AuditCheckpoint | undefined;
  /** One up to which all was verified before. Undefined: from the first place on. */
  readonly from: AuditCheckpoint | undefined;
  /** Ends at the first checkpoint that is so many places on, or else at the end of the trail. */
  readonly places: number;
  /** What of the entries without a place is looked at, at the end of the trail: those of the part, or all. */
  readonly unplaced: 'of the part' | 'all';
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((entries: number) => void) | undefined;
}

/** From place to place, beside the checkpoints. */
export class Walk {
  readonly #tx: Queryable;
  readonly #origin: string;
  readonly #publicKeys: readonly Uint8Array[];
  readonly #outside: AuditCheckpoint | undefined;
  readonly #way: Way;
  #head: Buffer = Buffer.alloc(0);
  #place = 0;
  /** Where chain and signature agreed last. */
  #agreed = 0;
  /** The same, by a signature that is no younger than what was given. */
  #agreedBefore = 0;
  /** A shorter chain than what was given was signed later. */
  #isSetBack = false;
  /** What was given is not of this chain: what it is called unless the chain was signed all the same. */
  #disagreed: Found | undefined;
  #signed: SignedRow[] = [];
  #signedAfter = { size: '0', id: '0' };
  entries = 0;
  archived = 0;
  after = 0;
  ended = false;
  checkpoints = 0;
  newest: AuditCheckpoint | undefined;
  given: AuditVerification['given'];
  #floor = 0n;
  #allRead = false;
  /** Until then the connection is busy with a page. */
  #quiet: Promise<void> = Promise.resolve();

  constructor(way: Way) {
    this.#way = way;
    this.#tx = way.tx;
    this.#origin = way.origin;
    this.#publicKeys = way.publicKeys;
    this.#outside = way.outside;
  }

  async run(): Promise<AuditProblem | undefined> {
    try {
      await this.#begin();
      await this.#checkSigned();
      for (let next = this.#pageAfter(this.#place); ;) {
        const page = await next;
        // On its way while this one is hashed: places follow one another, or what is wrong is found before it is looked at.
        if (page.length === PAGE) next = this.#pageAfter(this.#place + PAGE);
        for (const [index, row] of page.entries()) {
          if (!this.#take(row)) throw await this.#whatIsWrong(row, page[index + 1]);
          if (this.#isSignedHere()) await this.#checkSigned();
          if (this.#isEnough()) {
            await this.#quiet;
            return undefined;
          }
        }
        if (page.length < PAGE) break;
        this.#way.onProgress?.(this.entries);
        if (this.#way.signal?.aborted === true)
          throw new KeyringError('interrupted', 'Interrupted. Nothing was changed.');
      }
      await this.#end();
      this.ended = true;
      return undefined;
    } catch (error) {
      await this.#quiet;
      if (!(error instanceof Found)) throw error;
      // The first thing that is wrong: what was given did not agree before.
      return (this.#disagreed ?? error).problem;
    }
  }

  #pageAfter(place: number): Promise<SealedRow[]> {
    const page = selectSealed(this.#tx, { after: place, limit: PAGE });
    // Whoever waits for the page hears of a failure; nobody does when something is found before.
    this.#quiet = page.then(
      () => undefined,
      () => undefined,
    );
    return page;
  }

  /** What was archived is taken by its signature. */
  async #begin(): Promise<void> {
    const archive = await selectArchive(this.#tx);
    this.#head = chainStart(this.#origin.slice(this.#origin.lastIndexOf('/') + 1));
    if (archive !== undefined) {
      const told = openArchiveNote(archive.note, this.#origin, this.#publicKeys);
      if (told?.through !== Number(archive.through)) {
        throw found(
          'checkpoint',
          Number(archive.through),
          'What says how far the trail was archived was not signed by us.',
        );
      }
      this.#head = told.hash;
      this.#place = this.archived = this.#agreed = this.#agreedBefore = told.through;
    }
    const first = await selectFirstSeal(this.#tx);
    if (first !== undefined && Number(first.place) <= this.archived) {
      const what =
        Number(first.place) < 1 ? 'A place is there that is none.' : 'A place that was archived is there again.';
      throw found('inserted', Number(first.place), what, first.entry_id);
    }
    if (this.#outside !== undefined && this.#outside.size < this.#place) this.given = 'archived';
    await this.#skip();
    this.after = this.#place;
  }

  /** To where it was verified before. The chain has to be the same there still, and where the one that was given says. */
  async #skip(): Promise<void> {
    const { from } = this.#way;
    if (from === undefined || from.size <= this.archived) return;
    const outside = this.given === undefined && this.#outside !== undefined && this.#outside.size < from.size;
    for (const checkpoint of [...(outside ? [this.#outside] : []), from]) {
      const hash = await selectHeadAt(this.#tx, checkpoint.size);
      this.#place = checkpoint.size;
      if (hash === undefined) throw found('truncated', checkpoint.size, 'A place is gone that was signed.');
      if (hash.toString('base64') !== checkpoint.hash) throw this.#rewritten('a checkpoint of before');
    }
    if (outside) this.given = 'matches';
    this.#head = Buffer.from(from.hash, 'base64');
    this.#agreed = this.#agreedBefore = from.size;
    this.#raiseFloor(from);
    // Those of the place itself are looked at again: the last one has to be there.
    this.#signedAfter = { size: String(from.size - 1), id: HIGHEST_ID };
  }

  /** A checkpoint was just checked, far enough on. */
  #isEnough(): boolean {
    return this.#place - this.after >= this.#way.places && this.newest?.size === this.#place;
  }

  /** False: something is wrong with it. Once for every entry, so nothing is waited for. */
  #take(row: SealedRow): boolean {
    const place = this.#place + 1;
    if (Number(row.place) !== place || !isThere(row) || BigInt(row.entry_id) <= this.#floor) return false;
    const hash = chainNext(this.#head, place, leafOf(row));
    if (!hash.equals(row.hash)) return false;
    this.#head = hash;
    this.#place = place;
    this.entries += 1;
    return true;
  }

  async #whatIsWrong(row: SealedRow, next: SealedRow | undefined): Promise<Found> {
    const place = this.#place + 1;
    await this.#quiet;
    if (Number(row.place) < place) return found('inserted', Number(row.place), 'A place is there twice.', row.entry_id);
    if (Number(row.place) !== place) {
      return found('removed', place, `Places ${String(place)} to ${String(Number(row.place) - 1)} are gone.`);
    }
    if (!isThere(row)) return this.#missing(row);
    if (BigInt(row.entry_id) <= this.#floor) {
      return found('inserted', place, 'An entry has a place behind a checkpoint that left none for it.', row.entry_id);
    }
    return this.#different(row, chainNext(this.#head, place, leafOf(row)), next);
  }

  #isSignedHere(): boolean {
    const [next] = this.#signed;
    return (
      this.#outside?.size === this.#place || (next === undefined ? !this.#allRead : Number(next.size) <= this.#place)
    );
  }

  /** The checkpoints of the present place, the one that was given among them. */
  async #checkSigned(): Promise<void> {
    if (this.#outside?.size === this.#place && this.#disagreed === undefined) {
      if (this.#outside.hash === this.#head.toString('base64')) {
        this.#agreed = this.#place;
        this.given = 'matches';
      } else {
        this.#disagreed = this.#rewritten('the checkpoint that was given');
      }
    }
    for (;;) {
      const [row] = this.#signed;
      if (row === undefined) {
        if (!(await this.#moreSigned())) return;
        continue;
      }
      if (Number(row.size) > this.#place) return;
      this.#signed.shift();
      this.#checkOne(row);
    }
  }

  #checkOne(row: SignedRow): void {
    const checkpoint = checkpointOf(row, this.#origin, this.#publicKeys);
    const isItsOwn = checkpoint?.size === Number(row.size) && checkpoint.floor === row.floor_id;
    if (checkpoint === undefined || !isItsOwn || checkpoint.size !== this.#place) {
      throw found('checkpoint', Number(row.size), `The checkpoint ${row.id} is not as it was signed.`);
    }
    if (checkpoint.hash !== this.#head.toString('base64')) throw this.#rewritten(`the checkpoint ${row.id}`);
    this.checkpoints += 1;
    this.newest = checkpoint;
    this.#compareWithGiven(checkpoint);
    this.#agreed = this.#place;
    this.#raiseFloor(checkpoint);
  }

  /** This chain was signed by us, up to here. What was given was, too: then the chain was set back in between, and went on. */
  #compareWithGiven({ signedAt }: AuditCheckpoint): void {
    if (this.#outside === undefined) return;
    if (this.#disagreed !== undefined) {
      this.#disagreed = undefined;
      throw this.#forked(this.#outside.size);
    }
    if (this.#place >= this.#outside.size) return;
    if (signedAt > this.#outside.signedAt) this.#isSetBack = true;
    else if (!this.#isSetBack) this.#agreedBefore = this.#place;
  }

  async #moreSigned(): Promise<boolean> {
    await this.#quiet;
    const rows = await selectCheckpoints(this.#tx, { ...this.#signedAfter, limit: PAGE });
    const last = rows.at(-1);
    if (last === undefined) {
      this.#allRead = true;
      return false;
    }
    this.#signedAfter = { size: last.size, id: last.id };
    this.#signed = rows;
    return true;
  }

  async #end(): Promise<void> {
    if (this.#disagreed !== undefined) throw this.#disagreed;
    const place = this.#place;
    const [ahead] = this.#signed;
    const size = Math.max(Number(ahead?.size ?? 0), this.#outside?.size ?? 0);
    if (size > place) {
      if (size === this.#outside?.size && this.#isSetBack) throw this.#forked(place);
      throw found(
        'truncated',
        place + 1,
        `Entries from place ${String(place + 1)} to at least ${String(size)} are gone.`,
      );
    }
    if (this.newest?.size !== place && place > 0) {
      // What was given is of it.
      if (this.#agreed === place) throw found('checkpoint', place, 'The checkpoint of the last place is gone.');
      throw found('inserted', this.#agreed + 1, 'Places were added that no checkpoint has signed.');
    }
    if (this.#outside !== undefined) this.#raiseFloor(this.#outside);
    const isOfAll = this.#way.unplaced === 'all';
    const above = isOfAll ? undefined : this.#way.from?.floor;
    const stowaway = await selectStowaway(this.#tx, above, this.floor);
    if (stowaway !== undefined) {
      throw found('inserted', undefined, 'An entry is there that had no place when all others got theirs.', stowaway);
    }
    if (isOfAll) await this.#countAgain();
  }

  /** What was looked up by a key is one row each only as long as keys are unique, which a superuser can change. */
  async #countAgain(): Promise<void> {
    const { entries, seals } = await selectCounts(this.#tx);
    const placed = this.#place - this.archived;
    if (seals !== placed) {
      const place = await selectDoublePlace(this.#tx);
      throw found('inserted', place === undefined ? undefined : Number(place), 'A place is there twice.');
    }
    const unsealed = await selectUnsealedCount(this.#tx, this.floor);
    if (entries !== placed + unsealed.entries) {
      throw found('inserted', undefined, 'An entry is there twice.', await selectTwin(this.#tx));
    }
  }

  async #missing(row: SealedRow): Promise<Found> {
    const place = Number(row.place);
    if (await isAnyBehind(this.#tx, place))
      return found('removed', place, 'The entry of this place is gone.', row.entry_id);
    return found('truncated', place, 'The entries from this place to the end are gone.', row.entry_id);
  }

  /** Tells an entry that was changed from one that changed its place with another, and from a changed seal. */
  async #different(row: SealedRow & ChainedEntry, hash: Buffer, next: SealedRow | undefined): Promise<Found> {
    const place = Number(row.place);
    if (next !== undefined && isThere(next) && chainNext(hash, place + 1, leafOf(next)).equals(next.hash)) {
      return found('altered', place, 'The seal of this entry was changed, the entry was not.', row.entry_id);
    }
    const fits = (entry: ChainedEntry): boolean => chainNext(this.#head, place, leafOf(entry)).equals(row.hash);
    for (let after = LOWEST_ID; ;) {
      const page = await selectEntriesAfter(this.#tx, { after, limit: PAGE });
      for (const entry of page) {
        if (fits(entry)) return found('reordered', place, `The entry ${entry.id} belongs here.`, row.entry_id);
        if (entry.id !== row.id && fits({ ...entry, id: row.id })) {
          return found('reordered', place, `What the entry ${entry.id} says belongs here.`, row.entry_id);
        }
      }
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) break;
      after = last.id;
    }
    return found('altered', place, 'The entry is not as it was written.', row.entry_id);
  }

  #raiseFloor({ floor }: AuditCheckpoint): void {
    if (BigInt(floor) > this.#floor) this.#floor = BigInt(floor);
  }

  /** Every entry up to this id has its place. */
  get floor(): string {
    return String(this.#floor);
  }

  #forked(place: number): Found {
    const after = this.#agreedBefore;
    return new Found({
      ...{ kind: 'forked', place, after, entryId: undefined },
      message:
        `From place ${String(after + 1)} on this is another chain than the one of the checkpoint that was given, and we signed both: the ` +
        'database was set back to an older state, as by a restore, and went on; or somebody has the wrapping key.',
    });
  }

  #rewritten(by: string): Found {
    const after = this.#agreed;
    return new Found({
      ...{ kind: 'rewritten', place: this.#place, after, entryId: undefined },
      message: `Places ${String(after + 1)} to ${String(this.#place)} are not what ${by} signed, though they agree with their seals.`,
    });
  }
}

function found(kind: AuditProblem['kind'], place: number | undefined, message: string, entryId?: string): Found {
  return new Found({ kind, place, after: undefined, entryId, message });
}
