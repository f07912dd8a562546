/** Looks for bytes, and for everything that people write bytes as, in what a process leaves to be looked into. */
import { open, readFile, type FileHandle } from 'node:fs/promises';

export interface Needle {
  readonly name: string;
  /** 32 of them. */
  readonly bytes: Buffer;
}

export interface Found {
  readonly needle: string;
  /** As `raw`, `hex`, `base64`. */
  readonly as: string;
  /** Or one of its two halves, which is left of a copy that was partly written over, or was in a register. */
  readonly whole: boolean;
  /** Of memory: the mapping, such as `[heap]`. */
  readonly where: string;
}

interface Part extends Needle {
  readonly whole: boolean;
}

function partsOf({ name, bytes }: Needle): Part[] {
  const middle = bytes.length / 2;
  return [
    { name, bytes, whole: true },
    { name, bytes: bytes.subarray(0, middle), whole: false },
    { name, bytes: bytes.subarray(middle), whole: false },
  ];
}

/** Texts for the bytes: in base64 the three ways in which they can lie among others, without the digits that are not theirs alone. */
function textsOf(bytes: Buffer): Map<string, string> {
  const texts = new Map([
    ['hex', bytes.toString('hex')],
    ['HEX', bytes.toString('hex').toUpperCase()],
    ['numbers', [...bytes].join(',')],
  ]);
  for (const encoding of ['base64', 'base64url'] as const) {
    for (const shift of [0, 1, 2]) {
      const text = Buffer.concat([Buffer.alloc(shift), bytes])
        .toString(encoding)
        .replaceAll('=', '');
      texts.set(`${encoding}+${String(shift)}`, text.slice(shift === 0 ? 0 : shift + 1, -2));
    }
  }
  return texts;
}

/** Every string of a heap snapshot is looked through; what is in buffers is in none. */
export async function searchSnapshot(file: string, needles: readonly Needle[]): Promise<Found[]> {
  const { strings } = JSON.parse(await readFile(file, 'utf8')) as { strings: string[] };
  const haystack = strings.join('\n');
  return needles.flatMap(partsOf).flatMap(({ name, bytes, whole }) => {
    const spellings = [
      ...textsOf(bytes),
      ['latin1', bytes.toString('latin1')],
      ['utf8', bytes.toString('utf8')],
    ] as const;
    return spellings.flatMap(([as, text]) =>
      haystack.includes(text) ? [{ needle: name, as, whole, where: 'heap snapshot' }] : [],
    );
  });
}

interface Pattern extends Omit<Found, 'where'> {
  readonly bytes: Buffer;
}

const PAGE = 4096;
const CHUNK = 64 * 1024 * 1024;

/**
 * The memory of a process that is at rest: every page that it can write to and that is there. What it can only read came from
 * files, and holds what they do.
 */
export async function searchMemory(pid: number, needles: readonly Needle[]): Promise<Found[]> {
  const find = finder(needles.flatMap(partsOf).flatMap(patternsOf));
  const found: Found[] = [];
  await using memory = await open(`/proc/${String(pid)}/mem`, 'r');
  for (const { from, to, where } of await writablePages(pid)) {
    for (let start = from; start < to; start += CHUNK) {
      // A little of the next chunk as well, for what lies across.
      const bytes = Buffer.allocUnsafe(Math.min(CHUNK + PAGE, to - start));
      // What the process has given back since its pages were listed cannot be read any more, by anybody.
      const { bytesRead } = await memory.read(bytes, 0, bytes.length, start).catch(ifGone);
      for (const { needle, as, whole } of find(bytes.subarray(0, bytesRead))) found.push({ needle, as, whole, where });
    }
  }
  return found;
}

function ifGone(error: unknown): { bytesRead: number } {
  if ((error as NodeJS.ErrnoException).code === 'EIO') return { bytesRead: 0 };
  throw error;
}

function patternsOf({ name, bytes, whole }: Part): Pattern[] {
  const as = (spelling: string, pattern: Buffer): Pattern => ({ needle: name, as: spelling, whole, bytes: pattern });
  return [
    as('raw', bytes),
    as('utf16', Buffer.from(bytes.toString('latin1'), 'utf16le')),
    ...[...textsOf(bytes)].flatMap(([spelling, text]) => [
      as(spelling, Buffer.from(text, 'latin1')),
      as(`${spelling}, utf16`, Buffer.from(text, 'utf16le')),
    ]),
  ];
}

/** Looks for all of them in one pass, by their first three bytes. */
function finder(patterns: readonly Pattern[]): (bytes: Buffer) => Pattern[] {
  const begins = new Map<number, Pattern[]>();
  const mayBegin = new Uint8Array(1 << 24);
  for (const pattern of patterns) {
    const begin = pattern.bytes.readUIntBE(0, 3);
    mayBegin[begin] = 1;
    begins.set(begin, [...(begins.get(begin) ?? []), pattern]);
  }
  return (bytes) => {
    const found: Pattern[] = [];
    let last = 0;
    for (let at = 0; at < bytes.length; at++) {
      last = ((last << 8) | (bytes[at] ?? 0)) & 0xffffff;
      if (mayBegin[last] === 0 || at < 2) continue;
      for (const pattern of begins.get(last) ?? []) {
        if (bytes.subarray(at - 2, at - 2 + pattern.bytes.length).equals(pattern.bytes)) found.push(pattern);
      }
    }
    return found;
  };
}

interface Run {
  readonly from: number;
  to: number;
  readonly where: string;
}

/** Runs of pages that are in memory: the many that were only reserved would become so by being read. */
async function writablePages(pid: number): Promise<Run[]> {
  const maps = await readFile(`/proc/${String(pid)}/maps`, 'utf8');
  await using pagemap = await open(`/proc/${String(pid)}/pagemap`, 'r');
  const runs: Run[] = [];
  for (const line of maps.split('\n')) {
    const [, from, to, mode, name] = /^(\w+)-(\w+) (\S+) \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
    if (from === undefined || to === undefined || mode?.startsWith('rw') !== true) continue;
    const where = name === '' ? 'anonymous' : (name ?? '');
    runs.push(...(await presentPages(pagemap, Number.parseInt(from, 16), Number.parseInt(to, 16), where)));
  }
  return runs;
}

async function presentPages(pagemap: FileHandle, from: number, to: number, where: string): Promise<Run[]> {
  const entries = Buffer.alloc(((to - from) / PAGE) * 8);
  await pagemap.read(entries, 0, entries.length, (from / PAGE) * 8);
  const runs: Run[] = [];
  for (let page = 0; page < entries.length / 8; page++) {
    // Bits 63 and 62: in memory, in swap.
    if (((entries[page * 8 + 7] ?? 0) & 0xc0) === 0) continue;
    const at = from + page * PAGE;
    const previous = runs.at(-1);
    if (previous?.to === at) previous.to = at + PAGE;
    else runs.push({ from: at, to: at + PAGE, where });
  }
  return runs;
}

/** How often each was found, as lines for people: `2 × wrapping key, raw, [heap]`. */
export function tell(found: readonly Found[]): string {
  const lines = new Map<string, number>();
  for (const { needle, as, whole, where } of found) {
    const line = `${needle}, ${whole ? '' : 'half of it, '}${as}, ${where}`;
    lines.set(line, (lines.get(line) ?? 0) + 1);
  }
  return [...lines]
    .map(([line, times]) => `  ${String(times)} × ${line}`)
    .toSorted()
    .join('\n');
}
