import { armor, Decrypter } from 'age-encryption';
import { KeyringError, parseBackup, type Backup } from '@meshhook/keyring';

/** What may open a file: identities of age (`AGE-SECRET-KEY-…`), a passphrase. */
export interface BackupFileKeys {
  readonly identities?: readonly string[];
  readonly passphrase?: string;
}

const ARMOR = '-----BEGIN AGE';
const HEADER = 'age-encryption.org/v1\n';
const OPEN_BRACE = 0x7b;

/**
 * Opens the file of a backup: binary or armored; or what is inside one, that `age` with a plugin or a hardware key has
 * decrypted already. Whatever this held of its text is overwritten.
 * @throws KeyringError `backup_locked` when none of the keys is the file's; `backup_unreadable` when it is no age file, is cut
 *   off or changed, or no backup is inside; `invalid_argument` for an identity that is none.
 */
export async function openBackupFile(file: Uint8Array, keys: BackupFileKeys): Promise<Backup> {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const document = bytes[0] === OPEN_BRACE ? bytes : await decrypt(unarmored(bytes), keys);
  try {
    return parseBackup(document);
  } finally {
    document.fill(0);
  }
}

/** The identities in an identity file of age. @throws KeyringError `invalid_argument` when there are none. */
export function parseIdentities(text: Buffer): string[] {
  const identities = text
    .toString('latin1')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (identities.length > 0 && identities.every((line) => /^AGE-SECRET-KEY-(PQ-)?1/.test(line))) return identities;
  throw new KeyringError('invalid_argument', 'The identity file does not hold identities of age (AGE-SECRET-KEY-1…).', {
    remedy: 'Of one that is encrypted, or of a plugin: `age -d -i IDENTITIES FILE | mh-keys root-key backup verify -`.',
  });
}

async function decrypt(file: Uint8Array, { identities = [], passphrase }: BackupFileKeys): Promise<Uint8Array> {
  const kinds = stanzas(file);
  const decrypter = new Decrypter();
  for (const identity of identities) {
    try {
      decrypter.addIdentity(identity);
    } catch {
      throw new KeyringError('invalid_argument', 'An identity is not one of age: it was not copied whole.', {
        remedy: 'Take the identity file as age-keygen wrote it.',
      });
    }
  }
  if (passphrase !== undefined) decrypter.addPassphrase(passphrase);
  try {
    return await decrypter.decrypt(file);
  } catch (error) {
    throw (error as Error).message.startsWith('no identity matched')
      ? locked(kinds, identities.length > 0, passphrase !== undefined)
      : unreadable('it was changed, or cut off');
  }
}

/** Whom the header names, by kind. */
function stanzas(file: Uint8Array): string[] {
  const start = Buffer.from(file.buffer, file.byteOffset, Math.min(file.byteLength, 65_536)).toString('latin1');
  if (!start.startsWith(HEADER)) throw unreadable('it is not a file of age');
  const header = start.slice(0, start.indexOf('\n---'));
  return [...header.matchAll(/\n-> (\S+)/g)].map(([, kind = '']) => kind);
}

function unarmored(bytes: Buffer): Uint8Array {
  if (bytes.toString('latin1', 0, ARMOR.length) !== ARMOR) return bytes;
  try {
    return armor.decode(bytes.toString('latin1'));
  } catch {
    throw unreadable('its armor was changed, or cut off');
  }
}

function locked(kinds: readonly string[], identity: boolean, passphrase: boolean): KeyringError {
  const wantsPassphrase = kinds.includes('scrypt');
  if (wantsPassphrase && !passphrase) {
    return new KeyringError('backup_locked', 'This backup was made with a passphrase.', {
      remedy: 'Add --passphrase.',
    });
  }
  if (!wantsPassphrase && !identity) {
    return new KeyringError('backup_locked', 'This backup was made for recipients, and opens with an identity.', {
      remedy: 'Add --identity FILE.',
    });
  }
  return wantsPassphrase
    ? new KeyringError('backup_locked', 'That is not the passphrase of this backup.', {
        remedy: 'Look for a typing error, in letters and in blanks.',
      })
    : new KeyringError(
        'backup_locked',
        `None of the identities opens this backup, which was made for ${String(kinds.length)} of them.`,
        { remedy: '`mh-keys audit` names the recipients of each backup; `age-keygen -y FILE` that of an identity.' },
      );
}

function unreadable(why: string): KeyringError {
  return new KeyringError('backup_unreadable', `This cannot be read as a backup: ${why}.`, {
    remedy: 'Take another copy of the file, or another backup.',
  });
}
