import { existsSync } from 'node:fs';
import path from 'node:path';
import {
  KeyringError,
  permissions,
  type AccessToken,
  type Approval,
  type Grant,
  type GrantableRole,
  type Grants,
  type Keyring,
  type Permission,
} from '@meshhook/keyring';
import { InvalidArgumentError, type Command } from 'commander';
import { group, leaf, wholeNumber } from '../command.ts';
import { pagedAfter, pagedBefore, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line } from '../terminal/text.ts';

const grantable: readonly GrantableRole[] = ['instance_admin', 'project_admin', 'auditor', 'service'];

/** Who may do what, for whoever has a shell: tokens, grants, sign-in links. */
export function registerAccess(program: Command, app: App): void {
  registerTokens(program, app);
  registerGrants(program, app);
  registerApprovals(program, app);

  leaf(program, 'sign-in', 'prints a link that signs in to the page, once, within ten minutes', [
    'mh-keys sign-in',
    'mh-keys sign-in --url https://keys.internal --person person:ada',
  ])
    .option('--url <url>', 'where the page is', 'http://127.0.0.1:8080')
    .option('--person <person>', 'who will be signed in: operator, person:NAME or user:ID', 'operator')
    .action(async ({ url, person }: { url: string; person: string }) => {
      if (!URL.canParse(url)) throw new InvalidArgumentError('--url takes an address.');
      const { secret, expiresAt } = await withKeyring(app, (keyring) => keyring.access.sessions.createLink({ person }));
      const link = `${new URL('/sign-in', url).href}#${secret}`;
      app.terminal.result({ link, expiresAt }, () => link);
    });
}

function registerTokens(program: Command, app: App): void {
  const token = group(program, 'token', 'API tokens: make, list and revoke them');

  leaf(token, 'create <name>', 'makes a token, and prints it this once', [
    'mh-keys token create deploy --permission keys:read --permission keys:rotate --project acme',
    'mh-keys token create vault-reader --role service --project acme --days 30',
    'mh-keys token create ada-laptop --role instance_admin --person person:ada',
  ])
    .option('--role <role>', `one of ${grantable.join(', ')}`, oneOf(grantable))
    .option('--permission <permission>', 'instead of a role; may be given again', collect(oneOf(permissions)))
    .option('--project <project>', 'name or id; may be given again (default: all projects)', collect(String))
    .option('--days <n>', 'how long it lives (default: 90)', wholeNumber(1, 3650))
    .option('--person <person>', 'whose it is: it does no more than they may by now (default: operator)')
    .action(async (name: string, options: TokenOptions) => {
      const { role, permission, project: named, days, person } = options;
      const made = await withKeyring(app, async (keyring) => {
        const projects = [];
        for (const one of named ?? []) projects.push((await keyring.projects.resolve(one)).id);
        return keyring.access.tokens.create({
          name,
          ...(role === undefined ? {} : { role }),
          ...(permission === undefined ? {} : { permissions: permission }),
          ...(named === undefined ? {} : { projects }),
          ...(days === undefined ? {} : { expiresInDays: days }),
          ...(person === undefined ? {} : { person }),
        });
      });
      app.terminal.result({ token: made.token, entry: made.entry }, () => made.token);
    });

  const tokens = leaf(token, 'list', 'lists tokens, newest first, without the tokens', [
    'mh-keys token list',
    'mh-keys token list --json',
  ]);
  pagedBefore(tokens, { most: 1_000, of: 'token' }).action(async (page: Page) => {
    const { found, names } = await withKeyring(app, async (keyring) => {
      const found = await keyring.access.tokens.list(page);
      // Of several, the table says how many.
      const alone = found.flatMap(({ projects }) => (projects.length === 1 && projects !== 'all' ? projects : []));
      return { found, names: await projectNames(keyring, alone) };
    });
    app.terminal.result({ tokens: found }, () =>
      found.length === 0
        ? 'There is no token.'
        : table(found, tokenColumns(names), (title) => app.terminal.style('bold', title)),
    );
    sayMore(app.terminal, found, page, ({ id }) => `--before ${id}`);
    sayServersOwn(app);
  });

  leaf(token, 'revoke <id>', 'revokes a token: nobody gets in with it from now on', [
    'mh-keys token revoke 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11',
  ]).action(async (id: string) => {
    const revoked = await withKeyring(app, (keyring) => keyring.access.tokens.revoke(id));
    app.terminal.result({ token: revoked }, () => line`Revoked ${revoked.name}.`);
  });
}

/** The token of `npm start`, an instance admin's, is a file's and no row's: who looks for what leaked has to know of it. */
function sayServersOwn({ settings, terminal }: App): void {
  const file = path.resolve(settings.home, 'api-token');
  if (!existsSync(file)) return;
  terminal.note(
    line`Not in the list: the server’s own in ${file}. To change it, remove the file and start the server again.`,
  );
}

interface TokenOptions {
  readonly role?: GrantableRole;
  readonly permission?: readonly Permission[];
  readonly project?: readonly string[];
  readonly days?: number;
  readonly person?: string;
}

function registerGrants(program: Command, app: App): void {
  const grant = group(program, 'grant', 'which person has which role where');

  leaf(grant, 'add <person> <role>', 'gives a person a role, in a project or in the whole instance', [
    'mh-keys grant add person:ada instance_admin',
    'mh-keys grant add user:6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11 project_admin --project acme',
  ])
    .option('--project <project>', 'name or id (default: the whole instance)')
    .option('--reason <text>', 'why, for the audit log')
    .action(async (person: string, role: GrantableRole, { project, reason }: { project?: string; reason?: string }) => {
      const made = await withKeyring(app, async (keyring) =>
        keyring.access.grants.add({
          ...{ person, role },
          ...(project === undefined ? {} : { projectId: (await keyring.projects.resolve(project)).id }),
          ...(reason === undefined ? {} : { reason }),
        }),
      );
      app.terminal.result({ grant: made }, () => line`${made.person} is ${made.role} now.`);
    });

  const list = leaf(grant, 'list', 'lists who has which role where, by person', ['mh-keys grant list']);
  pagedAfter(list, { most: 10_000, of: 'grant' }).action(async (page: Page) => {
    const { grants, warnings, names } = await withKeyring(app, async (keyring) => {
      const { access } = keyring;
      const grants = await access.grants.list({ limit: page.limit, ...(await positionOf(access.grants, page)) });
      const names = await projectNames(
        keyring,
        grants.flatMap(({ projectId }) => projectId ?? []),
      );
      return { grants, names, warnings: await access.warnings() };
    });
    app.terminal.result({ grants, warnings }, () =>
      [
        grants.length === 0
          ? 'Nobody was granted anything.'
          : table(grants, grantColumns(names), (title) => app.terminal.style('bold', title)),
        ...warnings.map(({ message, remedy }) => line`warning: ${message} ${remedy}`),
      ].join('\n'),
    );
    sayMore(app.terminal, grants, page, ({ id }) => `--after ${id}`);
  });

  leaf(grant, 'remove <id>', 'takes a role away', ['mh-keys grant remove 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11'])
    .option('--reason <text>', 'why, for the audit log')
    .action(async (id: string, { reason }: { reason?: string }) => {
      const gone = await withKeyring(app, (keyring) =>
        keyring.access.grants.remove(id, reason === undefined ? {} : { reason }),
      );
      app.terminal.result({ grant: gone }, () => line`${gone.person} is no ${gone.role} any more.`);
    });
}

/** @throws KeyringError `unknown_grant`: one that is gone says nothing of where it was. */
async function positionOf(grants: Grants, { after: id }: Page): Promise<{ readonly after?: Grant }> {
  if (id === undefined) return {};
  const after = await grants.get(id);
  if (after !== undefined) return { after };
  throw new KeyringError('unknown_grant', `There is no grant ${id}.`, { remedy: 'Run `mh-keys grant list`.' });
}

function registerApprovals(program: Command, app: App): void {
  const approval = group(program, 'approval', 'the rule of two people: what waits for another admin');

  const list = leaf(approval, 'list', 'lists what was asked for that takes two people, the newest first', [
    'mh-keys approval list --open',
  ]);
  pagedBefore(list, { most: 1_000, of: 'approval' })
    .option('--open', 'only what can still be decided or done')
    .action(async (page: Page & { open?: boolean }) => {
      const approvals = await withKeyring(app, (keyring) => keyring.access.approvals.list(page));
      app.terminal.result({ approvals }, () =>
        approvals.length === 0
          ? 'Nothing was asked for.'
          : table(approvals, approvalColumns, (title) => app.terminal.style('bold', title)),
      );
      sayMore(app.terminal, approvals, page, ({ id }) => `--before ${id}`);
    });

  for (const [verb, does] of [
    ['approve', 'lets the person who asked do it, once, within 24 hours of asking'],
    ['reject', 'refuses it, or takes it back'],
  ] as const) {
    leaf(approval, `${verb} <id>`, does, [`mh-keys approval ${verb} 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11`]).action(
      async (id: string) => {
        const decided = await withKeyring(app, (keyring) => keyring.access.approvals[verb](id));
        app.terminal.result(
          { approval: decided },
          () => line`${decided.action} of ${decided.subject}: ${decided.state}.`,
        );
      },
    );
  }

  leaf(approval, 'rule <on|off>', 'switches the rule of two people on, or off, which takes two people', [
    "mh-keys approval rule on --reason 'there are two of us'",
  ])
    .requiredOption('--reason <text>', 'why, for the audit log')
    .action(async (state: string, { reason }: { reason: string }) => {
      const rule = await withKeyring(app, (keyring) =>
        keyring.access.setRule(oneOf(['on', 'off'])(state) === 'on', { reason }),
      );
      app.terminal.result({ rule }, () =>
        rule.inForce
          ? 'The rule is in force.'
          : `The rule is not in force (${rule.wanted ? 'one admin' : 'switched off'}).`,
      );
    });
}

function oneOf<T extends string>(words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((one) => one === text);
    if (word === undefined) throw new InvalidArgumentError(`It is one of ${words.join(', ')}.`);
    return word;
  };
}

function collect<T>(parse: (text: string) => T): (text: string, before?: readonly T[]) => T[] {
  return (text, before = []) => [...before, parse(text)];
}

/** What these projects are called; one that is gone has no name. */
async function projectNames(keyring: Keyring, ids: readonly string[]): Promise<Names> {
  if (ids.length === 0) return new Map();
  const among = [...new Set(ids)];
  const projects = await keyring.projects.list({ among, limit: among.length });
  return new Map(projects.map(({ id, name }) => [id, name]));
}

type Names = ReadonlyMap<string, string>;

const tokenColumns = (names: Names): readonly Column<AccessToken>[] => [
  { title: 'TOKEN', value: ({ id }) => id },
  { title: 'NAME', value: ({ name }) => name },
  { title: 'MAY', value: ({ role, permissions: some = [] }) => role ?? some.join(' ') },
  {
    title: 'PROJECTS',
    value: ({ projects }) => {
      if (projects === 'all') return 'all';
      const [only = ''] = projects;
      return projects.length === 1 ? (names.get(only) ?? only) : String(projects.length);
    },
  },
  { title: 'PERSON', value: ({ person }) => person },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'EXPIRES', value: ({ expiresAt }) => instant(expiresAt) },
  { title: 'LAST USED', value: ({ lastUsedAt }) => instant(lastUsedAt) },
];

const grantColumns = (names: Names): readonly Column<Grant>[] => [
  { title: 'GRANT', value: ({ id }) => id },
  { title: 'PERSON', value: ({ person }) => person },
  { title: 'ROLE', value: ({ role }) => role },
  {
    title: 'PROJECT',
    value: ({ projectId }) => (projectId === undefined ? 'all' : (names.get(projectId) ?? projectId)),
  },
  { title: 'BY', value: ({ grantedBy }) => grantedBy },
  { title: 'SINCE', value: ({ grantedAt }) => instant(grantedAt) },
];

const approvalColumns: readonly Column<Approval>[] = [
  { title: 'APPROVAL', value: ({ id }) => id },
  { title: 'FOR', value: ({ action }) => action },
  { title: 'OF', value: ({ subject }) => subject },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'ASKED BY', value: ({ requester }) => requester },
  { title: 'UNTIL', value: ({ expiresAt }) => instant(expiresAt) },
];
