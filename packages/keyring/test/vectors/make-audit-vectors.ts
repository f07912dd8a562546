/**
 * Made audit.json, once; kept to show where it came from. The vectors are frozen: a release that fails one cannot verify the trails
 * and archives that are out there. A test compares this script's output with them.
 *
 *     node packages/keyring/test/vectors/make-audit-vectors.ts > packages/keyring/test/vectors/audit.json
 *
 * Uses the second implementation, never the library. Each failing vector has one thing wrong.
 */
import { webcrypto } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import {
  secondKeyHash,
  secondLeaf,
  secondNext,
  secondStart,
  type SecondEntry,
} from '../support/second-audit-verifier.ts';

export interface LeafVector {
  name: string;
  entry: SecondEntry;
  leaf: string;
  /** The head of a chain that has this entry at the place, behind `before`. Hex. */
  before: string;
  place: number;
  head: string;
}

export interface NoteVector {
  name: string;
  note: string;
  /** Undefined: no checkpoint of this installation that a known key signed. */
  opens?: { size: number; hash: string; floor: string; signedAt: string };
}

export interface ArchiveVector {
  name: string;
  /** JSON Lines. */
  lines: string[];
  /** `place` of what is wrong. */
  verdict: 'intact' | 'no archive' | { place: number };
}

export interface AuditVectorFile {
  format: string;
  installation: string;
  /** Hex; what a verifier has kept. The last one signs. */
  publicKeys: string[];
  start: string;
  leaves: LeafVector[];
  notes: NoteVector[];
  archives: ArchiveVector[];
}

const installation = '55555555-5555-4555-8555-555555555555';
const origin = `meshhook-keyring/audit/${installation}`;
const elsewhere = 'meshhook-keyring/audit/66666666-6666-4666-8666-666666666666';
const projectId = '11111111-1111-4111-8111-111111111111';

const plain: SecondEntry = {
  id: '1',
  at_us: '1795808228000001',
  actor: 'ada',
  principal_kind: 'user',
  source_address: '192.0.2.7',
  action: 'secret.written',
  outcome: 'succeeded',
  project_id: projectId,
  subject: 'secret:77777777-7777-4777-8777-777777777777',
  reason: 'a reason',
  details: '{"key": "API_KEY"}',
};
const bare: SecondEntry = {
  ...plain,
  ...{ id: '2', principal_kind: null, source_address: null, project_id: null, reason: null, details: '{}' },
};
const third: SecondEntry = { ...plain, id: '4', subject: 'key:ü行🔑', reason: '', details: '{"a": "\\u0001\\"\\\\"}' };

export async function makeAuditVectors(): Promise<AuditVectorFile> {
  const signer = await signerOf(0);
  const older = await signerOf(64);
  return {
    format: 'meshhook-keyring audit, version 1; docs/spec/audit.md',
    installation,
    publicKeys: [hex(older.publicKey), hex(signer.publicKey)],
    start: hex(await secondStart(installation)),
    leaves: await leaves(),
    notes: await notes(signer, older),
    archives: await archives(signer),
  };
}

/** Entries that a sloppy encoding takes for one another follow one another. */
async function leaves(): Promise<LeafVector[]> {
  const before = await secondStart(installation);
  const of = async (name: string, entry: SecondEntry, place = 1): Promise<LeafVector> => {
    const leaf = await secondLeaf(entry);
    const head = await secondNext(before, place, leaf);
    return { name, entry, leaf: hex(leaf), before: hex(before), place, head: hex(head) };
  };
  return [
    await of('an entry with all its fields', plain),
    await of('the same at place 2', { ...plain, id: '10' }, 2),
    await of('at the highest place', { ...plain, id: '11' }, Number.MAX_SAFE_INTEGER),
    await of('an entry without what may be absent', bare),
    await of('empty where it may be absent', { ...bare, principal_kind: '', source_address: '', reason: '' }),
    await of('the actor ends where the kind begins', { ...plain, actor: 'adau', principal_kind: 'ser' }),
    await of('a reason in place of an address', { ...bare, reason: '192.0.2.7' }),
    await of('an address in place of a reason', { ...bare, source_address: '192.0.2.7' }),
    await of('beyond ASCII', third),
    await of('a letter and its accent as two characters', { ...plain, reason: 'u\u0308' }),
    await of('the same as one', { ...plain, reason: 'ü' }),
    await of('details printed with other spaces', { ...plain, details: '{"key":"API_KEY"}' }),
    await of('the highest id and time', { ...plain, id: '9223372036854775807', at_us: '9223372036854775807' }),
    await of('the lowest id, a time before 1970', { ...plain, id: '-9223372036854775808', at_us: '-1' }),
    await of('a refusal', { ...plain, outcome: 'refused' }),
    await of('details of 70,000 bytes', { ...bare, details: `{"a": "${'é'.repeat(35_000)}"}` }),
  ];
}

async function notes(signer: Signer, older: Signer): Promise<NoteVector[]> {
  const hash = base64(await secondStart(installation));
  const time = '2026-11-27T19:37:08.000Z';
  const text = (given: Partial<Record<'origin' | 'size' | 'hash' | 'floor' | 'time', string>> = {}): string => {
    const all = { origin, size: '3', hash, floor: '2', time, ...given };
    return `${all.origin}\n${all.size}\n${all.hash}\nfloor ${all.floor}\ntime ${all.time}\n`;
  };
  const good = await signer.note(text());
  const line = signatureOf(good);
  const signature = bytesOf64(line.split(' ')[2] ?? '');
  const opens = async (name: string, size: number, floor: string, by = signer): Promise<NoteVector> => ({
    ...{ name, note: await by.note(text({ size: String(size), floor })) },
    opens: { size, hash, floor, signedAt: time },
  });
  /** Signed as it is: only the text is wrong. */
  const signed = async (name: string, wrong: string): Promise<NoteVector> => ({ name, note: await signer.note(wrong) });
  const withSignature = (name: string, bytes: Uint8Array): NoteVector => ({
    ...{ name, note: `${text()}\n— ${origin} ${base64(bytes)}\n` },
  });
  const flipped = (at: number): Uint8Array => signature.map((byte, index) => (index === at ? byte ^ 1 : byte));
  const witness = `— witness.example/w ${base64(new Uint8Array(68).fill(7))}`;
  const stranger = await signerOf(128);
  const facts = { size: 3, hash, floor: '2', signedAt: time };
  return [
    await opens('a checkpoint', 3, '2'),
    await opens('of one entry, without a floor', 1, '0'),
    await opens('of the most entries, with the highest floor', Number.MAX_SAFE_INTEGER, '9223372036854775807'),
    await opens('signed by a key of before', 3, '2', older),
    { name: 'signed by a witness as well', note: `${good}${witness}\n`, opens: facts },
    { name: 'a witness signed first', note: `${text()}\n${witness}\n${line}\n`, opens: facts },
    { name: 'signed by both keys', note: `${good}${signatureOf(await older.note(text()))}\n`, opens: facts },
    { name: 'no text at all', note: '' },
    { name: 'the text without a signature', note: text() },
    { name: 'the text and an empty line', note: `${text()}\n` },
    { name: 'a signature without a text', note: `\n${line}\n` },
    { name: 'no empty line before the signature', note: `${text()}${line}\n` },
    { name: 'two empty lines before the signature', note: `${text()}\n\n${line}\n` },
    { name: 'the last line feed missing', note: good.slice(0, -1) },
    { name: 'one line feed too many', note: `${good}\n` },
    { name: 'something behind the signature', note: `${good}and more\n` },
    { name: 'something before the text', note: ` ${good}` },
    { name: 'line ends of Windows', note: good.replaceAll('\n', '\r\n') },
    { name: 'a byte order mark', note: `\ufeff${good}` },
    { name: 'a hyphen for the dash', note: good.replace('—', '-') },
    { name: 'two spaces behind the dash', note: good.replace('— ', '—  ') },
    { name: 'signed by nobody that is known', note: await stranger.note(text()) },
    { name: 'signed by a witness alone', note: `${text()}\n${witness}\n` },
    {
      name: 'signed by a stranger under the hash of our key',
      note: `${text()}\n— ${origin} ${base64(join(signature.slice(0, 4), bytesOf64(signatureOf(await stranger.note(text())).split(' ')[2] ?? '').slice(4)))}\n`,
    },
    { name: 'the key under another name', note: good.replace(`— ${origin}`, `— ${elsewhere}`) },
    { name: 'one of our signatures is wrong, the other is right', note: `${good}— ${origin} ${base64(flipped(9))}\n` },
    withSignature('first bit of the key hash flipped', flipped(0)),
    withSignature('first bit of the signature flipped', flipped(4)),
    withSignature('last byte of the signature flipped', flipped(67)),
    withSignature('the signature cut by a byte', signature.slice(0, -1)),
    withSignature('a byte behind the signature', join(signature, Uint8Array.of(0))),
    withSignature('nothing but the key hash', signature.slice(0, 4)),
    withSignature('a signature of zeros', join(signature.slice(0, 4), new Uint8Array(64))),
    { name: 'the signature without its padding', note: good.replace(/=*\n$/, '\n') },
    {
      name: 'the signature in base64url',
      note: `${text()}\n${line.replaceAll('+', '-').replaceAll(/(?<= .* .*)\//g, '_')}\n`,
    },
    { name: 'another size than was signed', note: good.replace('\n3\n', '\n4\n') },
    { name: 'another hash than was signed', note: good.replace(hash, base64(new Uint8Array(32))) },
    { name: 'another floor than was signed', note: good.replace('floor 2', 'floor 3') },
    { name: 'another time than was signed', note: good.replace('19:37:08', '19:37:09') },
    await signed('of another installation', text({ origin: elsewhere })),
    await signed('the installation in capitals', text({ origin: origin.toUpperCase() })),
    await signed('of no entry', text({ size: '0' })),
    await signed('a size with a leading zero', text({ size: '03' })),
    await signed('a size with a sign', text({ size: '+3' })),
    await signed('a negative size', text({ size: '-3' })),
    await signed('a size in hex', text({ size: '0x3' })),
    await signed('a size that is no whole number', text({ size: '3.0' })),
    await signed('a size that no double holds', text({ size: '9007199254740993' })),
    await signed('a hash of 31 bytes', text({ hash: base64(new Uint8Array(31)) })),
    await signed('a hash of 33 bytes', text({ hash: base64(new Uint8Array(33)) })),
    await signed('a hash in hex', text({ hash: hex(await secondStart(installation)) })),
    await signed('a hash with bits behind its end', text({ hash: `${'A'.repeat(42)}B=` })),
    await signed('a negative floor', text({ floor: '-1' })),
    await signed('a floor with a leading zero', text({ floor: '02' })),
    await signed('a floor of more than 64 bits', text({ floor: '9223372036854775808' })),
    await signed('no floor', text().replace('floor 2\n', '')),
    await signed('no time', text().replace(/time .*\n/, '')),
    await signed('the floor behind the time', text().replace(/(floor 2\n)(time .*\n)/, '$2$1')),
    await signed('a line too many', `${text()}more\n`),
    await signed('a time without milliseconds', text({ time: '2026-11-27T19:37:08Z' })),
    await signed('a time in another zone', text({ time: '2026-11-27T20:37:08.000+01:00' })),
    await signed('a day that is not', text({ time: '2026-02-30T00:00:00.000Z' })),
    await signed('a control character', text().replace('floor ', 'floor\t')),
    { name: 'more than 2,000 characters', note: `${good}${`${witness}\n`.repeat(16)}` },
    {
      name: 'an archive of this installation, which is no checkpoint',
      note: await signer.note(`${origin}\narchived through 3\n${hash}\nsha256 ${'00'.repeat(32)}\n`),
    },
  ];
}

async function archives(signer: Signer): Promise<ArchiveVector[]> {
  const stranger = await signerOf(128);
  const whole = await archived([plain, bare, third], { from: 1, signer });
  const later = await archived([bare, third], { from: 5, signer });
  const [header = '', one = '', two = '', three = '', end = ''] = whole;
  const broken = (name: string, place: number, lines: string[]): ArchiveVector => ({ name, lines, verdict: { place } });
  const none = (name: string, lines: string[]): ArchiveVector => ({ name, lines, verdict: 'no archive' });
  /** A line with one thing in it replaced. */
  const changed = (line: string, from: string, to: string): string => {
    if (!line.includes(from)) throw new Error(`${from} is not there`);
    return line.replace(from, to);
  };
  const first = (name: string, from: string, to: string): ArchiveVector =>
    broken(name, 1, [header, changed(one, from, to), two, three, end]);
  const head = (name: string, from: string, to: string): ArchiveVector =>
    none(name, [changed(header, from, to), one, two, three, end]);
  const replacement = await archived([{ ...third, reason: '\ufffd' }], { from: 1, signer });
  const rewritten = await archived([{ ...plain, actor: 'bob' }, bare, third], { from: 1, signer: stranger });
  return [
    { name: 'from the first place', lines: whole, verdict: 'intact' },
    { name: 'from a later place', lines: later, verdict: 'intact' },
    { name: 'of one entry', lines: await archived([plain], { from: 1, signer }), verdict: 'intact' },
    { name: 'a replacement character that was one', lines: replacement, verdict: 'intact' },
    none('nothing', []),
    none('an empty line', ['']),
    none('no header', whole.slice(1)),
    none('a header that is no JSON', [`${header}}`, ...whole.slice(1)]),
    head('of another version', '/v1"', '/v2"'),
    head('no place before the first', '"from":1', '"from":0'),
    head('places in text', '"from":1', '"from":"1"'),
    head('places that end before they begin', '"through":3', '"through":0'),
    head('no installation', installation, 'nobody'),
    head('a start of 31 bytes', '"start":"', '"start":"AA'),
    broken('it begins as another installation', 1, [changed(header, '55555555', '66666666'), ...whole.slice(1)]),
    broken('only the header', 1, [header]),
    first('another id', '"id":"1"', '"id":"3"'),
    first('the id as a number', '"id":"1"', '"id":1'),
    first('the id with a leading zero', '"id":"1"', '"id":"01"'),
    first('an id of more than 64 bits', '"id":"1"', '"id":"9223372036854775808"'),
    first('a time of more than 64 bits', '"at_us":"1795808228000001"', '"at_us":"9999999999999999999"'),
    first('a microsecond later', '8000001"', '8000002"'),
    first('another actor', '"ada"', '"bob"'),
    first('another kind', '"user"', '"cli"'),
    first('no kind', '"user"', 'null'),
    first('another address', '192.0.2.7', '192.0.2.8'),
    first('another action', 'secret.written', 'secret.deleted'),
    first('another outcome', 'succeeded', 'refused'),
    first('another project', '"11111111', '"21111111'),
    first('another subject', 'secret:7', 'secret:8'),
    first('another reason', 'a reason', 'a season'),
    first('a reason taken away', '"a reason"', 'null'),
    first('other details', 'API_KEY', 'API_KEZ'),
    first('details as an object', '"{\\"key\\": \\"API_KEY\\"}"', '{"key": "API_KEY"}'),
    first('a field taken away', '"outcome":"succeeded",', ''),
    first('another hash', '"hash":"', '"hash":"A'),
    first('another place', '"place":1', '"place":2'),
    broken('an address put where none was', 2, [
      ...[header, one, changed(two, '"source_address":null', '"source_address":""'), three, end],
    ]),
    broken('an accent taken away', 3, [header, one, two, changed(three, 'ü', 'u'), end]),
    broken('half a character for a replacement character', 1, [
      ...[replacement[0] ?? '', changed(replacement[1] ?? '', '\ufffd', '\\ud800'), replacement[2] ?? ''],
    ]),
    broken('the first entry taken out', 1, [header, two, three, end]),
    broken('one in the middle taken out', 2, [header, one, three, end]),
    broken('the last one taken out', 3, [header, one, two, end]),
    broken('two that changed their places', 1, [header, two, one, three, end]),
    broken('one that is there twice', 2, [header, one, one, two, three, end]),
    broken('one too many at its end', 3, [header, one, two, three, three, end]),
    broken('cut before its end', 4, [header, one, two, three]),
    broken('cut in the middle', 3, [header, one, two]),
    none('cut within a line', [header, one, two.slice(0, 40)]),
    broken('something behind its end', 3, [...whole, end]),
    broken('no checkpoint at its end', 3, [header, one, two, three, '{"keys":[]}']),
    broken('a checkpoint of fewer places', 3, [
      ...[header, one, two, three, (await archived([plain, bare], { from: 1, signer })).at(-1) ?? ''],
    ]),
    broken('a checkpoint of another chain', 3, [
      ...[header, one, two, three, (await archived([third, bare, plain], { from: 1, signer })).at(-1) ?? ''],
    ]),
    broken('written anew by somebody whose key is in it', 3, rewritten),
    broken('a later part that begins with another head', 5, [
      ...[changed(later[0] ?? '', '"start":"qqqq', '"start":"qqqr'), ...later.slice(1)],
    ]),
  ];
}

/** Behind the first place the chain before is not known: 32 bytes of aa stand for its head. */
async function archived(
  entries: readonly SecondEntry[],
  { from, signer }: { from: number; signer: Signer },
): Promise<string[]> {
  const through = from + entries.length - 1;
  let head = from === 1 ? await secondStart(installation) : new Uint8Array(32).fill(0xaa);
  const header = { type: 'meshhook-keyring/audit-archive/v1', installation, from, through, start: base64(head) };
  const lines = [JSON.stringify(header)];
  for (const [index, entry] of entries.entries()) {
    const place = from + index;
    head = await secondNext(head, place, await secondLeaf(entry));
    lines.push(JSON.stringify({ place, ...entry, hash: base64(head) }));
  }
  const text = `${origin}\n${String(through)}\n${base64(head)}\nfloor 2\ntime 2026-11-27T19:37:08.000Z\n`;
  const key = base64(join(Uint8Array.of(1), signer.publicKey));
  const keys = [`${origin}+${hex(await secondKeyHash(origin, signer.publicKey))}+${key}`];
  lines.push(JSON.stringify({ checkpoint: await signer.note(text), keys }));
  return lines;
}

interface Signer {
  readonly publicKey: Uint8Array;
  note(text: string): Promise<string>;
}

/** Of the seed that counts on from a byte: no key of anybody's. */
async function signerOf(firstByte: number): Promise<Signer> {
  const seed = Uint8Array.from({ length: 32 }, (_, index) => firstByte + index);
  // RFC 8410: what stands before a seed in DER.
  const pkcs8 = join(Uint8Array.from(Buffer.from('302e020100300506032b657004220420', 'hex')), seed);
  const key = await webcrypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign']);
  const { x = '' } = await webcrypto.subtle.exportKey('jwk', key);
  const publicKey = Uint8Array.from(Buffer.from(x, 'base64url'));
  return {
    publicKey,
    async note(text) {
      const signature = new Uint8Array(await webcrypto.subtle.sign('Ed25519', key, new TextEncoder().encode(text)));
      return `${text}\n— ${origin} ${base64(join(await secondKeyHash(origin, publicKey), signature))}\n`;
    },
  };
}

/** The last line of a note. */
function signatureOf(note: string): string {
  return note.slice(0, -1).split('\n').at(-1) ?? '';
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function bytesOf64(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'base64'));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(`${JSON.stringify(await makeAuditVectors(), null, 2)}\n`);
}
