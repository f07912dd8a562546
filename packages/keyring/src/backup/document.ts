/** The text inside a backup: one JSON document. `docs/spec/backup.md`. Bytes in, bytes out; the encryption is the caller's. */
import { randomBytes } from 'node:crypto';
import type { Backup, BackupCensus } from '../api.ts';
import {
  insecureKeyText,
  keyFingerprint,
  equalBytes,
  keyFromText,
  rootFingerprint,
  wipe,
  type SecretKey,
} from '../secret-bytes.ts';
import { asDate, asDateIfThere, asList, asNumber, asObject, asText, asTexts, asUuid, unreadable } from './fields.ts';

const FORMAT = 'meshhook-keyring/backup';
const VERSION = 1;
const ROOT_PREFIX = 'MESHHOOK-ROOT-KEY-1-';
const KEY_NAME = '"key"';
const QUOTE = 0x22;
// White space and the colon: another program may have laid the text out anew.
const BETWEEN = Buffer.from(' \t\r\n:');
const WARNING = 'Whoever can read this text and has a copy of the database can read every secret in it.';

/** The keys of a backup, beside what it says of itself. */
export interface BackupKeys {
  /** By id. */
  readonly wrappingKeys: ReadonlyMap<string, SecretKey>;
  /** Undefined: its provider does not give it away. */
  readonly rootKey: SecretKey | undefined;
}

const keysOfBackups = new WeakMap<Backup, BackupKeys>();

/** The keys inside. @throws TypeError for an object that no backup was read into. */
export function keysOf(backup: Backup): BackupKeys {
  const keys = keysOfBackups.get(backup);
  if (keys === undefined) throw new TypeError('A backup is what parseBackup gives.');
  return keys;
}

/** The document, keys and all, in a buffer that the caller owns and must `wipe`. */
export function insecureEncodeBackup(backup: Backup, { wrappingKeys, rootKey }: BackupKeys): Buffer {
  // Keys are put in afterwards, as bytes, over random texts of their length.
  const places: { readonly holder: string; readonly key: SecretKey }[] = [];
  const placeFor = (key: SecretKey): string => {
    const holder = randomBytes(32).toString('base64url');
    places.push({ holder, key });
    return holder;
  };
  const { id, createdAt, installationId, schemaVersion, recipients, rootKey: root, signingKeys, database } = backup;
  const text = JSON.stringify(
    {
      ...{
        format: FORMAT,
        version: VERSION,
        warning: WARNING,
        id,
        createdAt,
        installationId,
        schemaVersion,
        recipients,
      },
      rootKey: {
        uri: root.uri,
        fingerprint: root.fingerprint,
        key: rootKey === undefined ? null : ROOT_PREFIX + placeFor(rootKey),
      },
      wrappingKeys: backup.wrappingKeys.map((one) => ({ ...one, key: placeFor(keyIn(wrappingKeys, one.id)) })),
      signingKeys,
      database,
    },
    null,
    2,
  );
  // Not from the pool of small buffers, which others share.
  const bytes = Buffer.alloc(Buffer.byteLength(text) + 1, '\n');
  bytes.write(text);
  for (const { holder, key } of places) {
    const digits = insecureKeyText(key);
    digits.copy(bytes, bytes.indexOf(holder));
    wipe(digits);
  }
  return bytes;
}

/**
 * Reads a decrypted backup. The keys in the caller's buffer are overwritten as they are taken out of it.
 * @throws KeyringError `backup_unreadable` for anything that is not a whole backup of a version this release knows.
 */
export function parseBackup(document: Uint8Array): Backup {
  const bytes = Buffer.from(document.buffer, document.byteOffset, document.byteLength);
  const keys = takeKeys(bytes);
  const whole = asObject(parseJson(bytes));
  if (whole['format'] !== FORMAT) throw unreadable('it is not a backup of a keyring');
  if (whole['version'] !== VERSION) throw unreadable('it is of a version that this release does not know');
  const root = asObject(whole['rootKey']);
  const rootKey = root['key'] === null ? undefined : keyAt(keys, asText(root['key']).slice(ROOT_PREFIX.length));
  const wrappingKeys = asList(whole['wrappingKeys']).map((one) => ({
    facts: wrappingKeyFacts(one),
    key: keyAt(keys, asText(one['key'])),
  }));
  const backup: Backup = {
    id: asUuid(whole['id']),
    createdAt: asDate(whole['createdAt']),
    installationId: asUuid(whole['installationId']),
    schemaVersion: asText(whole['schemaVersion']),
    recipients: asTexts(whole['recipients']),
    rootKey: { uri: asText(root['uri']), fingerprint: asText(root['fingerprint']), included: rootKey !== undefined },
    wrappingKeys: wrappingKeys.map(({ facts }) => facts),
    signingKeys: asList(whole['signingKeys']).map((one) => ({
      id: asUuid(one['id']),
      version: asNumber(one['version']),
      publicKey: asText(one['publicKey']),
    })),
    database: census(asObject(whole['database'])),
  };
  if (wrappingKeys.length === 0) throw unreadable('it holds no wrapping key');
  if (rootKey !== undefined && rootFingerprint(rootKey) !== backup.rootKey.fingerprint)
    throw unreadable('its root key is not the one that it names');
  for (const { facts, key } of wrappingKeys) {
    if (!equalBytes(keyFingerprint(key, facts.id), Buffer.from(facts.fingerprint, 'base64')))
      throw unreadable(`its wrapping key version ${String(facts.version)} is not the one that it names`);
  }
  keysOfBackups.set(backup, { rootKey, wrappingKeys: new Map(wrappingKeys.map(({ facts, key }) => [facts.id, key])) });
  return backup;
}

/** Takes the keys out, and leaves in the place of each its number: what is read as JSON, and made strings of, has none. */
function takeKeys(bytes: Buffer): SecretKey[] {
  const keys: SecretKey[] = [];
  for (let at = bytes.indexOf(KEY_NAME); at !== -1; at = bytes.indexOf(KEY_NAME, at)) {
    at += KEY_NAME.length;
    while (BETWEEN.includes(bytes[at] ?? 0)) at++;
    if (bytes[at++] !== QUOTE) continue;
    if (bytes.toString('latin1', at, at + ROOT_PREFIX.length) === ROOT_PREFIX) at += ROOT_PREFIX.length;
    const end = bytes.indexOf(QUOTE, at);
    const text = bytes.subarray(at, end === -1 ? bytes.length : end);
    const key = keyFromText(text);
    // Whatever it was, it becomes no string. A question mark is the number of no key.
    text.fill(key === undefined ? '?' : ' ');
    if (key !== undefined) text.write(String(keys.push(key) - 1));
  }
  return keys;
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    // Without the cause, which quotes what it could not read.
    throw unreadable('it is no JSON');
  }
}

function keyAt(keys: readonly SecretKey[], place: string): SecretKey {
  const key = keys[Number(place)];
  if (key === undefined) throw unreadable('a key in it is missing, or not 43 canonical digits of base64url');
  return key;
}

function keyIn(keys: ReadonlyMap<string, SecretKey>, id: string): SecretKey {
  const key = keys.get(id);
  if (key === undefined) throw new TypeError(`The wrapping key ${id} is not among the keys.`);
  return key;
}

function wrappingKeyFacts(one: Record<string, unknown>): Backup['wrappingKeys'][number] {
  return {
    id: asUuid(one['id']),
    version: asNumber(one['version']),
    state: asText(one['state']),
    primary: one['primary'] === true,
    fingerprint: asText(one['fingerprint']),
  };
}

function census(found: Record<string, unknown>): BackupCensus {
  return {
    projects: asNumber(found['projects']),
    dataKeys: asNumber(found['dataKeys']),
    newestDataKeyAt: asDateIfThere(found['newestDataKeyAt']),
    newestEntryAt: asDateIfThere(found['newestEntryAt']),
  };
}
