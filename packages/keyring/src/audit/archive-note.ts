/** What says that places went into a file, signed. docs/spec/audit.md, U42. */
import { openNote } from './note.ts';

export interface ArchiveFacts {
  /** The last place that is in the file. */
  readonly through: number;
  /** The head of the chain there: what the next place goes on from. */
  readonly hash: Buffer;
  /** Of the file, hex. */
  readonly fileSha256: string;
}

export function archiveText(origin: string, { through, hash, fileSha256 }: ArchiveFacts): string {
  return `${origin}\narchived through ${String(through)}\n${hash.toString('base64')}\nsha256 ${fileSha256}\n`;
}

const shape =
  /^(?<origin>[^\n]+)\narchived through (?<through>[1-9]\d{0,15})\n(?<hash>[A-Za-z0-9+/]{43}=)\nsha256 (?<sha>[0-9a-f]{64})\n$/;

/** Undefined: it is not one that any of the keys signed. */
export function openArchiveNote(
  note: string,
  origin: string,
  publicKeys: readonly Uint8Array[],
): ArchiveFacts | undefined {
  const text = openNote(note, origin, publicKeys);
  const { through = '', hash = '', sha = '', ...found } = shape.exec(text ?? '')?.groups ?? {};
  const bytes = Buffer.from(hash, 'base64');
  if (found['origin'] !== origin || bytes.toString('base64') !== hash) return undefined;
  return { through: Number(through), hash: bytes, fileSha256: sha };
}
