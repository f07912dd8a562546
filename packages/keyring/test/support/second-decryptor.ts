/**
 * A second implementation of docs/spec/envelope.md, on WebCrypto. Written from the specification alone and importing
 * nothing of the library, so that what both agree on is the specification and not a shared mistake.
 */
const { subtle } = globalThis.crypto;
const text = new TextEncoder();

type Bytes = Uint8Array<ArrayBuffer>;

export type Field = string | Uint8Array;

/** `hex`, hyphens ignored, as bytes: good for keys, nonces and uuids. */
export function unhex(hex: string): Bytes {
  const digits = hex.replaceAll('-', '');
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function uint32(value: number): Bytes {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/** A1 to A3: context and fields, each behind its length. */
export function secondAad(...fields: Field[]): Bytes {
  const parts = ['meshhook-keyring/v1', ...fields].map((field) =>
    typeof field === 'string' ? text.encode(field) : field,
  );
  return join(...parts.flatMap((part) => [uint32(part.length), part]));
}

/** Seals under a given nonce (E1 to E6). */
export async function secondSeal(
  key: Uint8Array,
  keyId: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  aad: Uint8Array,
): Promise<Bytes> {
  const sealed = await subtle.encrypt(gcm(nonce, aad), await importKey(key, 'encrypt'), Uint8Array.from(plaintext));
  return join(Uint8Array.of(1, 1), keyId, nonce, new Uint8Array(sealed));
}

/** The plaintext, or undefined for whatever reason there is none. */
export async function secondOpen(
  key: Uint8Array,
  keyId: Uint8Array,
  envelope: Uint8Array,
  aad: Uint8Array,
): Promise<Bytes | undefined> {
  if (envelope.length < 46 || envelope.length > 46 + 65_536) return undefined;
  if (envelope[0] !== 1 || envelope[1] !== 1) return undefined;
  if (hex(envelope.subarray(2, 18)) !== hex(keyId)) return undefined;
  const sealed = Uint8Array.from(envelope.subarray(30));
  try {
    return new Uint8Array(
      await subtle.decrypt(gcm(envelope.subarray(18, 30), aad), await importKey(key, 'decrypt'), sealed),
    );
  } catch {
    return undefined;
  }
}

/** HKDF-SHA256 with an empty salt (F1, F5). */
export async function secondDerive(key: Uint8Array, info: Uint8Array, length: number): Promise<Bytes> {
  const material = await subtle.importKey('raw', Uint8Array.from(key), 'HKDF', false, ['deriveBits']);
  const parameters = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: Uint8Array.from(info) };
  return new Uint8Array(await subtle.deriveBits(parameters, material, 8 * length));
}

/** All parts, one after the other. */
export function join(...parts: Uint8Array[]): Bytes {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function gcm(nonce: Uint8Array, aad: Uint8Array) {
  return { name: 'AES-GCM', iv: Uint8Array.from(nonce), additionalData: Uint8Array.from(aad), tagLength: 128 };
}

function importKey(key: Uint8Array, use: 'encrypt' | 'decrypt') {
  return subtle.importKey('raw', Uint8Array.from(key), 'AES-GCM', false, [use]);
}
