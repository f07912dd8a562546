import { Command, Help } from 'commander';
import { registerAccess } from './commands/access.ts';
import { registerAudit } from './commands/audit.ts';
import { registerColumns } from './commands/columns.ts';
import { registerCompromise } from './commands/compromise.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerInspect } from './commands/inspect.ts';
import { registerInstances } from './commands/instances.ts';
import { registerKeys } from './commands/keys.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerNotifications } from './commands/notifications.ts';
import { registerProject } from './commands/project.ts';
import { registerQuarantine } from './commands/quarantine.ts';
import { registerReceipt } from './commands/receipt.ts';
import { registerReport } from './commands/report.ts';
import { registerRootKey } from './commands/root-key.ts';
import { registerRotate } from './commands/rotate.ts';
import { registerRotations } from './commands/rotations.ts';
import { registerSchedule } from './commands/schedule.ts';
import { registerSecrets } from './commands/secrets.ts';
import { registerStatus } from './commands/status.ts';
import { registerWorker } from './commands/worker.ts';
import { registerWrappingKey } from './commands/wrapping-key.ts';
import { exitCodeMeanings } from './exit-codes.ts';
import type { App } from './session.ts';

type Register = (program: Command, app: App) => void;

/** In the order in which somebody who reads `mh-keys --help` from the top wants them. */
const groups: readonly (readonly [heading: string, registrations: readonly Register[]])[] = [
  ['Projects and secrets', [registerProject, registerSecrets, registerColumns, registerStatus]],
  ['Rotation', [registerRotate, registerRotations, registerQuarantine, registerReceipt]],
  ['By itself', [registerSchedule, registerNotifications, registerWorker]],
  ['Keys', [registerKeys, registerCompromise, registerWrappingKey, registerRootKey, registerInstances]],
  ['Who may, who did', [registerAccess, registerAudit, registerReport]],
  ['Care', [registerDoctor, registerMigrate, registerInspect]],
];

/** The commands, none of which has run yet. Every failure is thrown; `writeOut` gets what --help and --version say. */
export function createProgram(app: App, version: string, writeOut: (text: string) => void): Command {
  const program = new Command('mh-keys')
    .description(
      'Secrets in PostgreSQL under per-project, versioned keys, and the rotation that moves every one of them.',
    )
    .version(version)
    // So that `rotations pause ID --json` gives --json to `pause`.
    .enablePositionalOptions()
    .exitOverride()
    .configureHelp({
      optionDescription: (option) => `${new Help().optionDescription(option)}${option.mandatory ? ' (required)' : ''}`,
    })
    // Errors are told in one place, in one form: by whoever catches them.
    .configureOutput({ writeOut, writeErr: writeOut, outputError: () => undefined })
    .addHelpText('after', epilogue);
  for (const [heading, registrations] of groups) {
    program.commandsGroup(`${heading}:`);
    for (const register of registrations) register(program, app);
  }
  program.addHelpCommand(program.createCommand('help').argument('[command]').description('the help of a command'));
  return program;
}

const epilogue = `
Examples:
  mh-keys project create acme
  printf 'sk_live_…' | mh-keys secrets set STRIPE_KEY --project acme
  mh-keys rotate --project acme

Settings, from the environment:
  DATABASE_URL       a PostgreSQL 15 to 18; absent: one of our own, under MESHHOOK_HOME
  MESHHOOK_ROOT_KEY  a URI such as file:./root.key; absent: a file that goes with our own database
  MESHHOOK_NEXT_ROOT_KEY  another root key, while it changes; either will do
  MESHHOOK_HOME      absent: .meshhook here or in the nearest folder above; where there is none, it is made here
  MESHHOOK_AUDIT_CHECKPOINT  where the trail's last checkpoint is kept; absent: audit-checkpoint in MESHHOOK_HOME
  MESHHOOK_PREPARED_STATEMENTS  off behind a transaction-mode pooler that does not track them
  LOG_FORMAT, LOG_LEVEL  how a worker logs: text or json; info, error or silent
  MESHHOOK_NOTIFICATIONS_ALLOW  where workers deliver notifications, too: private, http, or both with a comma
  NO_COLOR, CI       no colours; no progress bar

Exit codes:
${Object.entries(exitCodeMeanings)
  .map(([code, meaning]) => `${code.padStart(5)}  ${meaning}`)
  .join('\n')}

A project goes by its name or its id. A secret's value is never an argument.`;
