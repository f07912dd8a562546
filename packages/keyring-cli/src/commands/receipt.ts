import { KeyringError, verifyReceipt, type VerifiedReceipt } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { readInputFile } from '../input.ts';
import type { App } from '../session.ts';

export function registerReceipt(program: Command, app: App): void {
  const receipt = group(program, 'receipt', 'signed receipts of finished rotations: check them anywhere');

  leaf(receipt, 'verify <file>', 'checks receipts offline: needs no database and no root key', [
    'mh-keys rotations receipts 94d3a8f7-bdbf-4a79-88fc-954e5564606d > receipts.jsonl',
    'mh-keys receipt verify receipts.jsonl --public-key 7UFlqCkRbJcEGXNxqKkAH1xE0WbqkiSBbK0YfmMXtp0=',
  ])
    .option('--public-key <base64>', 'the signing key you kept from before; without it, only that nothing was changed')
    .action(async (file: string, { publicKey }: { publicKey?: string }) => {
      const trusted = publicKey === undefined ? undefined : publicKeyBytes(publicKey);
      const verified = documents((await readInputFile(file)).toString('utf8')).map((one) =>
        verifyReceipt(one, trusted),
      );
      app.terminal.result({ receipts: verified }, () => verified.map(summary).join('\n'));
      if (trusted === undefined) {
        app.terminal.note('Checked with the keys the receipts bring along; --public-key also proves who signed them.');
      }
    });
}

function publicKeyBytes(base64: string): Buffer {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length === 32 && bytes.toString('base64') === base64) return bytes;
  throw new KeyringError('invalid_argument', 'The public key is not 32 bytes in base64.', {
    remedy: 'It is the field publicKey of a receipt that you trust.',
  });
}

/** One receipt, JSON Lines of them, or what `rotations receipts --json` prints. */
function documents(text: string): unknown[] {
  try {
    const whole = JSON.parse(text) as { receipts?: unknown };
    return Array.isArray(whole.receipts) ? whole.receipts : [whole];
  } catch {
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    try {
      if (lines.length > 0) return lines.map((line) => JSON.parse(line) as unknown);
    } catch {
      // Told below, like a file without a line.
    }
    throw new KeyringError('invalid_argument', 'The file holds no receipts.', {
      remedy: 'Make one with `mh-keys rotations receipts ID > FILE`.',
    });
  }
}

function summary({ content, keyId, trusted }: VerifiedReceipt): string {
  const { outcome, project, rotation, finalizedAt } = content as Record<string, unknown> & {
    project?: { name?: string };
  };
  const by = trusted ? `signed by ${keyId}` : `whole, by its own key ${keyId}`;
  return `valid: ${JSON.stringify(project?.name)} ${String(outcome)} in ${String(rotation)} at ${String(finalizedAt)}, ${by}`;
}
