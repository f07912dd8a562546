import {
  insecureExportBackup,
  verifyBackup,
  type BackupProof,
  type BackupRecord,
  type Database,
} from '@meshhook/keyring';
import type { AgeOptions } from '@meshhook/keyring-backup';
import { Option, type Command } from 'commander';
import { opensBackup, readBackup, type OpenOptions } from '../backup-input.ts';
import { asLeaf, leaf } from '../command.ts';
import { Unhealthy } from '../exit-codes.ts';
import { outputTo } from '../output.ts';
import { readPassphrase, type PassphraseOptions } from '../passphrase.ts';
import { actor, withDatabase, type App } from '../session.ts';
import { table } from '../terminal/table.ts';
import { instant, line, plural } from '../terminal/text.ts';

interface Options extends PassphraseOptions {
  readonly recipient?: readonly string[];
  readonly output?: string;
  readonly armor?: boolean;
}

const RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudvl4u8qzvy4uv';

export function registerBackup(rootKey: Command, app: App): void {
  const backup = asLeaf(
    rootKey.command('backup'),
    'writes the wrapping keys, and a root key that is a file, as an encrypted file of age',
    [
      `mh-keys root-key backup --recipient ${RECIPIENT} > keyring.age`,
      `mh-keys root-key backup --recipient ${RECIPIENT} --output /mnt/stick/keyring.age`,
      'mh-keys root-key backup --passphrase --output keyring.age',
      'mh-keys root-key backup verify keyring.age --identity identity.txt',
    ],
  )
    .option('--recipient <age1...>', 'who may open it, each alone: public keys of age')
    .addOption(
      new Option('--passphrase', 'whoever knows a passphrase may open it (asked for twice)').conflicts('recipient'),
    )
    .addOption(
      new Option('--passphrase-file <file>', 'the passphrase, in its first line').conflicts([
        'recipient',
        'passphrase',
      ]),
    )
    .option('--output <file>', 'a new file, mode 0600, instead of standard output')
    .option('--armor', 'as text')
    .action((options: Options) => backUp(app, options));

  opensBackup(
    leaf(backup, 'verify <file>', 'opens a backup, and proves that it opens this database; `-` is standard input', [
      'mh-keys root-key backup verify keyring.age --identity identity.txt',
      'mh-keys root-key backup verify keyring.age --passphrase',
      'age -d -i yubikey.txt keyring.age | mh-keys root-key backup verify -',
    ]),
  ).action((file: string, options: OpenOptions) => verify(app, file, options));
}

async function backUp(app: App, options: Options): Promise<void> {
  const { ageRecipients } = await import('@meshhook/keyring-backup');
  const output = await outputTo(app, options.output);
  const passphrase = await readPassphrase(app, options, { twice: true });
  const to: AgeOptions = passphrase === undefined ? { recipients: options.recipient ?? [] } : { passphrase };
  const recipients = ageRecipients({ ...to, armor: options.armor === true });
  const make = (database: Database, rootKey: readonly string[]): Promise<BackupRecord> =>
    insecureExportBackup({
      ...{ database, rootKey, cwd: process.cwd(), env: app.settings.environment },
      ...{ actor: actor(), recipients: recipients.names },
      async seal(document) {
        app.signal.throwIfAborted();
        return recipients.seal(document);
      },
      async write(file) {
        app.signal.throwIfAborted();
        await output.write(file);
      },
    });
  // Once the file is being written nothing interrupts it: it gets there, and the database knows.
  const record = await withDatabase(app, make, { minds: 'signal' });
  if (output.path !== undefined) {
    const { path } = output;
    app.terminal.result({ backup: record, path }, () => line`Wrote ${path}: ${summary(record)}.`);
  } else {
    app.terminal.note(`Wrote the backup: ${summary(record)}.`);
  }
  const opener = passphrase === undefined ? '--identity IDENTITY' : '--passphrase';
  app.terminal.say(
    line`Keep it apart from the database, and see that it opens: mh-keys root-key backup verify ${output.path ?? 'FILE'} ${opener}`,
  );
}

function summary({ wrappingKeyIds, recipients, fileSha256 }: BackupRecord): string {
  const keys = plural(wrappingKeyIds.length, 'wrapping key');
  const whom = recipients[0] === 'passphrase' ? 'a passphrase' : plural(recipients.length, 'recipient');
  return `${keys}, for ${whom}, SHA-256 ${fileSha256 ?? '-'}`;
}

async function verify(app: App, file: string, options: OpenOptions): Promise<void> {
  const { terminal } = app;
  const opened = await readBackup(app, file, options);
  const prove = (database: Database): Promise<BackupProof> =>
    verifyBackup({
      ...{ database, backup: opened.backup, actor: actor(), signal: app.signal },
      ...(opened.fileSha256 === undefined ? {} : { fileSha256: opened.fileSha256 }),
      onProgress: (keys) => terminal.status(`unwrapping  ${plural(keys, 'data key')} so far`),
    });
  const proof = await withDatabase(app, prove, { withoutRootKey: true });
  terminal.result({ backup: opened.backup, proof }, () => view(app, opened.backup.createdAt, proof));
  if (!proof.complete) throw notComplete(proof);
}

function view({ terminal }: App, createdAt: Date, proof: BackupProof): string {
  const { complete, dataKeys, signingKeys, values, wrappingKeys, failures, then, now } = proof;
  const verdict = complete
    ? terminal.style('green', 'Opens this database')
    : terminal.style('red', 'Opens only a part');
  const keys = `${plural(dataKeys, 'data key')}, ${plural(signingKeys, 'signing key')}, ${plural(values, 'value')} tried`;
  const lines = [
    `${verdict}: the backup of ${instant(createdAt)}, ${keys}.`,
    '',
    table(wrappingKeys, columns, (title) => terminal.style('bold', title)),
  ];
  if (failures.length > 0) lines.push('', 'Did not open:', ...failures.map((what) => line`  ${what}`));
  if (then.newestDataKeyAt?.getTime() !== now.newestDataKeyAt?.getTime()) {
    lines.push(
      '',
      `When it was made there were ${plural(then.dataKeys, 'data key')}, the newest of ${instant(then.newestDataKeyAt)}; ` +
        `here there are ${String(now.dataKeys)}, the newest of ${instant(now.newestDataKeyAt)}.`,
    );
  }
  return lines.join('\n');
}

const columns = [
  { title: 'WRAPPING KEY', value: (one: BackupProof['wrappingKeys'][number]) => one.id },
  {
    title: 'VERSION',
    value: (one: BackupProof['wrappingKeys'][number]) => String(one.version),
    align: 'right' as const,
  },
  { title: 'IN THE BACKUP', value: (one: BackupProof['wrappingKeys'][number]) => (one.inBackup ? 'yes' : 'no') },
  {
    title: 'KEYS UNDER IT',
    value: (one: BackupProof['wrappingKeys'][number]) => String(one.keysUnderIt),
    align: 'right' as const,
  },
];

function notComplete({ wrappingKeys, failed }: BackupProof): Unhealthy {
  const missing = wrappingKeys.filter((one) => !one.inBackup).map(({ version }) => version);
  return failed > 0
    ? new Unhealthy(
        `${plural(failed, 'key or value', 'keys and values')} did not open.`,
        'Run `mh-keys doctor` with the present root key: it says whether they open at all.',
        { failed },
      )
    : new Unhealthy(
        `The backup does not hold wrapping key version ${missing.join(', ')}.`,
        'Make a new one with `mh-keys root-key backup`.',
        { missing },
      );
}
