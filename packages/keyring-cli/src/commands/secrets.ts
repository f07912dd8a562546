import { KeyringError, type Keyring, type OpenedSecret, type Project, type SecretEntry } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { readValue } from '../input.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line } from '../terminal/text.ts';
import { printValue, valueInJson } from '../terminal/value.ts';
import { registerAdopt } from './adopt.ts';

const PAGE = 10_000;

interface OfProject {
  readonly project: string;
}

export function registerSecrets(program: Command, app: App): void {
  const secrets = group(program, 'secrets', 'store, read, list, remove and adopt secrets');

  leaf(secrets, 'set <name>', 'stores a value, from standard input or a file; never from the command line', [
    "printf 'sk_live_…' | mh-keys secrets set STRIPE_KEY --project acme",
    'mh-keys secrets set STRIPE_KEY --project acme            # asks, without showing what is typed',
    'mh-keys secrets set TLS_KEY --project acme --from-file ./tls.key',
  ])
    .requiredOption('--project <project>', 'name or id')
    .option('--from-file <file>', 'read the value from there, byte for byte')
    .action(async (name: string, { project, fromFile }: OfProject & { fromFile?: string }) => {
      const stored = await withKeyring(app, (keyring) => set(app, keyring, project, name, fromFile));
      const { created } = stored.secret;
      app.terminal.result(stored, () => line`${created ? 'Stored' : 'Replaced'} ${name} in ${stored.project.name}.`);
    });

  leaf(secrets, 'get <name>', 'writes the value to standard output, byte for byte', [
    'mh-keys secrets get STRIPE_KEY --project acme',
    'STRIPE_KEY=$(mh-keys secrets get STRIPE_KEY --project acme)',
    'mh-keys secrets get TLS_KEY --project acme > tls.key',
    'mh-keys secrets get STRIPE_KEY --project acme --json     # a value that is not UTF-8 is in "valueBase64"',
  ])
    .requiredOption('--project <project>', 'name or id')
    .action(async (name: string, { project }: OfProject) => {
      await withKeyring(app, async (keyring) => {
        const owner = await keyring.projects.resolve(project);
        const secret = await keyring.secrets.get(owner.id, name);
        if (secret === undefined) throw unknownSecret(owner, name);
        show(app, owner, secret);
      });
    });

  leaf(secrets, 'list', 'lists the secrets of a project, without their values', [
    'mh-keys secrets list --project acme',
    "mh-keys secrets list --project acme --json | jq -r '.secrets[].name'",
  ])
    .requiredOption('--project <project>', 'name or id')
    .action(async ({ project }: OfProject) => {
      const listed = await withKeyring(app, async (keyring) => {
        const owner = await keyring.projects.resolve(project);
        return { project: owner, secrets: await listAll(keyring, owner.id) };
      });
      app.terminal.result(listed, () => {
        if (listed.secrets.length === 0) return line`${listed.project.name} has no secrets.`;
        return table(listed.secrets, entryColumns, (title) => app.terminal.style('bold', title));
      });
    });

  leaf(secrets, 'rm <name>', 'removes a secret', ['mh-keys secrets rm STRIPE_KEY --project acme'])
    .requiredOption('--project <project>', 'name or id')
    .action(async (name: string, { project }: OfProject) => {
      const owner = await withKeyring(app, async (keyring) => {
        const found = await keyring.projects.resolve(project);
        if (!(await keyring.secrets.remove(found.id, name))) throw unknownSecret(found, name);
        return found;
      });
      app.terminal.result({ project: owner, removed: name }, () => line`Removed ${name} from ${owner.name}.`);
    });

  registerAdopt(secrets, app);
}

async function set(app: App, keyring: Keyring, project: string, name: string, fromFile: string | undefined) {
  const owner = await keyring.projects.resolve(project);
  const value = await readValue(app, name, fromFile);
  try {
    return { project: owner, secret: { name, ...(await keyring.secrets.put(owner.id, name, value)) } };
  } finally {
    value.fill(0);
  }
}

function show(app: App, project: Project, secret: OpenedSecret): void {
  const { id, name, bytes, stale, keyId, writtenAt } = secret;
  const document = { project, secret: { id, name, ...valueInJson(bytes), stale, keyId, writtenAt } };
  if (app.terminal.json) app.terminal.result(document, () => '');
  else printValue(app, name, bytes);
  if (stale) app.terminal.note(`${name} is not under the primary version yet; a rotation moves it.`);
}

async function listAll(keyring: Keyring, projectId: string): Promise<SecretEntry[]> {
  const all: SecretEntry[] = [];
  for (;;) {
    const after = all.at(-1)?.name;
    const page = await keyring.secrets.list(projectId, { limit: PAGE, ...(after === undefined ? {} : { after }) });
    all.push(...page);
    if (page.length < PAGE) return all;
  }
}

const entryColumns: readonly Column<SecretEntry>[] = [
  { title: 'SECRET', value: ({ name }) => name },
  { title: 'VERSION', value: ({ version, keyId }) => version?.toString() ?? keyId ?? 'not adopted', align: 'right' },
  { title: 'STALE', value: ({ stale }) => (stale ? 'yes' : 'no') },
  { title: 'VALUE WRITTEN', value: ({ writtenAt }) => instant(writtenAt) },
  { title: 'CREATED', value: ({ createdAt }) => instant(createdAt) },
];

function unknownSecret(project: Project, name: string): KeyringError {
  return new KeyringError('unknown_secret', `The project "${project.name}" has no secret "${name}".`, {
    remedy: `Run \`mh-keys secrets list --project ${project.name}\` to see them.`,
    details: { projectId: project.id },
  });
}
