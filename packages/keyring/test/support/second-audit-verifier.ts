/**
 * The chain over the trail, written a second time from docs/spec/audit.md alone, on WebCrypto: shares no line with the source. Takes
 * what PostgreSQL holds, and says whether that is as it was written.
 */
import { webcrypto } from 'node:crypto';

export interface SecondEntry {
  readonly id: string;
  readonly at_us: string;
  readonly actor: string;
  readonly principal_kind: string | null;
  readonly source_address: string | null;
  readonly action: string;
  readonly outcome: string;
  readonly project_id: string | null;
  readonly subject: string;
  readonly reason: string | null;
  readonly details: string;
}

export interface SecondTrail {
  readonly installation: string;
  readonly entries: readonly SecondEntry[];
  readonly seals: readonly { readonly place: number; readonly entryId: string; readonly hash: Uint8Array }[];
  /** As the table has them, with what stands beside them there, and those that were kept elsewhere. */
  readonly notes: readonly { readonly note: string; readonly size?: number; readonly floor?: string }[];
  readonly publicKeys: readonly Uint8Array[];
}

const utf8 = new TextEncoder();

function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', bytes));
}

function int64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, value);
  return bytes;
}

function field(text: string | null): Uint8Array {
  const length = new Uint8Array(4);
  if (text === null) return length.fill(0xff);
  const bytes = utf8.encode(text);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return concat(length, bytes);
}

const context = utf8.encode('meshhook-keyring/audit/v1');

export function secondStart(installation: string): Promise<Uint8Array> {
  const hex = installation.split('-').join('');
  const id = Uint8Array.from({ length: 16 }, (_, index) => Number.parseInt(hex.slice(2 * index, 2 * index + 2), 16));
  return sha256(concat(Uint8Array.of(2), context, id));
}

export function secondLeaf(entry: SecondEntry): Promise<Uint8Array> {
  return sha256(
    concat(
      Uint8Array.of(0),
      context,
      int64(BigInt(entry.id)),
      int64(BigInt(entry.at_us)),
      ...[
        entry.actor,
        entry.principal_kind,
        entry.source_address,
        entry.action,
        entry.outcome,
        entry.project_id,
        entry.subject,
        entry.reason,
        entry.details,
      ].map(field),
    ),
  );
}

export function secondNext(head: Uint8Array, place: number, leaf: Uint8Array): Promise<Uint8Array> {
  return sha256(concat(Uint8Array.of(1), head, int64(BigInt(place)), leaf));
}

/** What stands before a signature, and says of which key it is. */
export async function secondKeyHash(name: string, publicKey: Uint8Array): Promise<Uint8Array> {
  return (await sha256(concat(utf8.encode(name), Uint8Array.of(10, 1), publicKey))).slice(0, 4);
}

function decimal(text: string | undefined, from: bigint, to: bigint): bigint | undefined {
  if (text === undefined || !/^-?[0-9]+$/.test(text)) return undefined;
  const value = BigInt(text);
  return String(value) === text && value >= from && value <= to ? value : undefined;
}

function unbase64(text: string | undefined): Uint8Array | undefined {
  try {
    const bytes = Uint8Array.from(atob(text ?? ''), (char) => char.charCodeAt(0));
    return btoa(String.fromCharCode(...bytes)) === text ? bytes : undefined;
  } catch {
    return undefined;
  }
}

const HIGHEST = 2n ** 63n - 1n;
const LOWEST = -(2n ** 63n);
const MOST_PLACES = BigInt(Number.MAX_SAFE_INTEGER);

/** The size, hash and floor that a note attests. Undefined: no key of ours signed it. */
export async function secondOpenNote(
  note: string,
  installation: string,
  publicKeys: readonly Uint8Array[],
): Promise<{ size: number; hash: string; floor: bigint } | undefined> {
  const origin = `meshhook-keyring/audit/${installation}`;
  const isPlain = [...note].every((char) => char === '\n' || (char >= ' ' && char !== '\u007f'));
  if (note.length > 2_000 || !isPlain) return undefined;
  const [text, signatures, ...rest] = note.split('\n\n');
  if (text === undefined || signatures === undefined || rest.length > 0 || !signatures.endsWith('\n')) return undefined;
  if (!(await isSigned(utf8.encode(`${text}\n`), signatures.slice(0, -1), origin, publicKeys))) return undefined;
  const [first, sizeText, hash, floorText = '', time = '', ...others] = text.split('\n');
  const size = decimal(sizeText, 1n, MOST_PLACES);
  const floor = floorText.startsWith('floor ') ? decimal(floorText.slice(6), 0n, HIGHEST) : undefined;
  const at = /^time (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)$/.exec(time)?.[1] ?? 'none';
  const isTime = !Number.isNaN(Date.parse(at)) && new Date(at).toISOString() === at;
  if (first !== origin || others.length > 0 || size === undefined || floor === undefined || !isTime) return undefined;
  if (hash === undefined || unbase64(hash)?.length !== 32) return undefined;
  return { size: Number(size), hash, floor };
}

/** By one key of ours, and by none of ours wrongly. Who else signed is not our business. */
async function isSigned(
  text: Uint8Array<ArrayBuffer>,
  lines: string,
  origin: string,
  publicKeys: readonly Uint8Array[],
): Promise<boolean> {
  let signed = false;
  for (const line of lines.split('\n')) {
    const [dash, name = '', base64, ...more] = line.split(' ');
    const bytes = unbase64(base64);
    if (dash !== '—' || name === '' || bytes === undefined || bytes.length < 5 || more.length > 0) return false;
    if (name !== origin) continue;
    for (const raw of publicKeys) {
      const id = await secondKeyHash(origin, raw);
      if (!id.every((byte, index) => byte === bytes[index])) continue;
      const key = await webcrypto.subtle.importKey('raw', Uint8Array.from(raw), 'Ed25519', false, ['verify']);
      if (!(await webcrypto.subtle.verify('Ed25519', key, Uint8Array.from(bytes.slice(4)), text))) return false;
      signed = true;
    }
  }
  return signed;
}

/** What is wrong with an archive: the place of the first line that is not as it was written. */
export async function secondVerifyArchive(
  lines: readonly string[],
  publicKeys: readonly Uint8Array[],
): Promise<'intact' | 'no archive' | { place: number }> {
  const values = lines.map(object);
  if (values.length === 0 || values.includes(undefined)) return 'no archive';
  const [header, ...rest] = values as Record<string, unknown>[];
  const { type, installation, from, through, start } = header ?? {};
  if (type !== 'meshhook-keyring/audit-archive/v1' || typeof installation !== 'string' || typeof start !== 'string')
    return 'no archive';
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(installation)) return 'no archive';
  let head = unbase64(start);
  if (typeof from !== 'number' || typeof through !== 'number' || from < 1 || through < from || head?.length !== 32)
    return 'no archive';
  if (from === 1 && start !== base64Of(await secondStart(installation))) return { place: 1 };
  for (let place = from; place <= through; place++) {
    const line = rest[place - from];
    if (line?.['place'] !== place || !isEntry(line)) return { place };
    head = await secondNext(head, place, await secondLeaf(line));
    if (base64Of(head) !== line['hash']) return { place };
  }
  const [end, ...more] = rest.slice(through - from + 1);
  if (end === undefined) return { place: through + 1 };
  const note = typeof end['checkpoint'] === 'string' ? end['checkpoint'] : '';
  const checkpoint = await secondOpenNote(note, installation, publicKeys);
  const isOfIt = checkpoint?.size === through && checkpoint.hash === base64Of(head);
  return more.length > 0 || !isOfIt ? { place: through } : 'intact';
}

function object(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isEntry(line: Record<string, unknown>): line is Record<string, unknown> & SecondEntry {
  const isText = (name: string): boolean => typeof line[name] === 'string' && line[name].isWellFormed();
  const isNumber = (name: string): boolean =>
    isText(name) && decimal(line[name] as string, LOWEST, HIGHEST) !== undefined;
  return (
    ['id', 'at_us'].every(isNumber) &&
    ['actor', 'action', 'outcome', 'subject', 'details'].every(isText) &&
    ['principal_kind', 'source_address', 'project_id', 'reason'].every((name) => line[name] === null || isText(name))
  );
}

function base64Of(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** True when everything is as it was written, as far as that can be told. */
export async function secondVerify(trail: SecondTrail): Promise<boolean> {
  const { installation, seals, notes, publicKeys } = trail;
  const byId = new Map(trail.entries.map((entry) => [entry.id, entry]));
  const heads = [await secondStart(installation)];
  for (const [index, seal] of seals.toSorted((a, b) => a.place - b.place).entries()) {
    const entry = byId.get(seal.entryId);
    if (seal.place !== index + 1 || entry === undefined) return false;
    const head = await secondNext(heads[index] ?? new Uint8Array(), seal.place, await secondLeaf(entry));
    if (!head.every((byte, at) => byte === seal.hash[at])) return false;
    heads.push(head);
  }
  const opened = [];
  let lastStored = 0;
  for (const { note, size, floor } of notes) {
    const checkpoint = await secondOpenNote(note, installation, publicKeys);
    if ((size ?? checkpoint?.size) !== checkpoint?.size) return false;
    if (floor !== undefined && BigInt(floor) !== checkpoint?.floor) return false;
    const head = checkpoint === undefined ? undefined : heads[checkpoint.size];
    if (checkpoint === undefined || head === undefined) return false;
    if (btoa(String.fromCharCode(...head)) !== checkpoint.hash) return false;
    opened.push(checkpoint);
    lastStored = size === undefined ? lastStored : Math.max(lastStored, size);
  }
  if (lastStored !== seals.length) return false;
  // A place behind a checkpoint is no entry's from below its floor; and below the highest floor every entry has a place.
  const sealed = new Map(seals.map((seal) => [seal.entryId, seal.place]));
  for (const { id } of trail.entries) {
    const place = sealed.get(id);
    if (opened.some(({ size, floor }) => BigInt(id) <= floor && (place === undefined || place > size))) return false;
  }
  return true;
}
