/** Archives of the trail, as JSON Lines. docs/spec/audit.md, U40. */
import type { VerifiedArchive } from '../api.ts';
import { KeyringError } from '../errors.ts';
import { chainNext, chainStart, leafOf, type ChainedEntry } from './chain.ts';
import { auditOrigin } from './note.ts';
import { checkpointOf } from './sealer.ts';

const TYPE = 'meshhook-keyring/audit-archive/v1';
const MAX_LINE = 4_000_000;

interface Header {
  readonly installation: string;
  readonly from: number;
  readonly through: number;
  /** The head of the chain before the first place, base64. */
  readonly start: string;
}

export function archiveHeader(header: Header): string {
  return `${JSON.stringify({ type: TYPE, ...header })}\n`;
}

export function archiveLine(entry: ChainedEntry, place: number, hash: Buffer): string {
  const { id, at_us, actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details } =
    entry;
  return `${JSON.stringify({
    ...{
      place,
      id,
      at_us,
      actor,
      principal_kind,
      source_address,
      action,
      outcome,
      project_id,
      subject,
      reason,
      details,
    },
    hash: hash.toString('base64'),
  })}\n`;
}

export function archiveEnd(end: { readonly checkpoint: string; readonly keys: readonly string[] }): string {
  return `${JSON.stringify(end)}\n`;
}

/**
 * Hashes an archive again, without a database, and checks the checkpoint at its end with keys that were kept from before.
 * @throws KeyringError `audit_broken` naming the first line that is not as it was written; `invalid_argument` when it is no
 *   archive.
 */
export async function verifyAuditArchive(
  lines: AsyncIterable<string>,
  publicKeys: readonly Uint8Array[],
): Promise<VerifiedArchive> {
  let header: Header | undefined;
  let head: Buffer = Buffer.alloc(0);
  let place = 0;
  let end: { checkpoint?: unknown } | undefined;
  for await (const line of lines) {
    if (end !== undefined) throw broken(place, 'there is more behind its end');
    const one = parsed(line);
    if (header === undefined) {
      header = requireHeader(one);
      head = Buffer.from(header.start, 'base64');
      place = header.from - 1;
      const isStart = header.from === 1;
      if (isStart && !head.equals(chainStart(header.installation)))
        throw broken(1, 'it does not begin where the chain does');
      continue;
    }
    if (place === header.through) {
      end = one;
      continue;
    }
    place += 1;
    const entry = requireEntry(one, place);
    head = chainNext(head, place, leafOf(entry));
    if (head.toString('base64') !== one['hash']) throw broken(place, 'the entry is not as it was sealed');
  }
  if (header === undefined) throw notAnArchive();
  if (end === undefined) throw broken(place + 1, 'the rest is gone');
  const origin = auditOrigin(header.installation);
  const note = typeof end.checkpoint === 'string' ? end.checkpoint : '';
  const checkpoint = checkpointOf({ note }, origin, publicKeys);
  if (checkpoint?.size !== header.through || checkpoint.hash !== head.toString('base64')) {
    throw broken(header.through, 'the checkpoint at its end was not signed for it, by any of the keys at hand');
  }
  const { installation, from, through, start } = header;
  return { installation, from, through, entries: through - from + 1, start, checkpoint };
}

function parsed(line: string): Record<string, unknown> {
  try {
    const value: unknown = line.length > MAX_LINE ? undefined : JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below.
  }
  throw notAnArchive();
}

function requireHeader(one: Record<string, unknown>): Header {
  const { type, installation, from, through, start } = one;
  const isHeader =
    type === TYPE &&
    typeof installation === 'string' &&
    /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(installation) &&
    Number.isSafeInteger(from) &&
    Number.isSafeInteger(through) &&
    Number(from) >= 1 &&
    Number(through) >= Number(from) &&
    typeof start === 'string' &&
    /^[A-Za-z0-9+/]{43}=$/.test(start);
  if (!isHeader) throw notAnArchive();
  return { installation, from: Number(from), through: Number(through), start };
}

const texts = ['actor', 'action', 'outcome', 'subject', 'details'] as const;
const maybeTexts = ['principal_kind', 'source_address', 'project_id', 'reason'] as const;

function requireEntry(one: Record<string, unknown>, place: number): ChainedEntry {
  // One spelling of each number, of 64 bits.
  const isNumber = (value: unknown): boolean =>
    typeof value === 'string' &&
    /^(0|-?[1-9]\d{0,18})$/.test(value) &&
    BigInt.asIntN(64, BigInt(value)) === BigInt(value);
  const isText = (value: unknown): boolean => typeof value === 'string' && value.isWellFormed();
  const isEntry =
    one['place'] === place &&
    isNumber(one['id']) &&
    isNumber(one['at_us']) &&
    texts.every((name) => isText(one[name])) &&
    maybeTexts.every((name) => one[name] === null || isText(one[name]));
  if (!isEntry) throw broken(place, 'it is not there');
  return one as unknown as ChainedEntry;
}

function broken(place: number, what: string): KeyringError {
  return new KeyringError('audit_broken', `The archive is broken at place ${String(place)}: ${what}.`, {
    remedy:
      'Look for another copy of it: the note in the entry audit.archived has the SHA-256 of the file that was written.',
    details: { place },
  });
}

function notAnArchive(): KeyringError {
  return new KeyringError('invalid_argument', 'That is no archive of the trail.', {
    remedy: 'Give the file that `mh-keys audit archive` wrote.',
  });
}
