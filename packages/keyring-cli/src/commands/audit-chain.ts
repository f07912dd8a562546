import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { KeyringError, type AuditVerification, type VerifiedArchive } from '@meshhook/keyring';
import { readCheckpointFile, Sealing } from '@meshhook/keyring-worker/sealing';
import type { Command } from 'commander';
import { checkpointPath, keeper } from '../audit-checkpoint.ts';
import { leaf } from '../command.ts';
import { Unhealthy } from '../exit-codes.ts';
import { readStdin } from '../input.ts';
import { withKeyring, type App } from '../session.ts';
import { instant, line, plural } from '../terminal/text.ts';

const RUNBOOK = 'See docs/runbooks/the-audit-chain-is-broken.md before anything else is done to the database.';

/** The chain over the trail: sealed, signed, checked. */
export function registerAuditChain(audit: Command, app: App): void {
  leaf(audit, 'verify', 'hashes every entry again, and names the first that was changed, removed, inserted or moved', [
    'mh-keys audit verify',
    'mh-keys audit verify --checkpoint /mnt/elsewhere/audit-checkpoint --json',
    'ssh collector cat audit-checkpoint | mh-keys audit verify --checkpoint -',
    'mh-keys audit verify --archive audit-2026.jsonl',
  ])
    .option('--checkpoint <file>', 'one that was kept elsewhere; `-` is standard input (default: that of the home)')
    .option('--archive <file>', 'checks a file of `audit archive` instead of the database')
    .action(async ({ checkpoint, archive }: { checkpoint?: string; archive?: string }) => {
      if (archive === undefined) await verify(app, checkpoint);
      else await verifyArchive(app, archive);
    });

  leaf(audit, 'seal', 'gives new entries their place in the chain now: workers and the server do every two seconds', [
    'mh-keys audit seal',
  ]).action(async () => {
    const { sealed, checkpoint } = await withKeyring(
      app,
      async (keyring) => ({
        sealed: await new Sealing(keyring.audit, keeper(app, keyring)).round(app.signal),
        checkpoint: await keyring.audit.checkpoint(),
      }),
      { minds: 'signal' },
    );
    app.terminal.result(
      { sealed, checkpoint },
      () => `${plural(sealed, 'entry', 'entries')} sealed; the chain has ${String(checkpoint?.size ?? 0)}.`,
    );
  });

  leaf(audit, 'checkpoint', 'the last checkpoint: a signed note, to be kept elsewhere', [
    'mh-keys audit checkpoint > /mnt/elsewhere/audit-checkpoint',
  ]).action(async () => {
    const checkpoint = await withKeyring(app, (keyring) => keyring.audit.checkpoint());
    if (checkpoint === undefined) {
      throw new KeyringError('illegal_state', 'Nothing was sealed yet.', { remedy: 'Run `mh-keys audit seal`.' });
    }
    if (app.terminal.json) app.terminal.result({ checkpoint }, () => '');
    else app.terminal.raw(Buffer.from(checkpoint.note));
  });
}

async function verify(app: App, given: string | undefined): Promise<void> {
  const { terminal, signal } = app;
  const note = await readGiven(app, given);
  const verification = await withKeyring(
    app,
    (keyring) =>
      keyring.audit.verify({
        signal,
        ...(note === undefined ? {} : { checkpoint: note }),
        onProgress: (entries) => terminal.status(`verifying  ${plural(entries, 'entry', 'entries')} so far`),
      }),
    { minds: 'signal' },
  );
  terminal.clearStatus();
  terminal.result({ verification }, () => view(app, verification));
  const { problem } = verification;
  if (problem === undefined) {
    if (note === undefined)
      terminal.note('Without a checkpoint from elsewhere, entries missing at the end are not found.');
    return;
  }
  throw new Unhealthy(`The trail was tampered with: ${problem.message}`, RUNBOOK, { ...problem });
}

async function readGiven(app: App, given: string | undefined): Promise<string | undefined> {
  if (given === '-') return (await readStdin(app)).toString('utf8');
  const path = given ?? checkpointPath(app);
  const note = await readCheckpointFile(path);
  if (note === undefined && given !== undefined) {
    throw new KeyringError('invalid_argument', `There is no file ${given}.`, {
      remedy: 'Workers and the server write the last checkpoint to `audit-checkpoint` in MESHHOOK_HOME.',
    });
  }
  return note;
}

function view({ terminal }: App, verification: AuditVerification): string {
  const { problem, entries, archived, checkpoints, checkpoint, given, unsealed } = verification;
  const { kind, place, after, entryId } = problem ?? {};
  const where = [
    ...(place === undefined
      ? []
      : [after === undefined ? `place ${String(place)}` : `places ${String(after + 1)} to ${String(place)}`]),
    ...(entryId === undefined ? [] : [`entry ${entryId}`]),
  ];
  const lines = [
    problem === undefined
      ? `${terminal.style('green', 'Intact')}: ${plural(entries, 'entry', 'entries')}, ${plural(checkpoints, 'signature')}.`
      : `${terminal.style('red', 'Not intact')}: ${kind ?? ''}, ${where.join(', ')}. ${problem.message}`,
  ];
  if (archived > 0) lines.push(`${plural(archived, 'entry', 'entries')} before them went into archives.`);
  if (checkpoint !== undefined)
    lines.push(`Last checkpoint: ${String(checkpoint.size)} entries, ${instant(checkpoint.signedAt)}.`);
  if (given === 'matches') lines.push('The checkpoint that was kept elsewhere matches.');
  if (given === 'archived') lines.push('The checkpoint that was kept elsewhere is of a range that is archived by now.');
  lines.push(
    unsealed.entries === 0
      ? 'Not sealed yet: none.'
      : `Not sealed yet, hence not covered: ${plural(unsealed.entries, 'entry', 'entries')}, since ${instant(unsealed.oldestAt)}.`,
  );
  return lines.join('\n');
}

/** Opened when they are asked for: readline drops what comes before that. */
async function* linesOf(file: string): AsyncIterable<string> {
  yield* createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity });
}

async function verifyArchive(app: App, file: string): Promise<void> {
  const archive: VerifiedArchive = await withKeyring(app, (keyring) => keyring.audit.verifyArchive(linesOf(file)));
  app.terminal.result(
    { archive },
    () =>
      line`Intact: places ${String(archive.from)} to ${String(archive.through)}, signed ${instant(archive.checkpoint.signedAt)}.`,
  );
}
