import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createRootKeyFile, KeyringError, openRootKey } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import type { App } from '../session.ts';
import { line } from '../terminal/text.ts';

export function registerRootKey(program: Command, app: App): void {
  const rootKey = group(program, 'root-key', 'the key that unlocks all others, kept outside the database');

  leaf(rootKey, 'create <uri>', 'makes a root key in a new file that only its owner can read', [
    'mh-keys root-key create file:./root.key',
    'mh-keys root-key create file:/etc/meshhook/root.key',
  ]).action(async (uri: string) => {
    const created = await createRootKeyFile(uri);
    app.terminal.result({ rootKey: { uri, ...created } }, () =>
      [
        line`Made a root key in ${created.path}, fingerprint ${created.fingerprint}.`,
        'Keep a copy of that file elsewhere: whoever loses it loses every secret.',
        line`Use it with MESHHOOK_ROOT_KEY=${uri}`,
      ].join('\n'),
    );
  });

  leaf(rootKey, 'status', 'which root key is at hand, and whether it can be used; asks no database', [
    'mh-keys root-key status',
    'MESHHOOK_ROOT_KEY=file:/etc/meshhook/root.key mh-keys root-key status --json',
  ]).action(async () => {
    const uri = atHand(app);
    const { healthy, fingerprint } = await (await openRootKey(uri, { cwd: process.cwd() })).status();
    app.terminal.result(
      { rootKey: { uri, healthy, fingerprint } },
      () => line`${uri} can ${healthy ? '' : 'not '}be used; its fingerprint is ${fingerprint}.`,
    );
    if (!healthy) {
      throw new KeyringError('root_key_unreadable', `The root key ${uri} cannot be used now.`, {
        remedy: 'See docs/runbooks/the-root-key-is-wrong-or-gone.md.',
      });
    }
  });
}

/** The one the other commands would use. */
function atHand({ settings: { rootKeyUri, databaseUrl, home } }: App): string {
  if (rootKeyUri !== undefined) return rootKeyUri;
  if (databaseUrl === undefined) return pathToFileURL(join(resolve(home), 'root.key')).href;
  throw new KeyringError('root_key_missing', 'No root key is named for the database of DATABASE_URL.', {
    remedy: 'Set MESHHOOK_ROOT_KEY to a URI such as file:./root.key.',
  });
}
