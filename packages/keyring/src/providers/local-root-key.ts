/** What every root key has in common whose bytes are at hand here: how it is written down, and what is done with it. */
import { uuidFromBytes } from '../envelope/format.ts';
import { open, seal } from '../envelope/seal.ts';
import type { KeyringError } from '../errors.ts';
import { insecureKeyText, keyFromText, rootFingerprint, wipe, type SecretKey } from '../secret-bytes.ts';
import { unhealthy } from './client.ts';
import type { RootKeyProvider } from './provider.ts';

const PREFIX = Buffer.from('MESHHOOK-ROOT-KEY-1-');
const LF = 0x0a;
const CR = 0x0d;
const HASH = 0x23;

/**
 * The root key in a text of empty lines, lines that begin with `#`, and one that holds the key
 * (`docs/spec/root-key-file.md`, R1 and R2). From bytes to bytes: the key is never in a string, which nobody can wipe.
 * @returns why there is none, as the end of a sentence, when there is none.
 */
export function parseRootKey(text: Buffer): SecretKey | string {
  const content = linesOf(text).filter((line) => line.length > 0 && line[0] !== HASH);
  const [line] = content;
  if (content.length !== 1 || line?.subarray(0, PREFIX.length).equals(PREFIX) !== true) {
    return 'does not hold exactly one MESHHOOK-ROOT-KEY-1- line';
  }
  return keyFromText(line.subarray(PREFIX.length)) ?? 'holds a key that is not 43 canonical digits of base64url';
}

/** `header`, in ASCII, and the line that `parseRootKey` reads: the key in the clear. The caller owns it and must `wipe` it. */
export function insecureRootKeyText(header: string, key: SecretKey): Buffer {
  const digits = insecureKeyText(key);
  const text = Buffer.alloc(header.length + PREFIX.length + digits.length + 1);
  text.write(header, 'latin1');
  PREFIX.copy(text, header.length);
  digits.copy(text, header.length + PREFIX.length);
  text[text.length - 1] = LF;
  wipe(digits);
  return text;
}

function linesOf(text: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; start <= text.length;) {
    const found = text.indexOf(LF, start);
    const end = found === -1 ? text.length : found;
    lines.push(text.subarray(start, found !== -1 && end > start && text[end - 1] === CR ? end - 1 : end));
    start = end + 1;
  }
  return lines;
}

/** Where a root key is read from. */
export interface LocalRootKey {
  readonly uri: string;
  /** @throws KeyringError `root_key_*` when it is not there, or is none. */
  readonly read: () => Promise<SecretKey>;
  /** What is thrown when it now is another key than when it was opened. */
  readonly changed: () => KeyringError;
}

/** The provider of a key that is read again at each call and not kept in between, so that it notices what becomes of it. */
export async function localRootKey({ uri, read, changed }: LocalRootKey): Promise<RootKeyProvider> {
  const fingerprint = rootFingerprint(await read());
  const keyId = uuidFromBytes(Buffer.from(fingerprint, 'hex'));

  async function sameKey(): Promise<SecretKey> {
    const key = await read();
    if (rootFingerprint(key) === fingerprint) return key;
    throw changed();
  }

  return {
    uri,
    async wrap(key, context) {
      if (key.length !== 32) throw new TypeError('A root key wraps keys of 32 bytes.');
      return { wrapped: seal(await sameKey(), keyId, key, context), fingerprint };
    },
    async unwrap(wrapped, context) {
      return open(await sameKey(), keyId, wrapped, context);
    },
    async status() {
      return await sameKey().then(
        () => ({ healthy: true, fingerprint }),
        (error: unknown) => unhealthy(fingerprint, error),
      );
    },
  };
}
