import { open, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KeyringError, openKeyring, pgDatabase } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { confirm } from '../confirm.ts';
import { actor, rootKeys, withHost, type App } from '../session.ts';
import { line, plural } from '../terminal/text.ts';
import { moment } from './audit.ts';

interface Options {
  readonly before: Date;
  readonly to: string;
  readonly reason: string;
  readonly yes?: boolean;
}

/** As the login that migrates: nobody else may remove an entry. */
export function registerAuditArchive(audit: Command, app: App): void {
  leaf(audit, 'archive', 'writes what was sealed before a date to a file, and removes it from the database', [
    "mh-keys audit archive --before 2026-01-01 --to audit-2025.jsonl --reason 'kept for seven years, elsewhere' --yes",
    'mh-keys audit verify --archive audit-2025.jsonl',
  ])
    .requiredOption('--before <time>', 'whole ranges that were sealed before, as 2026-01-01', moment)
    .requiredOption('--to <file>', 'a new file, mode 0600')
    .requiredOption('--reason <text>', 'why, for the audit log')
    .option('--yes', 'do not ask')
    .action((options: Options) => archive(app, options));
}

async function archive(app: App, { before, to, reason, yes }: Options): Promise<void> {
  const path = resolve(to);
  if (yes !== true) {
    await confirm(app, {
      warning: 'Entries leave the database for good, and are in that file alone.',
      ...{ wanted: 'archive', what: 'word archive', remedy: 'Add --yes, or type it as it is.' },
    });
  }
  const done = await withHost(app, {}, async ({ databaseUrl, migrationUrl, rootKeyUri }) => {
    const owner = pgDatabase({ connectionString: migrationUrl, maxConnections: 1, applicationName: 'mh-keys' });
    const keyring = await openKeyring({
      ...{ database: databaseUrl, rootKey: rootKeys(app.settings, rootKeyUri), env: app.settings.environment },
      actor: actor(),
    });
    try {
      return await keyring.audit.archive({
        ...{ before, reason, owner, signal: app.signal },
        write: (text) => writeNew(path, text),
      });
    } finally {
      await keyring.close();
      await owner.close();
    }
  });
  app.terminal.result(
    { archive: { ...done, path } },
    () => line`Wrote ${path}: ${plural(done.entries, 'entry', 'entries')}, SHA-256 ${done.fileSha256}.`,
  );
  app.terminal.say('Keep it, and a copy of it, apart from the database.');
}

/** All of it, or nothing: what is half written is taken away again. */
async function writeNew(path: string, text: AsyncIterable<string>): Promise<void> {
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new KeyringError('backup_exists', `There is a file at ${path} already.`, {
      remedy: 'Name another: an archive is never overwritten.',
      details: { path },
    });
  });
  try {
    for await (const part of text) await file.writeFile(part);
    await file.sync();
    await file.close();
    await syncFolder(dirname(path));
  } catch (error) {
    await file.close().catch(() => undefined);
    await unlink(path).catch(() => undefined);
    throw error;
  }
}

/** Its name is safe as well: entries are removed for it. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  // Some file systems cannot.
  await folder.sync().catch(() => undefined);
  await folder.close();
}
