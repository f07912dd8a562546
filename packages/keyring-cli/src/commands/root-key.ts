import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createRootKey, KeyringError, openRootKey } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { describeBackup, lastBackup } from '../last-backup.ts';
import type { App } from '../session.ts';
import { line } from '../terminal/text.ts';
import { registerBackup } from './backup.ts';
import { registerRecover } from './recover.ts';
import { registerRootKeyRotation } from './root-key-rotate.ts';

export function registerRootKey(program: Command, app: App): void {
  const rootKey = group(program, 'root-key', 'the key that unlocks all others, kept outside the database');

  leaf(rootKey, 'create <uri>', 'makes a root key: in a new file that only its owner can read, or in an HSM', [
    'mh-keys root-key create file:./root.key',
    'mh-keys root-key create file:/etc/meshhook/root.key',
    "mh-keys root-key create 'pkcs11:token=MeshHook;object=root?module-path=/usr/lib/hsm.so&pin-source=file:/run/hsm-pin'",
  ]).action(async (uri: string) => {
    const created = await createRootKey(uri, { cwd: process.cwd(), env: app.settings.environment });
    app.terminal.result({ rootKey: { uri, ...created } }, () =>
      [
        line`Made a root key in ${created.path ?? 'the HSM'}, fingerprint ${created.fingerprint}.`,
        created.path === undefined
          ? "Back it up by the HSM's own means: whoever loses it loses every secret."
          : 'Keep a copy of that file elsewhere: whoever loses it loses every secret.',
        line`Use it with MESHHOOK_ROOT_KEY=${/^[\w:./@%+-]+$/.test(uri) ? uri : `'${uri}'`}`,
      ].join('\n'),
    );
  });

  leaf(rootKey, 'status', 'which root key is at hand, whether it can be used, and when it was last backed up', [
    'mh-keys root-key status',
    'MESHHOOK_ROOT_KEY=file:/etc/meshhook/root.key mh-keys root-key status --json',
  ]).action(async () => {
    const uri = atHand(app);
    const provider = await openRootKey(uri, { cwd: process.cwd(), env: app.settings.environment });
    const { healthy, fingerprint, trouble } = await provider.status();
    const backup = await lastBackup(app);
    app.terminal.result({ rootKey: { uri, healthy, fingerprint }, lastBackup: backup }, () =>
      [
        line`${uri} can ${healthy ? '' : 'not '}be used; its fingerprint is ${fingerprint}.`,
        ...describeBackup(backup),
      ].join('\n'),
    );
    if (trouble !== undefined) throw trouble;
    if (!healthy) {
      throw new KeyringError('root_key_unreadable', `The root key ${uri} cannot be used now.`, {
        remedy: 'See docs/runbooks/the-root-key-is-wrong-or-gone.md.',
      });
    }
  });

  registerBackup(rootKey, app);
  registerRecover(rootKey, app);
  registerRootKeyRotation(rootKey, app);
}

/** The one the other commands would use. */
function atHand({ settings: { rootKeyUri, databaseUrl, home } }: App): string {
  if (rootKeyUri !== undefined) return rootKeyUri;
  if (databaseUrl === undefined) return pathToFileURL(join(resolve(home), 'root.key')).href;
  throw new KeyringError('root_key_missing', 'No root key is named for the database of DATABASE_URL.', {
    remedy: 'Set MESHHOOK_ROOT_KEY to a URI such as file:./root.key.',
  });
}
