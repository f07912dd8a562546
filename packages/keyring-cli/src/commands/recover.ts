import {
  createRootKeyFile,
  KeyringError,
  openRootKey,
  recoverFromBackup,
  type Database,
  type Recovery,
} from '@meshhook/keyring';
import type { Command } from 'commander';
import { opensBackup, readBackup, type OpenOptions } from '../backup-input.ts';
import { leaf } from '../command.ts';
import { actor, withDatabase, type App } from '../session.ts';
import { instant, line, plural } from '../terminal/text.ts';

interface Options extends OpenOptions {
  readonly to: string;
}

export function registerRecover(rootKey: Command, app: App): void {
  opensBackup(
    leaf(
      rootKey,
      'recover <file>',
      'puts the wrapping keys of a backup under a root key that is at hand: for a database whose root key is gone',
      [
        'mh-keys root-key recover keyring.age --identity identity.txt --to file:./new-root.key',
        'mh-keys root-key recover keyring.age --passphrase --to file:/etc/meshhook/root.key',
      ],
    ),
  )
    .requiredOption('--to <uri>', 'the root key from now on; a file: that is not there is made')
    .action((file: string, options: Options) => recover(app, file, options));
}

async function recover(app: App, file: string, options: Options): Promise<void> {
  const { backup } = await readBackup(app, file, options);
  const cwd = process.cwd();
  const put = (database: Database): Promise<Recovery> =>
    recoverFromBackup({
      ...{ database, backup, actor: actor() },
      async rootKey() {
        app.signal.throwIfAborted();
        if (options.to.startsWith('file:') && (await makeRootKey(options.to)))
          app.terminal.note(`made: root key, ${options.to}`);
        return openRootKey(options.to, { cwd, env: app.settings.environment });
      },
    });
  const recovery = await withDatabase(app, put, { withoutRootKey: true });
  app.terminal.result({ recovery }, () => view(recovery));
}

/** False when it is there already: as when this was interrupted before. */
async function makeRootKey(uri: string): Promise<boolean> {
  try {
    await createRootKeyFile(uri);
    return true;
  } catch (error) {
    if (error instanceof KeyringError && error.code === 'root_key_exists') return false;
    throw error;
  }
}

function view({ rootKey, wrappingKeys, leftOut, otherRootKeys, then, now }: Recovery): string {
  const added = wrappingKeys.filter((one) => one.added).length;
  const what = added === 0 ? 'It did so already' : `${plural(added, 'wrapping key')} put under it, and read back`;
  const lines = [line`This database opens with ${rootKey.uri} (fingerprint ${rootKey.fingerprint}). ${what}.`];
  if (leftOut.length > 0) {
    const versions = leftOut.map(({ version }) => String(version)).join(', ');
    lines.push(`Not in the backup, and nothing is under it: wrapping key version ${versions}.`);
  }
  for (const { uri, fingerprint } of otherRootKeys)
    lines.push(line`Left as it was: the root key ${uri} (fingerprint ${fingerprint}).`);
  if ((then.newestEntryAt?.getTime() ?? 0) > (now.newestEntryAt?.getTime() ?? 0)) {
    lines.push(
      `The backup is newer than this database: ${plural(then.dataKeys, 'data key')} then, ${String(now.dataKeys)} here, ` +
        `the newest of ${instant(then.newestDataKeyAt)} and ${instant(now.newestDataKeyAt)}.`,
    );
  }
  lines.push(
    '',
    'Next:',
    line`  1. Set MESHHOOK_ROOT_KEY=${rootKey.uri} for every program.`,
    '  2. mh-keys doctor',
    line`  3. mh-keys root-key rotate --to ${rootKey.uri}: takes the old root key off the list.`,
    '  4. mh-keys root-key backup: the old one holds the old root key.',
    '  5. Could somebody else have the old root key? docs/runbooks/a-key-leaked.md',
  );
  return lines.join('\n');
}
