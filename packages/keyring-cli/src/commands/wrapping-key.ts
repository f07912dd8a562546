import {
  KeyringError,
  type BlockingKey,
  type Keyring,
  type WrappingKeyVersion,
  type WrappingRotation,
} from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { confirm } from '../confirm.ts';
import { pagedBefore, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { count, instant, line, plural } from '../terminal/text.ts';
import { collect, driveUpper, leftPrepared, noneOpen, openOne, type DriveOptions } from '../upper-keys.ts';

const ID = '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11';

interface RotateOptions extends DriveOptions {
  readonly reason?: string;
  readonly leaked?: boolean;
}

export function registerWrappingKey(program: Command, app: App): void {
  const wrappingKey = group(
    program,
    'wrapping-key',
    'the key between the root key and the data keys: look, rotate, destroy',
  );

  leaf(wrappingKey, 'status', 'its versions, what is under each, and the rotation that is open', [
    'mh-keys wrapping-key status',
    'mh-keys wrapping-key status --json',
  ]).action(() => status(app));

  leaf(
    wrappingKey,
    'rotate',
    'wraps every data key anew under a next version, online, or goes on with the open rotation',
    [
      'mh-keys wrapping-key rotate',
      "mh-keys wrapping-key rotate --reason 'yearly'",
      "mh-keys wrapping-key rotate --leaked --reason 'it was in a heap dump'",
      `mh-keys wrapping-key rotate --force-past ${ID}   # does not wait for that process`,
    ],
  )
    .option('--reason <text>', 'why, for the audit log')
    .option('--leaked', 'others know the present one: it is compromised for good, and there is no way back')
    .option('--force-past <instance>', 'a live process that is not waited for; may be given again', collect)
    .option('--no-wait', 'leave it prepared while a live process does not hold the new version yet')
    .action((options: RotateOptions) => rotate(app, options));

  leaf(wrappingKey, 'rollback', 'turns the open rotation back, until it is completed', [
    'mh-keys wrapping-key rollback',
  ]).action(async () => {
    const rotation = await onOpen(app, async (keyring, { id }) => {
      await keyring.wrappingKeys.rollback(id);
      return drive(app, keyring, id, { wait: true });
    });
    app.terminal.result({ rotation }, () => summary(app, rotation));
    requireEnd(rotation, 'rolled_back');
  });

  leaf(wrappingKey, 'cancel', 'takes the open rotation back, before anything is under the new version', [
    'mh-keys wrapping-key cancel',
  ]).action(async () => {
    const rotation = await onOpen(app, (keyring, { id }) => keyring.wrappingKeys.cancel(id));
    app.terminal.result({ rotation }, () => 'Canceled: nothing was under the new version.');
  });

  const history = leaf(wrappingKey, 'rotations', 'the history of its rotations, the newest first', [
    'mh-keys wrapping-key rotations',
    "mh-keys wrapping-key rotations --json | jq '.rotations[0].blockedBy'",
  ]);
  pagedBefore(history, { most: 500, of: 'rotation' }).action(async (page: Page) => {
    const rotations = await withKeyring(app, (keyring) => keyring.wrappingKeys.rotations(page));
    app.terminal.result({ rotations }, () =>
      rotations.length === 0 ? 'It was never rotated.' : table(rotations, rotationColumns, bold(app)),
    );
    sayMore(app.terminal, rotations, page, ({ id }) => `--before ${id}`);
  });

  leaf(
    wrappingKey,
    'destroy <key>',
    'erases a version that nothing is under, for good: not for backups from before, either',
    [
      `mh-keys wrapping-key destroy ${ID} --reason 'no backup from before is left'`,
      `mh-keys wrapping-key destroy ${ID} --reason 'no backup from before is left' --yes`,
    ],
  )
    .requiredOption('--reason <text>', 'why, for the audit log')
    .option('--yes', 'do not ask; needed where there is no terminal to ask at')
    .action(async (id: string, { reason, yes }: { reason: string; yes?: boolean }) => {
      const key = await withKeyring(app, async (keyring) => {
        const found = await known(keyring, id);
        if (yes !== true) await confirm(app, erasing(found));
        return keyring.wrappingKeys.destroy(found.id, { reason });
      });
      app.terminal.result({ wrappingKey: key }, () => destroyed(key));
    });
}

async function status(app: App): Promise<void> {
  const { wrappingKeys, rotation } = await withKeyring(app, async (keyring) => ({
    wrappingKeys: await keyring.wrappingKeys.list(),
    rotation: openOne(await keyring.wrappingKeys.rotations()),
  }));
  app.terminal.result({ wrappingKeys, rotation }, () => {
    const shown = table(wrappingKeys, keyColumns, bold(app));
    return rotation === undefined ? shown : `${shown}\n\n${summary(app, rotation)}`;
  });
}

async function rotate(app: App, options: RotateOptions): Promise<void> {
  const { terminal } = app;
  const { rotation, waitingFor } = await withKeyring(
    app,
    async (keyring) => {
      const open = openOne(await keyring.wrappingKeys.rotations());
      if (open !== undefined && options.leaked === true && !open.leaked) throw notAsLeaked(open);
      if (open?.state === 'blocked') await keyring.wrappingKeys.resume(open.id);
      const { id } = open ?? (await keyring.wrappingKeys.request(request(options)));
      return driveWrapping(app, keyring, id, options);
    },
    { minds: 'signal' },
  );
  terminal.result({ rotation, waitingFor }, () =>
    rotation.state === 'prepared' ? leftPrepared('wrapping', waitingFor) : summary(app, rotation),
  );
  if (rotation.state !== 'prepared')
    requireEnd(rotation, rotation.state === 'rolled_back' ? 'rolled_back' : 'completed');
}

function request({ reason, leaked }: RotateOptions) {
  return { ...(reason === undefined ? {} : { reason }), ...(leaked === undefined ? {} : { leaked }) };
}

export function driveWrapping(app: App, keyring: Keyring, id: string, options: DriveOptions) {
  return driveUpper<WrappingRotation>(app, options, describe, (run) => keyring.wrappingKeys.run(id, run));
}

async function drive(app: App, keyring: Keyring, id: string, options: DriveOptions): Promise<WrappingRotation> {
  return (await driveWrapping(app, keyring, id, options)).rotation;
}

/** Something with the open rotation. */
function onOpen(
  app: App,
  work: (keyring: Keyring, open: WrappingRotation) => Promise<WrappingRotation>,
): Promise<WrappingRotation> {
  return withKeyring(
    app,
    async (keyring) => {
      const open = openOne(await keyring.wrappingKeys.rotations());
      if (open === undefined) throw noneOpen('wrapping');
      return work(keyring, open);
    },
    { minds: 'signal' },
  );
}

async function known(keyring: Keyring, id: string): Promise<WrappingKeyVersion> {
  const key = (await keyring.wrappingKeys.list()).find((one) => one.id === id.toLowerCase());
  if (key !== undefined) return key;
  throw new KeyringError('unknown_key', `There is no wrapping key ${id}.`, {
    remedy: 'Run `mh-keys wrapping-key status` to see them.',
  });
}

function describe({ state, keys: { total, moved, verified } }: WrappingRotation): string {
  switch (state) {
    case 'requested':
      return 'preparing';
    case 'rewrapping':
    case 'rolling_back':
      return `${state.replace('_', ' ')}: ${count(moved)}/${plural(total ?? 0, 'key')}`;
    case 'completed':
    case 'rolled_back':
      return `${state.replace('_', ' ')}: ${plural(verified, 'key')} read back`;
    default:
      return state;
  }
}

export function summary(app: App, rotation: WrappingRotation): string {
  const { id, state, fromVersion, toVersion, keys, blockedBy, errorDetail } = rotation;
  const versions = `version ${String(fromVersion)} → ${String(toVersion ?? '?')}`;
  const lines = [
    app.terminal.style('bold', `Rotation ${id} of the wrapping key: ${state.replace('_', ' ')}`),
    `  ${versions}, ${count(keys.moved)} of ${plural(keys.total ?? 0, 'key')} wrapped anew, ${count(keys.verified)} read back`,
  ];
  if (errorDetail !== undefined) lines.push(line`  ${errorDetail}`);
  if (state === 'completed') {
    lines.push(
      `Version ${String(fromVersion)} opens nothing live any more. It still opens backups from before, until it is destroyed:`,
      `mh-keys wrapping-key destroy ${rotation.fromKeyId} --reason …`,
    );
  }
  if (state === 'rolled_back') lines.push(`Version ${String(toVersion)} is given up.`);
  if (blockedBy.length > 0) lines.push('', table(blockedBy, blockingColumns, bold(app)));
  return lines.join('\n');
}

/** @throws KeyringError when the rotation, whose result has been shown, is not where it was meant to go. */
export function requireEnd({ id, state, errorCode }: WrappingRotation, wanted: 'completed' | 'rolled_back'): void {
  if (state === wanted) return;
  const details = { rotationId: id, state };
  if (state === 'blocked') {
    throw new KeyringError(
      'rotation_blocked',
      `The rotation ${id} is blocked; the keys that block it are named above.`,
      {
        remedy:
          errorCode === 'keys_held'
            ? 'End the transaction that holds them (docs/runbooks/a-rotation-does-not-finish.md), then run this again.'
            : 'Restore them from a backup, then run this again; or turn back with `mh-keys wrapping-key rollback`.',
        details,
      },
    );
  }
  if (state === 'failed') {
    throw new KeyringError('rotation_blocked', `The rotation ${id} failed; why is named above.`, {
      remedy: 'See what the provider of the root key did, then run this again: nothing is under the new version.',
      details,
    });
  }
  throw new KeyringError('rotation_not_open', `Somebody else made the rotation ${id} ${state.replace('_', ' ')}.`, {
    remedy: 'Run `mh-keys wrapping-key status`.',
    details,
  });
}

function notAsLeaked({ id }: WrappingRotation): KeyringError {
  return new KeyringError(
    'rotation_in_progress',
    `A rotation of the wrapping key is open that does not take it for leaked.`,
    {
      remedy: 'Bring it to its end with `mh-keys wrapping-key rotate`, then rotate once more with --leaked.',
      details: { rotationId: id },
    },
  );
}

function erasing(key: WrappingKeyVersion): Parameters<typeof confirm>[1] {
  return {
    warning: `This erases wrapping key version ${String(key.version)} for good: backups from before the next version will not open.`,
    wanted: key.id,
    what: 'id of the wrapping key',
    remedy: 'Check the id with `mh-keys wrapping-key status`.',
  };
}

function destroyed({ version }: WrappingKeyVersion): string {
  return [
    `Wrapping key version ${String(version)} is destroyed: data keys in backups from before its successor do not open any more.`,
    'Its wrapped bytes live on in dead row versions until vacuum, in the write-ahead log and in backups until those expire:',
    'whoever has one of those and the root key of that time still has it.',
  ].join('\n');
}

const bold = (app: App) => (title: string) => app.terminal.style('bold', title);

const keyColumns: readonly Column<WrappingKeyVersion>[] = [
  { title: 'VERSION', value: ({ version }) => String(version), align: 'right' },
  {
    title: 'STATE',
    value: ({ active, state, exposedAt }) => (active ? 'active' : state) + (exposedAt ? ' (exposed)' : ''),
  },
  { title: 'WRAPPING KEY', value: ({ id }) => id },
  { title: 'KEYS', value: ({ keys }) => count(keys), align: 'right' },
  { title: 'ROOT KEYS', value: ({ rootKeys }) => rootKeys.map((one) => one.slice(0, 8)).join(' ') || '-' },
  { title: 'CREATED', value: ({ createdAt }) => instant(createdAt) },
  { title: 'PROMOTED', value: ({ promotedAt }) => instant(promotedAt) },
  { title: 'DESTROYED', value: ({ destroyedAt }) => instant(destroyedAt) },
];

const rotationColumns: readonly Column<WrappingRotation>[] = [
  { title: 'ROTATION', value: ({ id }) => id },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'VERSIONS', value: (one) => `${String(one.fromVersion)} → ${String(one.toVersion ?? '?')}` },
  { title: 'ASKED FOR', value: ({ requestedAt }) => instant(requestedAt) },
  { title: 'BY', value: ({ requestedBy }) => requestedBy },
  { title: 'KEYS', value: ({ keys }) => `${count(keys.verified)}/${count(keys.total ?? 0)}`, align: 'right' },
  { title: 'FINISHED', value: ({ finishedAt }) => instant(finishedAt) },
  { title: 'REASON', value: ({ reason }) => reason ?? '-' },
];

const blockingColumns: readonly Column<BlockingKey>[] = [
  { title: 'KEY', value: ({ id }) => id },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'VERSION', value: ({ version }) => String(version), align: 'right' },
  { title: 'PROJECT', value: ({ projectId }) => projectId ?? '-' },
  { title: 'REASON', value: ({ reason }) => reason },
];
