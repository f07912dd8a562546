import { createHash } from 'node:crypto';
import { KeyringError, type Backup } from '@meshhook/keyring';
import { Option, type Command } from 'commander';
import { readInputFile, readStdin } from './input.ts';
import { readPassphrase, type PassphraseOptions } from './passphrase.ts';
import type { App } from './session.ts';

export interface OpenOptions extends PassphraseOptions {
  readonly identity?: readonly string[];
}

/** The options of a command that opens a backup. */
export function opensBackup(command: Command): Command {
  return command
    .option('--identity <file...>', 'identity files, as age-keygen writes them')
    .option('--passphrase', 'ask for the passphrase (without a terminal: the first line of standard input)')
    .addOption(new Option('--passphrase-file <file>', 'the passphrase, in its first line').conflicts('passphrase'));
}

export interface OpenedFile {
  readonly backup: Backup;
  /** Undefined when it came decrypted. */
  readonly fileSha256: Buffer | undefined;
}

/**
 * Reads and opens a backup: a file, or `-` for standard input, encrypted or as `age -d` gives it.
 * @throws KeyringError `invalid_argument` for what cannot be read; as `openBackupFile` does.
 */
export async function readBackup(app: App, path: string, options: OpenOptions): Promise<OpenedFile> {
  if (path === '-' && options.passphrase === true && app.stdin.isTTY !== true) {
    throw new KeyringError('invalid_argument', 'Backup and passphrase cannot both come from standard input.', {
      remedy: 'Put one of them into a file: --passphrase-file FILE.',
    });
  }
  // Loaded when it is needed: it takes longer than many a command.
  const { openBackupFile, parseIdentities } = await import('@meshhook/keyring-backup');
  const identities: string[] = [];
  for (const file of options.identity ?? []) {
    const text = await readInputFile(file);
    identities.push(...parseIdentities(text));
    text.fill(0);
  }
  const passphrase = await readPassphrase(app, options);
  const file = path === '-' ? await readStdin(app) : await readInputFile(path);
  const isEncrypted = file[0] !== '{'.charCodeAt(0);
  const fileSha256 = isEncrypted ? createHash('sha256').update(file).digest() : undefined;
  const backup = await openBackupFile(file, { identities, ...(passphrase === undefined ? {} : { passphrase }) });
  return { backup, fileSha256 };
}
