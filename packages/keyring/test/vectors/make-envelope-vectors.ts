/**
 * Made envelope.json, once; kept to show where it came from. The vectors are frozen: a release that fails one has
 * changed the format, and needs a new format version, not new vectors. A test compares this script's output with them.
 *
 *     node packages/keyring/test/vectors/make-envelope-vectors.ts > packages/keyring/test/vectors/envelope.json
 *
 * Uses the second implementation, never the library. Each failing vector has one thing wrong.
 */
import { createHash } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import {
  hex,
  join,
  secondAad,
  secondDerive,
  secondSeal,
  uint32,
  unhex,
  type Field,
} from '../support/second-decryptor.ts';

/** Where the opener believes the ciphertext to belong. */
export type Place =
  | { purpose: 'secret'; projectId: string; label: string; rowId: string; keyId: string }
  | { purpose: 'data-key'; projectId: string; version: number; keyId: string; wrappingKeyId: string }
  | { purpose: 'wrapping-key'; version: number; wrappingKeyId: string };

export interface Vector {
  name: string;
  /** What parsing gives. */
  parse: 'ok' | 'malformed_envelope' | 'unsupported_envelope';
  /** What opening gives. */
  open: 'ok' | 'decryption_failed';
  /** 32 bytes, hex. */
  key: string;
  /** The key id the opener expects. */
  keyId: string;
  place: Place;
  /** Hex; `<n>` stands for n zero bytes. */
  envelope: string;
  /** Of the plaintext, where it opens: its length in bytes and SHA-256. */
  plaintext?: { length: number; sha256: string };
  /** The associated data, hex, where it opens. */
  aad?: string;
}

export interface VectorFile {
  format: string;
  vectors: Vector[];
  fingerprints: { key: string; keyId: string; keyFingerprint: string; rootFingerprint: string }[];
}

const key = hex(Uint8Array.from({ length: 32 }, (_, i) => i));
const otherKey = hex(Uint8Array.from({ length: 32 }, (_, i) => 255 - i));
const nonce = unhex('a0a1a2a3a4a5a6a7a8a9aaab');
const projectId = '11111111-1111-4111-8111-111111111111';
const keyId = '22222222-2222-4222-8222-222222222222';
const otherId = '33333333-3333-4333-8333-333333333333';
const wrappingKeyId = '44444444-4444-4444-8444-444444444444';
const rootKeyId = hex(await secondDerive(unhex(key), utf8('meshhook-keyring/v1 root-fingerprint'), 16)).replace(
  /^(.{8})(.{4})(.{4})(.{4})/,
  '$1-$2-$3-$4-',
);
const plaintext = utf8('sk_test_not_a_real_secret');

const secret = { purpose: 'secret', projectId, label: 'public.secrets.value', rowId: 'row-1', keyId } as const;
const dataKey = { purpose: 'data-key', projectId, version: 1, keyId, wrappingKeyId } as const;
const wrappingKey = { purpose: 'wrapping-key', version: 1, wrappingKeyId } as const;

export async function makeVectors(): Promise<VectorFile> {
  const vectors = [...(await valid()), ...(await misshapen()), ...(await tampered()), ...(await misplaced())];
  return {
    format: 'meshhook-keyring envelope, format version 1; docs/spec/envelope.md',
    vectors,
    fingerprints: await fingerprints(),
  };
}

async function valid(): Promise<Vector[]> {
  const wrapped = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);
  return [
    await opens('a secret', secret, plaintext),
    await opens('an empty secret', secret, new Uint8Array(0)),
    await opens('a secret of one byte', secret, Uint8Array.of(0)),
    await opens('a secret of the largest size', secret, await plaintextOfZeros(65_536, secret)),
    await opens('a label and a row id beyond ASCII', { ...secret, label: 'schlüssel', rowId: '行🔑' }, plaintext),
    await opens(
      'the longest label and row id',
      { ...secret, label: 'l'.repeat(200), rowId: 'r'.repeat(200) },
      plaintext,
    ),
    await opens('a wrapped data key', dataKey, wrapped),
    await opens('a wrapped data key of the highest version', { ...dataKey, version: 0xffff_ffff }, wrapped),
    await opens('a wrapped wrapping key', wrappingKey, wrapped),
  ];
}

/** The bytes are no envelope of this version. */
async function misshapen(): Promise<Vector[]> {
  const good = await sealed(secret, plaintext);
  const cut = (name: string, length: number) => fails(name, good.slice(0, length), { parse: 'malformed_envelope' });
  const first = (name: string, byte: number) => fails(name, replaced(good, 0, byte), { parse: 'unsupported_envelope' });
  const second = (name: string, byte: number) =>
    fails(name, replaced(good, 1, byte), { parse: 'unsupported_envelope' });
  return [
    cut('no bytes at all', 0),
    cut('cut after the format version', 1),
    cut('cut after the algorithm', 2),
    cut('cut inside the key id', 17),
    cut('cut after the key id', 18),
    cut('cut inside the nonce', 29),
    cut('cut after the nonce', 30),
    cut('one byte shorter than any envelope', 45),
    fails('cut to the shortest envelope', good.slice(0, 46)),
    fails('cut before the tag', good.slice(0, -16)),
    fails('cut inside the tag: 12 bytes of it left', good.slice(0, -4)),
    fails('cut by the last byte', good.slice(0, -1)),
    fails('the first byte missing', good.slice(1), { parse: 'unsupported_envelope' }),
    fails('one zero byte too many', join(good, Uint8Array.of(0))),
    fails('the tag twice', join(good, good.slice(-16))),
    fails('the envelope twice', join(good, good)),
    fails('an envelope around an envelope', join(good.slice(0, 30), good)),
    first('format version 0', 0),
    first('format version 2', 2),
    first('format version 129', 0x81),
    first('format version 255', 255),
    fails('format version 2 and nothing else', Uint8Array.of(2), { parse: 'unsupported_envelope' }),
    second('algorithm 0', 0),
    second('algorithm 2', 2),
    second('algorithm 255', 255),
    fails('algorithm 2 and nothing else', Uint8Array.of(1, 2), { parse: 'unsupported_envelope' }),
    fails('one byte larger than the largest size', await sealed(secret, await plaintextOfZeros(65_537, secret)), {
      parse: 'malformed_envelope',
    }),
    fails('hex instead of bytes', utf8(hex(good)), { parse: 'unsupported_envelope' }),
    fails('all zeros', new Uint8Array(64), { parse: 'unsupported_envelope' }),
  ];
}

/** An envelope in shape, with one bit or part that is not as it was sealed. */
async function tampered(): Promise<Vector[]> {
  const good = await sealed(secret, plaintext);
  const flip = (name: string, at: number, bit = 1) => fails(name, replaced(good, at, (good[at] ?? 0) ^ bit));
  const header = good.slice(0, 30);
  const ciphertext = good.slice(30, -16);
  const tag = good.slice(-16);
  const another = await sealed(secret, utf8('sk_test_some_other_secret'), { nonce: nonce.map((b) => b ^ 0xff) });
  return [
    flip('first bit of the key id flipped', 2, 0x80),
    flip('last bit of the key id flipped', 17),
    flip('first bit of the nonce flipped', 18, 0x80),
    flip('last bit of the nonce flipped', 29),
    flip('first bit of the ciphertext flipped', 30, 0x80),
    flip('last bit of the ciphertext flipped', good.length - 17),
    flip('first bit of the tag flipped', good.length - 16, 0x80),
    flip('last bit of the tag flipped', good.length - 1),
    fails('the tag all zeros', join(header, ciphertext, new Uint8Array(16))),
    fails('the tag before the ciphertext', join(header, tag, ciphertext)),
    fails('the ciphertext reversed', join(header, ciphertext.slice().reverse(), tag)),
    fails('the ciphertext removed, its tag kept', join(header, tag)),
    fails('the nonce of another envelope', join(good.slice(0, 18), another.slice(18, 30), ciphertext, tag)),
    fails('the ciphertext of another envelope', join(header, another.slice(30, -16), tag)),
    fails('the tag of another envelope', join(header, ciphertext, another.slice(-16))),
    fails('another key', good, { key: otherKey }),
    fails('the key with one bit flipped', good, { key: `01${key.slice(2)}` }),
    fails('the key id of another key, sealed under it', await sealed(secret, plaintext, { header: otherId })),
    fails('the opener expects another key id', good, { keyId: otherId }),
  ];
}

/** A faultless envelope that was sealed for somewhere else. */
async function misplaced(): Promise<Vector[]> {
  const wrapped = new Uint8Array(32);
  // The key id that the opener expects stays that of the envelope's header: only the associated data differs.
  const moved = async (name: string, from: Place, to: Place) =>
    fails(name, await sealed(from, wrapped), { place: to, keyId: headerId(from) });
  const bound = async (name: string, aad: Uint8Array, place: Place = secret) =>
    fails(name, await sealed(place, wrapped, { aad }), { place, keyId: headerId(place) });
  const [project, id] = [unhex(projectId), unhex(keyId)];
  return [
    await moved('moved to another project', secret, { ...secret, projectId: otherId }),
    await moved('moved to another column', secret, { ...secret, label: 'public.secrets.note' }),
    await moved('moved to another row', secret, { ...secret, rowId: 'row-2' }),
    await moved('moved to another key', secret, { ...secret, keyId: otherId }),
    await moved('project and key id swapped', secret, { ...secret, projectId: keyId, keyId: projectId }),
    await moved('label and row id swapped', secret, { ...secret, label: secret.rowId, rowId: secret.label }),
    await moved(
      'label "ab", row "c" read as "a", "bc"',
      { ...secret, label: 'ab', rowId: 'c' },
      { ...secret, label: 'a', rowId: 'bc' },
    ),
    await moved(
      'label "a", row "bc" read as "ab", "c"',
      { ...secret, label: 'a', rowId: 'bc' },
      { ...secret, label: 'ab', rowId: 'c' },
    ),
    await moved('a row id that spells the next length prefix', { ...secret, rowId: 'row-1\0\0\0\x10' }, secret),
    await moved('the row id in upper case', secret, { ...secret, rowId: 'ROW-1' }),
    await moved('the row id with a space after it', secret, { ...secret, rowId: 'row-1 ' }),
    await moved(
      'the row id in another Unicode normal form',
      { ...secret, rowId: '\u00e9' },
      { ...secret, rowId: 'e\u0301' },
    ),
    await bound('no associated data', new Uint8Array(0)),
    await bound('no context string', secondAadWithoutContext(['secret', project, secret.label, secret.rowId, id])),
    await bound('no purpose', secondAad(project, secret.label, secret.rowId, id)),
    await bound('another purpose', secondAad('data-key', project, secret.label, secret.rowId, id)),
    await bound('the purpose in upper case', secondAad('SECRET', project, secret.label, secret.rowId, id)),
    await bound('no project', secondAad('secret', secret.label, secret.rowId, id)),
    await bound('no label', secondAad('secret', project, secret.rowId, id)),
    await bound('no row id', secondAad('secret', project, secret.label, id)),
    await bound('no key id', secondAad('secret', project, secret.label, secret.rowId)),
    await bound('an empty field more', secondAad('secret', project, secret.label, secret.rowId, id, '')),
    await bound('row id before label', secondAad('secret', project, secret.rowId, secret.label, id)),
    await bound('the project as text', secondAad('secret', projectId, secret.label, secret.rowId, id)),
    await bound('the key id as text', secondAad('secret', project, secret.label, secret.rowId, keyId)),
    await bound(
      'no length prefixes',
      join(utf8('meshhook-keyring/v1secret'), project, utf8(`${secret.label}${secret.rowId}`), id),
    ),
    await bound(
      'lengths in little-endian',
      prefixed((n) => uint32(n).reverse(), secret.label, secret.rowId),
    ),
    await bound(
      'lengths of two bytes',
      prefixed((n) => uint32(n).slice(2), secret.label, secret.rowId),
    ),
    await bound('the context of a later version', replaced(placeAad(secret), 4 + 18, 0x32)),
    await moved('a data key moved to another project', dataKey, { ...dataKey, projectId: otherId }),
    await moved('a data key read as another version', dataKey, { ...dataKey, version: 2 }),
    await moved('a data key whose version has its bytes reversed', dataKey, { ...dataKey, version: 0x0100_0000 }),
    await moved('a data key read as another key', dataKey, { ...dataKey, keyId: otherId }),
    await moved('a data key under another wrapping key', dataKey, { ...dataKey, wrappingKeyId: otherId }),
    await moved('key id and wrapping key id swapped', dataKey, {
      ...dataKey,
      keyId: wrappingKeyId,
      wrappingKeyId: keyId,
    }),
    await bound(
      'a data key whose version is text',
      secondAad('data-key', project, '1', id, unhex(wrappingKeyId)),
      dataKey,
    ),
    await moved('a wrapping key read as another version', wrappingKey, { ...wrappingKey, version: 2 }),
    await moved('a wrapping key read as another one', wrappingKey, { ...wrappingKey, wrappingKeyId: otherId }),
    await moved('a data key read as a wrapping key', dataKey, wrappingKey),
    await moved('a wrapping key read as a data key', wrappingKey, dataKey),
    await moved("a wrapped data key put in a secret's place", dataKey, secret),
  ];

  function prefixed(length: (n: number) => Uint8Array, label: string, rowId: string): Uint8Array {
    const parts = [utf8('meshhook-keyring/v1'), utf8('secret'), project, utf8(label), utf8(rowId), id];
    return join(...parts.flatMap((part) => [length(part.length), part]));
  }
}

async function fingerprints(): Promise<VectorFile['fingerprints']> {
  const cases: [string, string][] = [
    [key, keyId],
    [key, otherId],
    [otherKey, keyId],
    ['00'.repeat(32), '00000000-0000-0000-0000-000000000000'],
  ];
  return Promise.all(
    cases.map(async ([key, keyId]) => {
      const info = join(utf8('meshhook-keyring/v1 key-check'), unhex(keyId));
      const rootInfo = utf8('meshhook-keyring/v1 root-fingerprint');
      return {
        key,
        keyId,
        keyFingerprint: hex(await secondDerive(unhex(key), info, 32)),
        rootFingerprint: hex(await secondDerive(unhex(key), rootInfo, 16)),
      };
    }),
  );
}

async function opens(name: string, place: Place, plaintext: Uint8Array): Promise<Vector> {
  const envelope = await sealed(place, plaintext);
  const sha256 = createHash('sha256').update(plaintext).digest('hex');
  return {
    name,
    parse: 'ok',
    open: 'ok',
    key,
    keyId: headerId(place),
    place,
    envelope: written(envelope),
    plaintext: { length: plaintext.length, sha256 },
    aad: hex(placeAad(place)),
  };
}

function fails(
  name: string,
  envelope: Uint8Array,
  { parse = 'ok', key: openingKey = key, place = secret, keyId = headerId(secret) }: Partial<Vector> = {},
): Vector {
  return { name, parse, open: 'decryption_failed', key: openingKey, keyId, place, envelope: written(envelope) };
}

async function sealed(
  place: Place,
  plaintext: Uint8Array,
  other: { nonce?: Uint8Array; header?: string; aad?: Uint8Array } = {},
): Promise<Uint8Array> {
  const id = unhex(other.header ?? headerId(place));
  return secondSeal(unhex(key), id, other.nonce ?? nonce, plaintext, other.aad ?? placeAad(place));
}

/** The plaintext whose ciphertext is all zeros, so that an envelope of the largest size fits on a line. */
async function plaintextOfZeros(length: number, place: Place): Promise<Uint8Array> {
  return (await sealed(place, new Uint8Array(length))).slice(30, -16);
}

/** The key id in the envelope's header: that of the key which sealed. */
function headerId(place: Place): string {
  switch (place.purpose) {
    case 'secret':
      return place.keyId;
    case 'data-key':
      return place.wrappingKeyId;
    case 'wrapping-key':
      return rootKeyId;
  }
}

function placeAad(place: Place): Uint8Array {
  switch (place.purpose) {
    case 'secret':
      return secondAad('secret', unhex(place.projectId), place.label, place.rowId, unhex(place.keyId));
    case 'data-key':
      return secondAad(
        'data-key',
        unhex(place.projectId),
        uint32(place.version),
        unhex(place.keyId),
        unhex(place.wrappingKeyId),
      );
    case 'wrapping-key':
      return secondAad('wrapping-key', uint32(place.version), unhex(place.wrappingKeyId));
  }
}

function secondAadWithoutContext(fields: Field[]): Uint8Array {
  return secondAad(...fields).slice(4 + 'meshhook-keyring/v1'.length);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function written(envelope: Uint8Array): string {
  return hex(envelope).replace(/(?:00){100,}/g, (zeros) => `<${zeros.length / 2}>`);
}

function replaced(bytes: Uint8Array, at: number, byte: number): Uint8Array {
  return bytes.with(at, byte);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(`${JSON.stringify(await makeVectors(), null, 2)}\n`);
}
