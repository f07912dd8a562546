import { KeyringError, type EncryptedColumnEntry } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { readValue } from '../input.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { line } from '../terminal/text.ts';
import { printValue, valueInJson } from '../terminal/value.ts';
import { registerAdopt } from './adopt.ts';

interface OfProject {
  readonly project: string;
}

export function registerColumns(program: Command, app: App): void {
  const columns = group(program, 'columns', 'read, set and adopt values in encrypted columns of your own tables');

  leaf(columns, 'list', 'lists the registered columns', ['mh-keys columns list']).action(async () => {
    const found = await withKeyring(app, (keyring) => keyring.columns.list());
    app.terminal.result({ columns: found }, () => table(found, listed, (title) => app.terminal.style('bold', title)));
  });

  leaf(columns, 'set <label> <row>', 'sets the value of a row that is there, from standard input or a file', [
    "printf 'whsec_…' | mh-keys columns set webhooks.signing_secret 42 --project acme",
    'mh-keys columns set webhooks.signing_secret 42 --project acme    # asks, without showing what is typed',
  ])
    .requiredOption('--project <project>', 'name or id')
    .option('--from-file <file>', 'read the value from there, byte for byte')
    .action(async (label: string, rowId: string, { project, fromFile }: OfProject & { fromFile?: string }) => {
      const stored = await withKeyring(app, async (keyring) => {
        const owner = await keyring.projects.resolve(project);
        const value = await readValue(app, `${label} of ${rowId}`, fromFile);
        try {
          const { keyId } = await keyring.columns.set(label, { projectId: owner.id, rowId }, value);
          return { project: owner, label, row: rowId, keyId };
        } finally {
          value.fill(0);
        }
      });
      app.terminal.result(stored, () => line`Set ${label} of row ${rowId} in ${stored.project.name}.`);
    });

  leaf(columns, 'get <label> <row>', 'writes the value of a row to standard output, byte for byte', [
    'mh-keys columns get webhooks.signing_secret 42 --project acme',
    'mh-keys columns get webhooks.signing_secret 42 --project acme --json    # "valueBase64" where it is not UTF-8',
  ])
    .requiredOption('--project <project>', 'name or id')
    .action(async (label: string, rowId: string, { project }: OfProject) => {
      await withKeyring(app, async (keyring) => {
        const owner = await keyring.projects.resolve(project);
        const found = await keyring.columns.get(label, { projectId: owner.id, rowId });
        if (found === undefined) throw noValue(label, rowId, owner.name);
        const { bytes, keyId } = found;
        const document = { project: owner, label, row: found.rowId, ...valueInJson(bytes), keyId };
        if (app.terminal.json) app.terminal.result(document, () => '');
        else printValue(app, `${label} of ${rowId}`, bytes);
      });
    });

  registerAdopt(columns, app, '<label>');
}

const listed: readonly Column<EncryptedColumnEntry>[] = [
  { title: 'LABEL', value: ({ label }) => label },
  { title: 'TABLE', value: ({ table: name }) => name },
  { title: 'VALUE', value: ({ ciphertextColumn }) => ciphertextColumn },
  { title: 'KEY', value: ({ keyIdColumn }) => keyIdColumn },
  { title: 'ROW', value: ({ rowIdColumn, rowIdType }) => `${rowIdColumn} ${rowIdType}` },
  { title: 'PLAINTEXT', value: ({ acceptsPlaintext }) => (acceptsPlaintext ? 'until adopted' : 'refused') },
];

function noValue(label: string, rowId: string, project: string): KeyringError {
  return new KeyringError('unknown_secret', `The project "${project}" has no value in row ${rowId} of ${label}.`, {
    remedy: 'Run `mh-keys columns list` to see which table that is.',
  });
}
