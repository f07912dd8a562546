/** `root-key rotate` and what goes with it: the move to another root key. */
import { KeyringError, type Keyring, type RootKeyEntry, type RootRotation } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { pagedBefore, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line, plural } from '../terminal/text.ts';
import { collect, driveUpper, leftPrepared, noneOpen, openOne, type DriveOptions } from '../upper-keys.ts';
import { driveWrapping, requireEnd as requireWrappingEnd, summary as wrappingSummary } from './wrapping-key.ts';

const ID = '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11';

// What no rotation can do, said wherever a root key is replaced because it leaked.
const HONESTLY =
  'A new root key does not take back what leaked. Whoever has the old one and a copy of the database from before opens the\n' +
  'wrapping key in that copy, with it every data key of that time, and every value. If a copy may be in other hands, too:\n' +
  'move every project off its key with `mh-keys rotate --all --full-speed`, and change the values where they come from\n' +
  '(docs/runbooks/root-key-leaked.md).';

interface RotateOptions extends DriveOptions {
  readonly to?: string;
  readonly reason?: string;
  readonly leaked?: boolean;
}

export function registerRootKeyRotation(rootKey: Command, app: App): void {
  const rotates = leaf(
    rootKey,
    'rotate',
    'moves everything under another root key, online, or goes on with the open move',
    [
      'mh-keys root-key rotate --to file:/etc/meshhook/next.key',
      "mh-keys root-key rotate --to file:./next.key --leaked --reason 'a laptop was stolen'",
      `mh-keys root-key rotate --to file:./next.key --force-past ${ID}   # does not wait for that process`,
      'mh-keys root-key rotate --to file:./next.key --no-wait',
    ],
  );
  rotates
    .option('--to <uri>', 'the new root key (default: MESHHOOK_NEXT_ROOT_KEY)')
    .option('--reason <text>', 'why, for the audit log')
    .option('--leaked', 'others know the present one: it is compromised for good, and the wrapping key is rotated, too')
    .option('--force-past <instance>', 'a live process that is not waited for; may be given again', collect)
    .option('--no-wait', 'leave it prepared while a live process cannot use the new one yet')
    .action((options: RotateOptions) => rotate(app, options));

  leaf(rootKey, 'cancel', 'takes the open move back: what the new root key wrapped for it is erased', [
    'mh-keys root-key cancel',
  ]).action(async () => {
    const rotation = await withKeyring(app, async (keyring) => {
      const open = openOne(await keyring.rootKeys.rotations());
      if (open === undefined) throw noneOpen('root');
      return keyring.rootKeys.cancel(open.id);
    });
    app.terminal.result({ rotation }, () => line`Canceled: everything is under ${rotation.from.uri}, as before.`);
  });

  leaf(rootKey, 'list', 'the root keys that are known here, and which processes can use them', [
    'mh-keys root-key list',
    'mh-keys root-key list --json | jq \'.rootKeys[] | select(.state == "enabled")\'',
  ]).action(async () => {
    const { rootKeys, troubles } = await withKeyring(app, async (keyring) => ({
      rootKeys: await keyring.rootKeys.list(),
      troubles: keyring.rootKeys.troubles().map(({ name, error }) => ({ name, message: error.message })),
    }));
    app.terminal.result({ rootKeys, troubles }, () =>
      [
        table(rootKeys, keyColumns, (title) => app.terminal.style('bold', title)),
        ...troubles.map(({ name, message }) => line`${name} cannot be used: ${message}`),
      ].join('\n'),
    );
  });

  const history = leaf(rootKey, 'rotations', 'the history of moves from one root key to another, the newest first', [
    'mh-keys root-key rotations',
    'mh-keys root-key rotations --json',
  ]);
  pagedBefore(history, { most: 500, of: 'rotation' }).action(async (page: Page) => {
    const rotations = await withKeyring(app, (keyring) => keyring.rootKeys.rotations(page));
    app.terminal.result({ rotations }, () =>
      rotations.length === 0
        ? 'The root key was never rotated.'
        : table(rotations, rotationColumns, (title) => app.terminal.style('bold', title)),
    );
    sayMore(app.terminal, rotations, page, ({ id }) => `--before ${id}`);
  });
}

async function rotate(app: App, options: RotateOptions): Promise<void> {
  const { terminal, settings } = app;
  const to = options.to ?? settings.nextRootKeyUri;
  await withKeyring(
    app,
    async (keyring) => {
      const open = await openOrAsked(app, keyring, to, options);
      const { rotation, waitingFor } = await driveUpper<RootRotation>(app, options, describe, (run) =>
        keyring.rootKeys.run(open.id, run),
      );
      if (rotation.state === 'prepared') {
        terminal.result({ rotation, waitingFor }, () => leftPrepared('root', waitingFor));
        return;
      }
      const done = rotation.state === 'completed';
      const second = done && rotation.leaked ? await leakedHalf(keyring) : undefined;
      if (second === undefined) {
        terminal.result({ rotation, waitingFor }, () => summary(rotation));
        requireEnd(rotation);
        return;
      }
      terminal.say(
        line`Everything is under ${rotation.to.uri}; ${rotation.from.uri} is compromised. Next, the wrapping key.`,
      );
      const wrapping = await driveWrapping(app, keyring, second, options);
      terminal.result({ rotation, wrappingRotation: wrapping.rotation, waitingFor: wrapping.waitingFor }, () =>
        wrapping.rotation.state === 'prepared'
          ? leftPrepared('wrapping', wrapping.waitingFor)
          : [summary(rotation), '', wrappingSummary(app, wrapping.rotation), '', HONESTLY].join('\n'),
      );
      if (wrapping.rotation.state !== 'prepared') requireWrappingEnd(wrapping.rotation, 'completed');
    },
    // Named again after the old one has gone, it is what the rest of the job is opened with.
    { minds: 'signal', ...(to === undefined ? {} : { rootKey: to }) },
  );
}

/** The open move, if it goes there; the one before it, whose second half is still to do; or a new one. */
async function openOrAsked(
  app: App,
  keyring: Keyring,
  to: string | undefined,
  { reason, leaked = false }: RotateOptions,
): Promise<RootRotation> {
  const rotations = await keyring.rootKeys.rotations();
  const open = openOne(rotations);
  if (open === undefined) {
    const [last] = rotations;
    if (last?.leaked === true && (await leakedHalf(keyring)) !== undefined) return last;
    if (to === undefined) throw nowhere();
    return keyring.rootKeys.request({ to, leaked, ...(reason === undefined ? {} : { reason }) });
  }
  if (leaked && !open.leaked) {
    throw new KeyringError(
      'rotation_in_progress',
      'A move is open that does not take the present root key for leaked.',
      {
        remedy: 'Cancel it with `mh-keys root-key cancel`, and run this again.',
        details: { rotationId: open.id },
      },
    );
  }
  if (to === undefined) return open;
  if ((await keyring.rootKeys.use(to)) !== open.to.fingerprint) throw elsewhere(open);
  app.signal.throwIfAborted();
  return open;
}

/** The rotation of the wrapping key that a leaked root key leaves to do. */
async function leakedHalf(keyring: Keyring): Promise<string | undefined> {
  const open = openOne(await keyring.wrappingKeys.rotations());
  if (open?.leaked !== true) return undefined;
  if (open.state === 'blocked') await keyring.wrappingKeys.resume(open.id);
  return open.id;
}

function describe({ state, from, to }: RootRotation): string {
  if (state === 'requested') return line`preparing ${to.uri}`;
  if (state === 'prepared') return 'prepared: either root key will do now';
  return line`${state}: ${from.uri} → ${to.uri}`;
}

function summary({ id, state, from, to, leaked, errorDetail }: RootRotation): string {
  const lines = [line`Rotation ${id} of the root key: ${state}`, line`  ${from.uri} → ${to.uri} (${to.fingerprint})`];
  if (errorDetail !== undefined) lines.push(line`  ${errorDetail}`);
  if (state === 'completed') {
    lines.push(
      line`Start every program with MESHHOOK_ROOT_KEY=${to.uri} from now on: ${from.uri} opens nothing live any more.`,
      leaked
        ? line`${from.uri} is compromised for good.`
        : line`Keep ${from.uri} for as long as you keep backups from before: they open with it alone.`,
    );
  }
  return lines.join('\n');
}

/** @throws KeyringError when the rotation, whose result has been shown, is not where it was meant to go. */
function requireEnd({ id, state }: RootRotation): void {
  if (state === 'completed') return;
  const details = { rotationId: id, state };
  if (state === 'failed') {
    throw new KeyringError('rotation_blocked', `The rotation ${id} failed; why is named above.`, {
      remedy: 'See what the provider of the new root key did, then run this again: nothing depends on it.',
      details,
    });
  }
  throw new KeyringError('rotation_not_open', `Somebody else made the rotation ${id} ${state}.`, {
    remedy: 'Run `mh-keys root-key rotations`.',
    details,
  });
}

function nowhere(): KeyringError {
  return new KeyringError('invalid_argument', 'No new root key is named.', {
    remedy: 'Say where to: --to URI, or MESHHOOK_NEXT_ROOT_KEY. `mh-keys root-key create file:./next.key` makes one.',
  });
}

function elsewhere({ id, to }: RootRotation): KeyringError {
  return new KeyringError(
    'rotation_in_progress',
    `A move to another root key is open: ${to.uri} (${to.fingerprint}).`,
    {
      remedy: `Go on with --to ${to.uri}, or cancel it with \`mh-keys root-key cancel\`.`,
      details: { rotationId: id },
    },
  );
}

const keyColumns: readonly Column<RootKeyEntry>[] = [
  { title: 'FINGERPRINT', value: ({ fingerprint }) => fingerprint },
  { title: 'STATE', value: ({ state }) => state ?? 'not known here' },
  { title: 'WHERE', value: ({ uri }) => uri },
  { title: 'WRAPPING KEYS', value: ({ wrappingKeys }) => String(wrappingKeys), align: 'right' },
  { title: 'USABLE HERE', value: ({ usableHere }) => (usableHere ? 'yes' : 'no') },
  { title: 'USABLE BY', value: ({ usableBy }) => plural(usableBy.length, 'process', 'processes') },
  { title: 'SINCE', value: ({ createdAt }) => instant(createdAt) },
];

const rotationColumns: readonly Column<RootRotation>[] = [
  { title: 'ROTATION', value: ({ id }) => id },
  { title: 'STATE', value: ({ state, leaked }) => (leaked ? `${state} (leaked)` : state) },
  { title: 'FROM', value: ({ from }) => from.uri },
  { title: 'TO', value: ({ to }) => to.uri },
  { title: 'ASKED FOR', value: ({ requestedAt }) => instant(requestedAt) },
  { title: 'BY', value: ({ requestedBy }) => requestedBy },
  { title: 'FINISHED', value: ({ finishedAt }) => instant(finishedAt) },
  { title: 'REASON', value: ({ reason }) => reason ?? '-' },
];
