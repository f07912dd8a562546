import type { AuditCheckpoint, AuditProblem, AuditUnsealed, AuditVerification, VerifyAuditOptions } from '../api.ts';
import { transaction, type Database, type Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { auditOrigin, MAX_NOTE_CHARACTERS, parseCheckpoint } from './note.ts';
import { selectInstallation, selectLastCheckpoint, selectUnsealedCount } from './seal-store.ts';
import { checkpointOf } from './sealer.ts';
import { seeOneSnapshot, selectNow } from './verify-store.ts';
import { Walk, type Way } from './walk.ts';

export interface VerifyContext extends VerifyAuditOptions {
  readonly database: Database;
  /** Public halves of the keys that may have signed. */
  readonly publicKeys: readonly Uint8Array[];
}

/** A part of the trail, as one snapshot has it. */
export interface PartContext extends VerifyContext {
  /** The note of a checkpoint up to which all was verified before. Undefined, or none of ours any more: from the first place on. */
  readonly from?: string | undefined;
  /** Ends at the first checkpoint that is at least so many places on. Default: at the end of the trail. */
  readonly places?: number;
  readonly unplaced: Way['unplaced'];
}

export interface VerifiedPart extends AuditVerification {
  /** The place before its first. */
  readonly after: number;
  /** The end of the trail was looked at. */
  readonly ended: boolean;
  /** The database's time of the snapshot. */
  readonly at: string;
}

/** docs/spec/audit.md, U20 to U26. */
export function verifyTrail(context: VerifyContext): Promise<VerifiedPart> {
  return verifyPart({ ...context, unplaced: 'all' });
}

/** The same of a part: what is before it is taken by the signature that it begins with. U27. */
export async function verifyPart({
  database,
  publicKeys,
  checkpoint: given,
  from,
  places = Infinity,
  unplaced,
  signal,
  onProgress,
}: PartContext): Promise<VerifiedPart> {
  return transaction(database, async (tx) => {
    await seeOneSnapshot(tx);
    const at = await selectNow(tx);
    const origin = auditOrigin(await selectInstallation(tx));
    const signed = (note: string | undefined): AuditCheckpoint | undefined =>
      note === undefined ? undefined : checkpointOf({ note }, origin, publicKeys);
    const outside = signed(given);
    const isForeign = given !== undefined && outside === undefined;
    if (isForeign && (await isSignedByUs(tx, origin, publicKeys))) throw noCheckpoint();
    const walk = new Walk({
      tx,
      origin,
      publicKeys,
      outside,
      from: signed(from),
      places,
      unplaced,
      signal,
      onProgress,
    });
    // Nobody of ours signed what was given; nor what is there, which tells more, as long as that is so.
    const problem = (await walk.run()) ?? (isForeign ? keysGone(given, origin, publicKeys) : undefined);
    const { entries, archived, checkpoints, newest, after, ended } = walk;
    return {
      intact: problem === undefined,
      problem,
      ...{ entries, archived, checkpoints, checkpoint: newest, after, ended, at },
      given: problem === undefined ? walk.given : undefined,
      unsealed:
        ended || problem !== undefined
          ? unsealedOf(await selectUnsealedCount(tx, walk.floor))
          : { entries: 0, oldestAt: undefined },
    };
  });
}

function unsealedOf({ entries, oldestAt }: AuditUnsealed): AuditUnsealed {
  return { entries, oldestAt };
}

async function isSignedByUs(tx: Queryable, origin: string, publicKeys: readonly Uint8Array[]): Promise<boolean> {
  const last = await selectLastCheckpoint(tx);
  return last !== undefined && checkpointOf(last, origin, publicKeys) !== undefined;
}

/** What was given names this installation, which has neither a chain nor the key for it. @throws KeyringError `invalid_argument`. */
function keysGone(note: string, origin: string, publicKeys: readonly Uint8Array[]): AuditProblem {
  const text = note.length > MAX_NOTE_CHARACTERS ? '' : note.slice(0, note.lastIndexOf('\n\n') + 1);
  if (publicKeys.length > 0 || parseCheckpoint(text, origin) === undefined) throw noCheckpoint();
  const message = 'Nothing is sealed here, and the key that signed the checkpoint that was given is gone.';
  return { kind: 'truncated', place: 1, after: undefined, entryId: undefined, message };
}

function noCheckpoint(): KeyringError {
  return new KeyringError('invalid_argument', 'That is no checkpoint that a key of this installation has signed.', {
    remedy:
      'Give the file that the sealer wrote, unchanged, of this installation. If it is: its signing key is gone from the database, or ' +
      'was replaced (docs/runbooks/the-audit-chain-is-broken.md).',
  });
}
