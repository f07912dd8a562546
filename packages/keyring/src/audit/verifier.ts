import type { AuditLook, AuditScope, VerifyDueOptions } from '../api.ts';
import { transaction, type Database } from '../db/port.ts';
import { pause } from '../db/wait.ts';
import { KeyringError } from '../errors.ts';
import type { AuditTrail } from './audit.ts';
import { auditOrigin } from './note.ts';
import { selectInstallation } from './seal-store.ts';
import { checkpointOf } from './sealer.ts';
import {
  beginRecentAt,
  claimVerification,
  endRecent,
  endVerification,
  notePosition,
  noteWhole,
  releaseVerification,
  type Claim,
  type Ended,
  type Verifying,
} from './verification-store.ts';
import { verifyPart, verifyTrail, type VerifiedPart } from './verify.ts';

/** Places to a part: some 100 ms of work, and one snapshot, so that neither vacuum nor whoever stops it waits for long. */
const PART = 5_000;

export interface VerifierContext {
  readonly database: Database;
  readonly publicKeys: () => Promise<readonly Uint8Array[]>;
  readonly instanceId: string;
  readonly silentAfterMs: number;
}

/**
 * Verifies without being asked, part by part: one process at a time, known by its heartbeat, and taken over from where it is. Positions are
 * signed checkpoints, so what is written down between parts can have less looked at than it says, and cannot have anything else believed;
 * a whole verification from elsewhere tells (docs/audit.md).
 */
export class Verifier {
  readonly #context: VerifierContext;
  readonly #busy = new Set<AuditScope>();

  constructor(context: VerifierContext) {
    this.#context = context;
  }

  /** As `Audit.verifyDue` says. */
  async verifyDue(trail: AuditTrail, scope: AuditScope, options: VerifyDueOptions): Promise<AuditLook | undefined> {
    // Two workers of one process have one heartbeat.
    if (this.#busy.has(scope)) return undefined;
    this.#busy.add(scope);
    try {
      const verifying = { ...this.#context, scope };
      const claim = await claimVerification(this.#context.database, verifying, options.everyMs);
      if (claim === undefined) return undefined;
      try {
        return await new Pass(this.#context, trail, verifying, claim, options).run();
      } finally {
        await releaseVerification(this.#context.database, verifying).catch(() => undefined);
      }
    } finally {
      this.#busy.delete(scope);
    }
  }
}

/** Notes what a verification of all of it by hand came to. @throws KeyringError as the database does. */
export function noteByHand(database: Database, by: string, part: VerifiedPart): Promise<boolean> {
  return transaction(database, (tx) => noteAll(tx, by, part));
}

async function noteAll(tx: Parameters<typeof noteWhole>[0], by: string, part: VerifiedPart): Promise<boolean> {
  const ended = endOf(by, part);
  if (!(await noteWhole(tx, ended, part))) return false;
  if (part.intact) await beginRecentAt(tx, ended.position);
  else await endRecent(tx);
  return true;
}

function endOf(by: string, part: VerifiedPart): Ended {
  const { after, entries, checkpoint, given } = part;
  return { by, after, through: after + entries, position: checkpoint?.note, given };
}

class Pass {
  readonly #context: VerifierContext;
  readonly #trail: AuditTrail;
  readonly #verifying: Verifying;
  readonly #claim: Claim;
  readonly #signal: AbortSignal;
  readonly #share: number;
  readonly #readCheckpoint: VerifyDueOptions['checkpoint'];
  #outside: string | undefined;
  #position: string | undefined;

  constructor(
    context: VerifierContext,
    trail: AuditTrail,
    verifying: Verifying,
    claim: Claim,
    { share, checkpoint, signal = new AbortController().signal }: VerifyDueOptions,
  ) {
    this.#context = context;
    this.#trail = trail;
    this.#verifying = verifying;
    this.#claim = claim;
    this.#signal = signal;
    this.#share = share;
    this.#readCheckpoint = checkpoint;
    this.#position = claim.position;
  }

  async run(): Promise<AuditLook | undefined> {
    // Before any snapshot: the chain is at least as long as what was kept of it.
    this.#outside = await this.#readCheckpoint?.();
    for (;;) {
      const begun = performance.now();
      const part = await this.#part();
      if (!part.intact) return this.#found(part);
      if (part.ended) return this.#end(part);
      const position = part.checkpoint?.note ?? '';
      const isOurs = await notePosition(this.#context.database, this.#verifying, this.#claim, {
        after: part.after,
        position,
      });
      if (!isOurs) return undefined;
      this.#position = position;
      await pause(((performance.now() - begun) * (100 - this.#share)) / this.#share, this.#signal);
      if (this.#signal.aborted) throw interrupted();
    }
  }

  async #part(): Promise<VerifiedPart> {
    const given = {
      ...{ database: this.#context.database, publicKeys: await this.#context.publicKeys(), signal: this.#signal },
      ...{ from: this.#position, places: PART },
      unplaced: this.#verifying.scope === 'whole' ? ('all' as const) : ('of the part' as const),
    };
    if (this.#outside === undefined) return verifyPart(given);
    try {
      return await verifyPart({ ...given, checkpoint: this.#outside });
    } catch (error) {
      if (!(error instanceof KeyringError) || error.code !== 'invalid_argument') throw error;
      // It is none of ours, which whoever keeps the file there says.
      this.#outside = undefined;
      return verifyPart(given);
    }
  }

  async #end(part: VerifiedPart): Promise<AuditLook | undefined> {
    const ended = endOf(this.#trail.actor.name, part);
    return transaction(this.#context.database, async (tx) => {
      const after = await endVerification(tx, this.#verifying, this.#claim, ended);
      if (after === undefined) return undefined;
      if (this.#verifying.scope === 'whole') {
        await beginRecentAt(tx, ended.position);
        await this.#record(tx, after, part, ended.through);
      }
      return lookOf({ ...ended, after }, part);
    });
  }

  /**
   * What a part shows, all of it in one snapshot has to say too, as `verify` would: it names the first place. Where a finding stands, there
   * is nothing new to name, and that it still stands is what the part shows.
   */
  async #found(part: VerifiedPart): Promise<AuditLook | undefined> {
    const whole = this.#claim.isBroken ? part : await this.#lookAtAll();
    const ended = endOf(this.#trail.actor.name, whole);
    return transaction(this.#context.database, async (tx) => {
      // Of what is new it was a part, and is over, whatever all of it says.
      await endRecent(tx);
      if (!(await noteAll(tx, this.#trail.actor.name, whole))) return undefined;
      await this.#record(tx, ended.after, whole, ended.through);
      return lookOf(ended, whole);
    });
  }

  async #lookAtAll(): Promise<VerifiedPart> {
    const { database } = this.#context;
    const publicKeys = await this.#context.publicKeys();
    const look = (checkpoint?: string): Promise<VerifiedPart> =>
      verifyTrail({
        ...{ database, publicKeys, signal: this.#signal },
        ...(checkpoint === undefined ? {} : { checkpoint }),
      });
    const found = await look(this.#outside);
    const origin = auditOrigin(await selectInstallation(database));
    const before = this.#position;
    if (!found.intact || before === undefined || checkpointOf({ note: before }, origin, publicKeys) === undefined) {
      return found;
    }
    // Up to where it was verified before is kept too: of a chain that was cut off, it may be all that knows.
    return look(before);
  }

  async #record(
    tx: Parameters<typeof noteWhole>[0],
    after: number,
    { intact, problem, given }: VerifiedPart,
    through: number,
  ): Promise<void> {
    if (intact && through === 0) return;
    const { kind, place, entryId } = problem ?? {};
    await this.#trail.record(tx, {
      action: 'audit.verified',
      outcome: intact ? 'succeeded' : 'failed',
      subject: `audit:${String(after + 1)}-${String(through)}`,
      details: {
        ...(given === undefined ? {} : { checkpoint: given }),
        ...(problem === undefined ? {} : { problem: kind, place, after: problem.after, entryId }),
      },
    });
  }
}

function lookOf({ by, after, through, given }: Ended, { problem }: VerifiedPart): AuditLook {
  return { at: new Date(), by, after, through, given, problem };
}

function interrupted(): KeyringError {
  return new KeyringError('interrupted', 'Interrupted. The next one goes on from there.');
}
