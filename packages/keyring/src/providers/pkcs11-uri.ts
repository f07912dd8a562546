/** PKCS #11 URIs (RFC 7512), as far as they name one secret key in one token. */
import { invalidUri } from './client.ts';

/** What a URI says, decoded. */
export interface Pkcs11Place {
  /** Which token: all of these have to fit. */
  readonly token: Readonly<Partial<Record<TokenAttribute, string>>>;
  /** The key's CKA_LABEL. */
  readonly label: string | undefined;
  /** The key's CKA_ID. */
  readonly id: Buffer | undefined;
  /** The vendor's library, an absolute path. */
  readonly modulePath: string;
  readonly pin: PinSource | undefined;
}

export type TokenAttribute = 'token' | 'manufacturer' | 'model' | 'serial';

export type PinSource = { readonly file: string } | { readonly variable: string };

const TOKEN_ATTRIBUTES: readonly string[] = ['token', 'manufacturer', 'model', 'serial'] satisfies TokenAttribute[];
const HOW =
  'Write pkcs11:token=NAME;object=KEY?module-path=/path/to/library.so&pin-source=file:/path/to/pin (RFC 7512), or pin-source=env:VARIABLE.';

/**
 * Takes a URI apart.
 * @throws KeyringError `invalid_argument`: for a PIN in the URI, which is stored and shown, and for what RFC 7512 or this
 *   provider does not know.
 */
export function parsePkcs11Uri(uri: string): Pkcs11Place {
  const [, path = '', query = ''] = /^pkcs11:([^?#\s]*)(?:\?([^#\s]*))?$/.exec(uri) ?? refuse('cannot be read');
  const object = attributes(path, ';');
  const asked = attributes(query, '&');
  if (asked.has('pin-value')) {
    refuse(
      'holds a PIN',
      'Put the PIN into a file that only this program can read, and name it by pin-source=file:/path; change the PIN if the URI was stored.',
    );
  }

  const token: Partial<Record<TokenAttribute, string>> = {};
  for (const [name, value] of object) {
    if (TOKEN_ATTRIBUTES.includes(name)) token[name as TokenAttribute] = text(value);
    else if (name === 'type' && text(value) !== 'secret-key') refuse('does not name a secret key');
    else if (!['object', 'id', 'type'].includes(name)) refuse(`has an attribute that is not known here`);
  }
  for (const name of asked.keys()) {
    if (name !== 'module-path' && name !== 'pin-source') refuse('has a query attribute that is not known here');
  }
  const [label, id] = [object.get('object'), object.get('id')];
  if (token.token === undefined && token.serial === undefined) refuse('names no token (token= or serial=)');
  if (label === undefined && id === undefined) refuse('names no key (object= or id=)');
  const modulePath = text(asked.get('module-path') ?? refuse('names no library (module-path=)'));
  // A relative one would be looked for wherever the system looks for libraries.
  if (!/^(\/|[A-Za-z]:[\\/])/.test(modulePath)) refuse('has a module-path that is not absolute');
  const source = asked.get('pin-source');
  return {
    token,
    label: label === undefined ? undefined : text(label),
    id,
    modulePath,
    pin: source === undefined ? undefined : pinSource(text(source)),
  };
}

function pinSource(source: string): PinSource {
  const variable = /^env:([A-Za-z_][A-Za-z0-9_]*)$/.exec(source)?.[1];
  if (variable !== undefined) return { variable };
  const file = /^(?:file:(?:\/\/)?)?(\/(?!\/).+)$/.exec(source)?.[1];
  return { file: file ?? refuse('has a pin-source that is neither file:/path nor env:VARIABLE') };
}

/** Names and their bytes; a name that comes twice is refused (RFC 7512, 2.3). */
function attributes(part: string, separator: string): ReadonlyMap<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const one of part === '' ? [] : part.split(separator)) {
    const [, name, value] = /^([a-z][a-z0-9-]*)=(.*)$/.exec(one) ?? [];
    if (name === undefined || value === undefined || found.has(name))
      return refuse('is not made of name=value, each once');
    found.set(name, bytes(value));
  }
  return found;
}

function bytes(value: string): Buffer {
  if (/%(?![0-9A-Fa-f]{2})/.test(value)) refuse('has a % that encodes nothing');
  const parts = value.split(/%([0-9A-Fa-f]{2})/);
  return Buffer.concat(parts.map((part, at) => Buffer.from(part, at % 2 === 0 ? 'utf8' : 'hex')));
}

function text(value: Buffer): string {
  const decoded = value.toString();
  if (value.length === 0 || decoded.includes('\0') || !Buffer.from(decoded).equals(value)) {
    refuse('has a value that is empty or no text');
  }
  return decoded;
}

function refuse(why: string, remedy = HOW): never {
  throw invalidUri('pkcs11', why, remedy);
}
