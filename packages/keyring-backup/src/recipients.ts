import { armor, Encrypter } from 'age-encryption';
import { KeyringError } from '@meshhook/keyring';

/** Whoever has the file can try passphrases for ever, at a second each. */
export const MIN_PASSPHRASE_CHARACTERS = 16;

/** Either public keys of age, or a passphrase: the format lets nothing stand beside a passphrase. */
export type AgeOptions = { readonly armor?: boolean } & (
  | { readonly recipients: readonly string[] }
  | {
      readonly passphrase: string;
      /** scrypt's work factor, its base-2 logarithm. Default 18: a second and 256 MiB for each try. */
      readonly workFactor?: number;
    }
);

/** Encrypts to whom it was made for. */
export interface AgeRecipients {
  /** As a trail may name them: public keys, or `passphrase`. */
  readonly names: readonly string[];
  /** The document as an age file. The caller's document is left as it was; age's own copies of it are out of reach. */
  seal(document: Uint8Array): Promise<Uint8Array>;
}

/**
 * Looks at everybody whom a file is to be encrypted to, before anything is.
 * @throws KeyringError `invalid_argument` for nobody, a recipient that is none, recipients that do not go together, and a
 *   passphrase that is too short.
 */
export function ageRecipients(options: AgeOptions): AgeRecipients {
  const encrypter = new Encrypter();
  const names = 'passphrase' in options ? [passphrase(encrypter, options)] : publicKeys(encrypter, options.recipients);
  return {
    names,
    async seal(document) {
      const file = await encrypter.encrypt(document);
      return options.armor === true ? Buffer.from(armor.encode(file)) : file;
    },
  };
}

function passphrase(encrypter: Encrypter, options: { passphrase: string; workFactor?: number }): string {
  if ([...options.passphrase].length < MIN_PASSPHRASE_CHARACTERS) {
    throw new KeyringError('invalid_argument', 'The passphrase is too short.', {
      remedy: `Take at least ${String(MIN_PASSPHRASE_CHARACTERS)} characters, such as five words picked by dice.`,
    });
  }
  if (options.workFactor !== undefined) encrypter.setScryptWorkFactor(options.workFactor);
  encrypter.setPassphrase(options.passphrase);
  return 'passphrase';
}

function publicKeys(encrypter: Encrypter, given: readonly string[]): string[] {
  const names = [...new Set(given)];
  if (names.length === 0) {
    throw new KeyringError('invalid_argument', 'Nobody is named who could open the backup.', {
      remedy:
        'Name a recipient, age1…: `age-keygen -o identity.txt` makes an identity and prints its recipient. Or give a passphrase.',
    });
  }
  for (const name of names) {
    try {
      encrypter.addRecipient(name);
    } catch {
      throw notARecipient(name);
    }
  }
  // With one of the old kind beside it, a file that is recorded today could be opened by a quantum computer after all.
  const resistant = names.filter((name) => /^age1(pq|tagpq)1/.test(name)).length;
  if (resistant > 0 && resistant < names.length) {
    throw new KeyringError('invalid_argument', 'Post-quantum recipients and others do not go into one file.', {
      remedy: 'Make two backups.',
    });
  }
  return names;
}

function notARecipient(text: string): KeyringError {
  if (/AGE-SECRET-KEY-/i.test(text)) {
    return new KeyringError('invalid_argument', 'That is an identity, which is secret, and not a recipient.', {
      remedy: 'It may be in the history of your shell now: make a new one with age-keygen, and name its age1….',
    });
  }
  const named = text.startsWith('age1') ? ` "${text.slice(0, 80)}"` : '';
  return new KeyringError('invalid_argument', `The recipient${named} is not a public key of age.`, {
    remedy: 'It begins with age1, and is copied whole; SSH keys and age plugins are not supported.',
  });
}
