import { type Notification, type NotificationEndpoint, type NotificationEvent } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { readStdin } from '../input.ts';
import { pagedBefore, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line } from '../terminal/text.ts';

export function registerNotifications(program: Command, app: App): void {
  const notifications = group(program, 'notifications', 'webhooks that tell one endpoint what happened');
  const { terminal } = app;

  leaf(notifications, 'show', 'where they go, and of what', ['mh-keys notifications show']).action(async () => {
    const endpoint = await withKeyring(app, (keyring) => keyring.notifications.show());
    terminal.result({ endpoint: endpoint ?? null }, () =>
      endpoint === undefined ? 'Nobody is told anything: `mh-keys notifications set URL`.' : inWords(endpoint),
    );
  });

  leaf(notifications, 'set <url>', 'sets the endpoint; a secret that is made for it is shown once', [
    'mh-keys notifications set https://example.com/hooks/keyring',
    'mh-keys notifications set https://example.com/hooks/keyring --event rotation.failed --event key.compromised',
    'mh-keys notifications set https://example.com/hooks/keyring --secret-stdin < secret.txt',
    'mh-keys notifications set https://example.com/hooks/keyring --new-secret',
  ])
    .option('--event <event>', 'only this; more than once for more', collect)
    .option('--secret-stdin', 'the signing secret, `whsec_…`, from standard input instead of a new one')
    .option('--new-secret', 'make a new one; the old one signs nothing any more')
    .action(async (url: string, { event, secretStdin, newSecret }: SetOptions) => {
      const secret = secretStdin === true ? (await readStdin(app)).toString('utf8').trim() : undefined;
      const set = await withKeyring(app, (keyring) =>
        keyring.notifications.set({
          url,
          ...(event === undefined ? {} : { events: event as NotificationEvent[] }),
          ...(secret === undefined ? {} : { secret }),
          ...(newSecret === true ? { newSecret } : {}),
        }),
      );
      terminal.result({ endpoint: set.endpoint, secret: set.secret ?? null }, () =>
        [
          inWords(set.endpoint),
          ...(set.secret === undefined ? [] : [`Its secret, shown this once: ${set.secret}`]),
          'Try it: `mh-keys notifications test`, then `mh-keys notifications log`.',
        ].join('\n'),
      );
    });

  leaf(notifications, 'test', 'puts a message into the queue, which a worker delivers', [
    'mh-keys notifications test',
  ]).action(async () => {
    const sent = await withKeyring(app, (keyring) => keyring.notifications.test());
    terminal.result({ notification: sent }, () => `${sent.id}: \`mh-keys notifications log\` says what becomes of it.`);
  });

  const log = leaf(notifications, 'log', 'what was told, and how its delivery went, the newest first', [
    'mh-keys notifications log',
  ]);
  pagedBefore(log, { most: 1_000, usual: 50, of: 'notification' }).action(async (page: Page) => {
    const told = await withKeyring(app, (keyring) => keyring.notifications.log(page));
    terminal.result({ notifications: told }, () =>
      told.length === 0 ? 'Nothing was told yet.' : table(told, columns, (title) => terminal.style('bold', title)),
    );
    sayMore(terminal, told, page, ({ id }) => `--before ${id}`);
  });

  leaf(notifications, 'unset', 'nobody is told anything any more', ['mh-keys notifications unset']).action(async () => {
    await withKeyring(app, (keyring) => keyring.notifications.unset());
    terminal.result({ endpoint: null }, () => 'Nobody is told anything any more.');
  });
}

interface SetOptions {
  readonly event?: readonly string[];
  readonly secretStdin?: boolean;
  readonly newSecret?: boolean;
}

function inWords({ url, events, changedAt, changedBy }: NotificationEndpoint): string {
  return line`${url} is told of ${events.join(', ')} (${changedBy}, ${instant(changedAt)}).`;
}

const columns: readonly Column<Notification>[] = [
  { title: 'NOTIFICATION', value: ({ id }) => id },
  { title: 'EVENT', value: ({ event }) => event },
  { title: 'AT', value: ({ createdAt }) => instant(createdAt) },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'TRIES', value: ({ attempts }) => String(attempts), align: 'right' },
  { title: 'LAST', value: ({ lastAttemptAt }) => instant(lastAttemptAt) },
  {
    title: 'SAID',
    value: ({ lastError, lastStatus }) => lastError ?? (lastStatus === undefined ? '-' : String(lastStatus)),
  },
];

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
