import type { AuditCheckpoint, AuditSealing } from '../api.ts';
import { transaction, type Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { chainNext, chainStart, leafOf } from './chain.ts';
import { auditOrigin, checkpointText, openNote, parseCheckpoint, signNote, type NoteSigner } from './note.ts';
import {
  hasWork,
  holdSealer,
  insertCheckpoint,
  insertSeals,
  selectChainEnd,
  selectInstallation,
  selectLastEntry,
  selectUnsealed,
  type ChainEnd,
  type CheckpointRow,
  type Mark,
  type Seal,
} from './seal-store.ts';

/** Entries to a transaction: some 100 ms of work. */
const BATCH = 10_000;
// While a transaction stays open the floor stays, and what is above it was looked through already: that is done again once in a while.
const LOOK_BACK_EVERY_MS = 30_000;
const LOOK_BACK_ENTRIES = 20_000n;

export interface CheckpointSigner extends NoteSigner {
  readonly keyId: string;
}

export interface SealerContext {
  readonly database: Database;
  readonly signer: () => Promise<CheckpointSigner>;
  /** Of all keys that may have signed before. */
  readonly publicKeys: () => Promise<readonly Uint8Array[]>;
  readonly now: () => Date;
}

/** Undoes the transaction: other keys are read outside of it, for whoever held a connection and asked for another could wait for itself. */
class SignedByAnother extends Error {
  readonly note: string;

  constructor(note: string) {
    super('The last checkpoint was signed with another key than these.');
    this.note = note;
  }
}

/**
 * Gives entries their place. It takes what can be seen, whatever transactions are open, so that no idle one holds it up; what commits
 * later is found later, because the floor, below which nobody looks, waits for all of them. docs/decisions/0019-audit-chain.md.
 */
export class Sealer {
  readonly #database: Database;
  readonly #signer: () => Promise<CheckpointSigner>;
  readonly #publicKeys: () => Promise<readonly Uint8Array[]>;
  readonly #now: () => Date;
  #installation: string | undefined;
  #lookedBackAt = -Infinity;
  /** What this process saw last: the chain does not get shorter. */
  #seen: { readonly size: number; readonly hash: string } | undefined;

  constructor({ database, signer, publicKeys, now }: SealerContext) {
    this.#database = database;
    this.#signer = signer;
    this.#publicKeys = publicKeys;
    this.#now = now;
  }

  /** @throws KeyringError `audit_broken` when the end of the chain is not what was signed. */
  async seal(): Promise<AuditSealing> {
    if (!(await hasWork(this.#database))) return { sealed: 0, checkpoint: undefined, more: false, busy: false };
    // Made, if need be, before anything is held.
    const signer = await this.#signer();
    const installation = (this.#installation ??= await selectInstallation(this.#database));
    let known: readonly Uint8Array[] = [signer.publicKey];
    for (let unproven: string | undefined; ;) {
      try {
        return await this.#sealUnder(signer, installation, known);
      } catch (error) {
        if (!(error instanceof SignedByAnother)) throw error;
        if (error.note === unproven) throw broken('The last checkpoint was not signed by us.');
        unproven = error.note;
        known = await this.#publicKeys();
      }
    }
  }

  /** `known`: of who may have signed the last checkpoint. @throws SignedByAnother */
  async #sealUnder(
    signer: CheckpointSigner,
    installation: string,
    known: readonly Uint8Array[],
  ): Promise<AuditSealing> {
    const done = await transaction(this.#database, async (tx): Promise<AuditSealing> => {
      // Before this transaction has an id: whoever was handed a lower one for an entry has a lower transaction id then.
      const last = await selectLastEntry(tx);
      if (!(await holdSealer(tx))) return { sealed: 0, checkpoint: undefined, more: false, busy: true };
      const end = await selectChainEnd(tx);
      const origin = auditOrigin(installation);
      const head = this.#requireSound(end, origin, installation, known);
      const floor = BigInt(end.checkpoint?.floor_id ?? 0);
      const after = this.#lookFrom(floor, BigInt(end.highest));
      const entries = await selectUnsealed(tx, { after: String(after), limit: BATCH });
      const { seals, hash } = chained(entries, end.place, head);
      const more = entries.length === BATCH;
      const next = nextFloor(end, { last, complete: after === floor && !more });
      if (seals.length === 0 && next.floor === floor) {
        return { sealed: 0, checkpoint: undefined, more: false, busy: false };
      }
      const size = end.place + seals.length;
      const facts = { size, hash, floor: String(next.floor), signedAt: this.#now() };
      const note = signNote(checkpointText(origin, facts), origin, signer);
      if (seals.length > 0) await insertSeals(tx, seals);
      const { keyId: signingKeyId } = signer;
      await insertCheckpoint(tx, { size, floor: facts.floor, note, signingKeyId, mark: next.mark });
      const checkpoint = { ...facts, hash: hash.toString('base64'), note };
      return { sealed: seals.length, checkpoint, more, busy: false };
    });
    if (done.checkpoint !== undefined) this.#seen = done.checkpoint;
    return done;
  }

  /** Most of the time what is new is above all that has its place. */
  #lookFrom(floor: bigint, highest: bigint): bigint {
    const now = performance.now();
    const isNear = highest - floor <= LOOK_BACK_ENTRIES;
    if (!isNear && now - this.#lookedBackAt < LOOK_BACK_EVERY_MS) return highest;
    if (!isNear) this.#lookedBackAt = now;
    return floor;
  }

  /** The head to go on from. */
  #requireSound(end: ChainEnd, origin: string, installation: string, known: readonly Uint8Array[]): Buffer {
    const { checkpoint, place, hash, archive } = end;
    if (this.#seen !== undefined && place < this.#seen.size) throw broken('The chain is shorter than it was.');
    if (checkpoint === undefined) {
      if (place > 0) throw broken('The chain has places, and no checkpoint.');
      return chainStart(installation);
    }
    const facts = checkpointOf(checkpoint, origin, known);
    if (facts === undefined) throw new SignedByAnother(checkpoint.note);
    const head = place === archive?.through ? Buffer.from(facts.hash, 'base64') : hash;
    if (facts.size !== place || facts.floor !== checkpoint.floor_id || head?.toString('base64') !== facts.hash) {
      throw broken('The chain does not end where it was signed.');
    }
    if (this.#seen?.size === place && this.#seen.hash !== facts.hash) throw broken('The chain was signed anew.');
    return head;
  }
}

/** Undefined when none of the keys signed it, or it is of something else. */
export function checkpointOf(
  { note }: Pick<CheckpointRow, 'note'>,
  origin: string,
  publicKeys: readonly Uint8Array[],
): AuditCheckpoint | undefined {
  const text = openNote(note, origin, publicKeys);
  const facts = text === undefined ? undefined : parseCheckpoint(text, origin);
  return facts && { ...facts, hash: facts.hash.toString('base64'), note };
}

function chained(
  entries: Awaited<ReturnType<typeof selectUnsealed>>,
  before: number,
  start: Buffer,
): { seals: Seal[]; hash: Buffer } {
  let hash = start;
  const seals = entries.map((entry, index) => {
    const place = before + index + 1;
    hash = chainNext(hash, place, leafOf(entry));
    return { place, entryId: entry.id, hash };
  });
  return { seals, hash };
}

/** `complete`: everything above the floor that could be seen has its place after this. */
function nextFloor(
  { checkpoint, xid, oldest_xid }: ChainEnd,
  { last, complete }: { readonly last: string; readonly complete: boolean },
): { floor: bigint; mark: Mark | undefined } {
  const floor = BigInt(checkpoint?.floor_id ?? 0);
  const marked = markOf(checkpoint);
  const fresh = BigInt(last) > floor ? { id: last, xid } : undefined;
  // Nobody signed a mark: one above all entries would have everything to come passed over.
  const isPossible = marked !== undefined && BigInt(marked.id) > floor && BigInt(marked.id) <= BigInt(last);
  if (!isPossible) return { floor, mark: fresh };
  // A mark of the future is of another cluster, from which this database was restored: nothing of that one is open any more.
  const isOver = BigInt(oldest_xid) >= BigInt(marked.xid) || BigInt(marked.xid) > BigInt(xid);
  if (!complete || !isOver) return { floor, mark: marked };
  return { floor: BigInt(marked.id), mark: BigInt(last) > BigInt(marked.id) ? { id: last, xid } : undefined };
}

function markOf(checkpoint: CheckpointRow | undefined): Mark | undefined {
  const { mark_id: id = null, mark_xid: xid = null } = checkpoint ?? {};
  return id === null || xid === null ? undefined : { id, xid };
}

function broken(what: string): KeyringError {
  return new KeyringError('audit_broken', `${what} Nothing is sealed on top of it.`, {
    remedy: 'Run `mh-keys audit verify`, and see docs/runbooks/the-audit-chain-is-broken.md.',
  });
}
