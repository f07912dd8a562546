import type { ExposedSecret, Exposure, Keyring } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { detail, drive, requireEnd } from '../drive.ts';
import { knownKey } from '../known-key.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line, plural } from '../terminal/text.ts';
import { rotationSummary } from '../views.ts';

const ID = '6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11';

// What no rotation can do, said wherever a leak is dealt with.
const HONESTLY =
  'A rotation cannot un-leak a value. Whoever had the key and an old copy of the database has these values:\n' +
  'change each of them where it comes from, then set it here again.';

export function registerCompromise(program: Command, app: App): void {
  leaf(
    program,
    'compromise <key>',
    'a key version leaked: new writes leave it at once, every secret follows, and what was exposed is listed',
    [
      `mh-keys compromise ${ID} --reason 'laptop stolen'`,
      `mh-keys compromise ${ID} --reason 'laptop stolen' --json > exposure.json`,
    ],
  )
    .requiredOption('--reason <text>', 'why, for the audit log')
    .option('--no-wait', 'leave moving the rows to a running server, or to `mh-keys rotate --resume`')
    .action(async (id: string, { reason, wait }: { reason: string; wait: boolean }) => {
      await withKeyring(app, (keyring) => compromise(app, keyring, id, reason, wait), { minds: 'signal' });
    });

  leaf(program, 'exposure <key>', 'every secret whose value was ever under a key version', [
    `mh-keys exposure ${ID}`,
    `mh-keys exposure ${ID} --csv > exposure.csv`,
  ])
    .option('--csv', 'comma-separated values instead of a table')
    .action(async (id: string, { csv }: { csv?: boolean }) => {
      const exposure = await withKeyring(app, async (keyring) =>
        keyring.keys.exposure((await knownKey(keyring, id)).id),
      );
      app.terminal.result(asJson(exposure), () => (csv === true ? asCsv(exposure) : report(app, exposure)));
    });
}

async function compromise(app: App, keyring: Keyring, id: string, reason: string, wait: boolean): Promise<void> {
  const { terminal } = app;
  const {
    key,
    rotation: asked,
    overtaken,
  } = await keyring.rotations.compromise((await knownKey(keyring, id)).id, { reason });
  terminal.say(line`Version ${key.version} of ${key.projectName} is compromised. Nothing new is under it from now on.`);
  for (const overtakenId of overtaken) terminal.say(`The rotation ${overtakenId} was overtaken for this project.`);
  const rotation = asked && (wait ? await drive(app, keyring, asked.id) : await detail(keyring, asked.id));
  const exposure = await keyring.keys.exposure(key.id);
  terminal.result({ key, rotation, overtaken, ...asJson(exposure) }, () => {
    const moved = rotation === undefined ? 'No row was under it any more.' : rotationSummary(terminal, rotation);
    return `${moved}\n\n${report(app, exposure)}`;
  });
  if (rotation !== undefined && wait) requireEnd(rotation, 'completed');
}

const columns: readonly Column<ExposedSecret>[] = [
  { title: 'SECRET', value: ({ name, label, rowId }) => name ?? `${label} ${rowId}` },
  { title: 'WRITTEN', value: ({ writtenAt }) => (writtenAt === undefined ? 'not known' : instant(writtenAt)) },
  {
    title: 'REPLACED',
    value: ({ replacedAt }) => (replacedAt === undefined ? 'still the value' : instant(replacedAt)),
  },
];

function asJson({ secrets, archivedUntil }: Exposure) {
  return { exposed: secrets, archivedUntil: archivedUntil ?? null };
}

function report({ terminal }: App, { secrets, archivedUntil }: Exposure): string {
  const missing =
    archivedUntil === undefined
      ? ''
      : `This may not be all: the trail is archived until ${instant(archivedUntil)}. Values that were replaced or deleted before are in\n` +
        'the archive: look there for `secret.written` with the id of this key, too.';
  if (secrets.length === 0) {
    return missing === '' ? 'No value was ever under it.' : `No value is known to have been under it.\n${missing}`;
  }
  const rows = table(secrets, columns, (title) => terminal.style('bold', title));
  const named = `${plural(secrets.length, 'value was', 'values were')} under it:\n${rows}`;
  return [named, ...(missing === '' ? [] : [missing]), HONESTLY].join('\n\n');
}

/** RFC 4180. A name that a spreadsheet would take for a formula is quoted with an apostrophe first. */
function asCsv({ secrets, archivedUntil }: Exposure): string {
  const cell = (text: string): string => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const missing = `INCOMPLETE: the trail is archived until ${archivedUntil?.toISOString() ?? ''}; values replaced or deleted before may be missing`;
  const rows = secrets.map(({ label, rowId, name, writtenAt, replacedAt }) =>
    [label, rowId, name ?? '', writtenAt?.toISOString() ?? '', replacedAt?.toISOString() ?? ''].map(cell).join(','),
  );
  const warning = archivedUntil === undefined ? [] : [['', '', missing, '', ''].map(cell).join(',')];
  return ['column,row,name,written,replaced', ...warning, ...rows].join('\r\n');
}
