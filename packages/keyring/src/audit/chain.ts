/** The chain of hashes over the trail: bytes only. docs/spec/audit.md, U1 to U6. */
import { hash } from 'node:crypto';

/** An entry as the chain takes it: every field as PostgreSQL has it. */
export interface ChainedEntry {
  /** A bigint, in decimal. */
  readonly id: string;
  /** Microseconds since 1970, in decimal. */
  readonly at_us: string;
  readonly actor: string;
  readonly principal_kind: string | null;
  readonly source_address: string | null;
  readonly action: string;
  readonly outcome: string;
  readonly project_id: string | null;
  readonly subject: string;
  readonly reason: string | null;
  /** The text of the `jsonb`, exactly as PostgreSQL prints it. */
  readonly details: string;
}

const CONTEXT = Buffer.from('meshhook-keyring/audit/v1');
const LEAF = 0x00;
const NODE = 0x01;
const START = 0x02;
const ABSENT = 0xffff_ffff;
const HASH_BYTES = 32;

/** What the chain of an installation begins with, before its first entry. */
export function chainStart(installationId: string): Buffer {
  return sha256(Buffer.concat([Buffer.of(START), CONTEXT, uuidBytes(installationId)]));
}

/** The head of a chain after one more entry. */
export function chainNext(head: Uint8Array, place: number, leaf: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(1 + HASH_BYTES + 8 + HASH_BYTES);
  bytes[0] = NODE;
  bytes.set(head, 1);
  bytes.writeBigUInt64BE(BigInt(place), 1 + HASH_BYTES);
  bytes.set(leaf, 1 + HASH_BYTES + 8);
  return sha256(bytes);
}

/** What an entry puts into the chain. */
export function leafOf(entry: ChainedEntry): Buffer {
  const { id, at_us, actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details } =
    entry;
  const texts = [actor, principal_kind, source_address, action, outcome, project_id, subject, reason, details];
  let length = 1 + CONTEXT.length + 8 + 8;
  for (const text of texts) length += 4 + (text === null ? 0 : Buffer.byteLength(text));
  const bytes = Buffer.allocUnsafe(length);
  bytes[0] = LEAF;
  bytes.set(CONTEXT, 1);
  let at = 1 + CONTEXT.length;
  at = bytes.writeBigInt64BE(BigInt(id), at);
  at = bytes.writeBigInt64BE(BigInt(at_us), at);
  for (const text of texts) {
    if (text === null) {
      at = bytes.writeUInt32BE(ABSENT, at);
      continue;
    }
    const written = bytes.write(text, at + 4);
    bytes.writeUInt32BE(written, at);
    at += 4 + written;
  }
  return sha256(bytes);
}

function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

function sha256(bytes: Uint8Array): Buffer {
  // As text, into pooled memory: half the time of a buffer of its own for each.
  return Buffer.from(hash('sha256', bytes, 'binary'), 'binary');
}
