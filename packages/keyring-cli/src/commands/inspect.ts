import { inspectEnvelope, KeyringError } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { decodeEnvelopeInput, readStdin } from '../input.ts';
import type { App } from '../session.ts';
import { plural } from '../terminal/text.ts';

export function registerInspect(program: Command, app: App): void {
  leaf(
    program,
    'inspect',
    'explains an envelope given on standard input, without opening it: needs no key, no database',
    [
      'psql -Atc "select value_encrypted from secrets limit 1" | mh-keys inspect',
      'mh-keys inspect < envelope.bin',
      'base64 envelope.bin | mh-keys inspect --json',
    ],
  ).action(async () => {
    if (app.stdin.isTTY === true) app.terminal.say('Paste an envelope (hex or base64), then Enter and Ctrl-D:');
    const input = await readStdin(app);
    if (input.length === 0) {
      throw new KeyringError('malformed_envelope', 'Standard input is empty.', {
        remedy: 'Pipe an envelope into it: bytes, hex, or base64.',
      });
    }
    const { bytes, encoding } = decodeEnvelopeInput(input);
    const envelope = { ...inspectEnvelope(bytes), encoding };
    app.terminal.result({ envelope }, () => {
      const { formatVersion, algorithm, keyId, nonce, plaintextBytes, totalBytes } = envelope;
      return [
        `format version  ${String(formatVersion)}`,
        `algorithm       ${algorithm}`,
        `key             ${keyId}`,
        `nonce           ${nonce}`,
        `value           ${plural(plaintextBytes, 'byte')}, encrypted`,
        `in all          ${plural(totalBytes, 'byte')}, read as ${encoding}`,
        'It was not opened: whether it is genuine, only its key can tell.',
      ].join('\n');
    });
  });
}
