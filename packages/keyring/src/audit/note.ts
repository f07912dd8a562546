/**
 * C2SP signed notes with Ed25519 (c2sp.org/signed-note), and the checkpoints in them (the shape of c2sp.org/tlog-checkpoint): text
 * only. docs/spec/audit.md, U10 to U14.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';

/** Bounds what is looked at before anything is believed. */
export const MAX_NOTE_CHARACTERS = 2_000;

const ED25519 = 0x01;
const KEY_HASH_BYTES = 4;
const SIGNATURE_BYTES = 64;
const HIGHEST_ID = 2n ** 63n - 1n;
// RFC 8410: what stands before the 32 bytes of a public key in DER.
const PUBLIC_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const signatureLine = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u;
const control = /[\u0000-\u0009\u000b-\u001f\u007f]/u;

export interface NoteSigner {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  sign(text: Uint8Array): Uint8Array;
}

/** The text, signed under a key's name. `text` ends with a line feed. */
export function signNote(text: string, name: string, signer: NoteSigner): string {
  const signature = Buffer.concat([keyHash(name, signer.publicKey), signer.sign(Buffer.from(text))]);
  return `${text}\n— ${name} ${signature.toString('base64')}\n`;
}

/** The text of a note that one of the keys signed under this name. Undefined: it is no note, or nobody known signed it. */
export function openNote(note: string, name: string, publicKeys: readonly Uint8Array[]): string | undefined {
  if (note.length > MAX_NOTE_CHARACTERS || !note.isWellFormed() || control.test(note) || !note.endsWith('\n')) {
    return undefined;
  }
  const end = note.lastIndexOf('\n\n');
  if (end < 1) return undefined;
  const text = note.slice(0, end + 1);
  let known = false;
  for (const line of note.slice(end + 2, -1).split('\n')) {
    const [, signer, encoded = ''] = signatureLine.exec(line) ?? [];
    const bytes = Buffer.from(encoded, 'base64');
    if (signer === undefined || bytes.toString('base64') !== encoded || bytes.length <= KEY_HASH_BYTES)
      return undefined;
    if (signer !== name) continue;
    for (const publicKey of publicKeys) {
      if (!keyHash(name, publicKey).equals(bytes.subarray(0, KEY_HASH_BYTES))) continue;
      if (!isSignature(text, publicKey, bytes.subarray(KEY_HASH_BYTES))) return undefined;
      known = true;
    }
  }
  return known ? text : undefined;
}

/** The verifier's key, as other implementations of signed notes take it. */
export function verifierKey(name: string, publicKey: Uint8Array): string {
  const typed = Buffer.concat([Buffer.of(ED25519), publicKey]).toString('base64');
  return `${name}+${keyHash(name, publicKey).toString('hex')}+${typed}`;
}

export interface CheckpointFacts {
  readonly size: number;
  /** 32 bytes. */
  readonly hash: Buffer;
  readonly floor: string;
  readonly signedAt: Date;
}

export function checkpointText(origin: string, { size, hash, floor, signedAt }: CheckpointFacts): string {
  return `${origin}\n${String(size)}\n${hash.toString('base64')}\nfloor ${floor}\ntime ${signedAt.toISOString()}\n`;
}

const checkpointShape =
  /^(?<origin>[^\n]+)\n(?<size>[1-9]\d{0,15})\n(?<hash>[A-Za-z0-9+/]{43}=)\nfloor (?<floor>0|[1-9]\d{0,18})\ntime (?<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\n$/;

/** Undefined: it is not the text of a checkpoint of this origin. */
export function parseCheckpoint(text: string, origin: string): CheckpointFacts | undefined {
  const { size = '', hash = '', floor = '', time = '', ...found } = checkpointShape.exec(text)?.groups ?? {};
  const bytes = Buffer.from(hash, 'base64');
  const signedAt = new Date(time);
  if (found['origin'] !== origin || bytes.toString('base64') !== hash || Number.isNaN(signedAt.getTime())) {
    return undefined;
  }
  if (!Number.isSafeInteger(Number(size)) || BigInt(floor) > HIGHEST_ID || signedAt.toISOString() !== time)
    return undefined;
  return { size: Number(size), hash: bytes, floor, signedAt };
}

/** The name of an installation's log, and of the keys that sign its checkpoints. */
export function auditOrigin(installationId: string): string {
  return `meshhook-keyring/audit/${installationId}`;
}

function keyHash(name: string, publicKey: Uint8Array): Buffer {
  return createHash('sha256')
    .update(name)
    .update(Buffer.of(0x0a, ED25519))
    .update(publicKey)
    .digest()
    .subarray(0, KEY_HASH_BYTES);
}

function isSignature(text: string, publicKey: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES) return false;
  const key = createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, publicKey]), format: 'der', type: 'spki' });
  return verify(null, Buffer.from(text), key, signature);
}
