import { createHash } from 'node:crypto';
import type { ArchivedAudit, ArchiveAuditOptions } from '../api.ts';
import type { Database } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { requireGivenReason } from '../validate.ts';
import { archiveText, openArchiveNote } from './archive-note.ts';
import { archiveEnd, archiveHeader, archiveLine } from './archive-file.ts';
import { removeArchived, selectLastSignedBefore } from './archive-store.ts';
import type { AuditTrail } from './audit.ts';
import { chainNext, chainStart, leafOf } from './chain.ts';
import { auditOrigin, signNote, verifierKey } from './note.ts';
import { selectInstallation } from './seal-store.ts';
import { checkpointOf, type CheckpointSigner } from './sealer.ts';
import { isThere, selectArchive, selectSealed } from './verify-store.ts';

const PAGE = 5_000;

export interface ArchiveContext {
  readonly database: Database;
  readonly trail: AuditTrail;
  readonly signer: () => Promise<CheckpointSigner>;
  readonly publicKeys: () => Promise<readonly Uint8Array[]>;
}

/** Where a range begins and ends, by what was signed. */
interface Range {
  readonly installation: string;
  readonly after: number;
  readonly start: Buffer;
  readonly through: number;
  readonly hash: string;
  readonly note: string;
}

/**
 * Writes the entries up to the last checkpoint before a moment into a file, hashing them again on the way, and removes them when
 * the file is known to be safe. docs/spec/audit.md, U40 to U43.
 */
export async function archiveTrail(context: ArchiveContext, options: ArchiveAuditOptions): Promise<ArchivedAudit> {
  const { before, reason, write, owner, signal } = options;
  requireGivenReason(reason);
  const publicKeys = await context.publicKeys();
  const range = await requireRange(context.database, publicKeys, before);
  const sum = createHash('sha256');
  await write(hashed(lines(context.database, range, publicKeys, signal), sum));
  const fileSha256 = sum.digest('hex');
  const signer = await context.signer();
  const origin = auditOrigin(range.installation);
  const facts = { through: range.through, hash: Buffer.from(range.hash, 'base64'), fileSha256 };
  const note = signNote(archiveText(origin, facts), origin, signer);
  const entries = await removeArchived(owner, { through: range.through, note, actor: context.trail.actor, reason });
  return { from: range.after + 1, through: range.through, entries, fileSha256, note };
}

async function requireRange(database: Database, publicKeys: readonly Uint8Array[], before: Date): Promise<Range> {
  const installation = await selectInstallation(database);
  const origin = auditOrigin(installation);
  const archive = await selectArchive(database);
  const told = archive === undefined ? undefined : openArchiveNote(archive.note, origin, publicKeys);
  if (archive !== undefined && told === undefined) throw broken('The last archive was not signed by us.');
  const after = told?.through ?? 0;
  const row = await selectLastSignedBefore(database, before);
  const checkpoint = row === undefined ? undefined : checkpointOf(row, origin, publicKeys);
  if (row !== undefined && checkpoint === undefined) throw broken('The checkpoint at its end was not signed by us.');
  if (checkpoint === undefined || checkpoint.size <= after) {
    throw new KeyringError('illegal_state', 'Nothing was sealed before that, or it is in an archive already.', {
      remedy: '`mh-keys audit list` says what there is.',
    });
  }
  const { size: through, hash, note } = checkpoint;
  return { installation, after, start: told?.hash ?? chainStart(installation), through, hash, note };
}

/** @throws KeyringError `audit_broken` at the first entry that is not as it was sealed: nothing of that is archived. */
async function* lines(
  database: Database,
  range: Range,
  publicKeys: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): AsyncIterable<string> {
  const { installation, after, start, through } = range;
  yield archiveHeader({ installation, from: after + 1, through, start: start.toString('base64') });
  let head = start;
  let place = after;
  while (place < through) {
    signal?.throwIfAborted();
    const page = await selectSealed(database, { after: place, through, limit: PAGE });
    let text = '';
    for (const row of page) {
      place += 1;
      if (Number(row.place) !== place || !isThere(row)) throw broken(`Place ${String(place)} is not there.`);
      head = chainNext(head, place, leafOf(row));
      if (!head.equals(row.hash)) throw broken(`The entry at place ${String(place)} is not as it was sealed.`);
      text += archiveLine(row, place, head);
    }
    if (page.length === 0) throw broken(`Place ${String(place + 1)} is not there.`);
    yield text;
  }
  if (head.toString('base64') !== range.hash) throw broken('The range does not end as it was signed.');
  const origin = auditOrigin(installation);
  yield archiveEnd({ checkpoint: range.note, keys: publicKeys.map((key) => verifierKey(origin, key)) });
}

async function* hashed(text: AsyncIterable<string>, sum: ReturnType<typeof createHash>): AsyncIterable<string> {
  for await (const part of text) {
    sum.update(part);
    yield part;
  }
}

function broken(what: string): KeyringError {
  return new KeyringError('audit_broken', `${what} Nothing was archived.`, {
    remedy: 'Run `mh-keys audit verify`, and see docs/runbooks/the-audit-chain-is-broken.md.',
  });
}
