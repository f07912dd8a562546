import { KeyringError, type ErrorCode } from '@meshhook/keyring';
import { CommanderError } from 'commander';
import { Unhealthy } from '../exit-codes.ts';

/** An error as it is shown, and as it is in `--json`. */
export interface ErrorDescription {
  readonly code: string;
  readonly message: string;
  readonly remedy: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;
  /** Of a bug: where it is. */
  readonly stack: string | undefined;
}

// Where the library knows no better than its rule, the rule is the remedy.
const remedies: Partial<Record<ErrorCode, string>> = {
  invalid_name: 'Names have 1 to 200 characters and no control characters.',
  invalid_value: 'Values have 1 to 65,536 bytes; give one on standard input, or with --from-file.',
  unknown_project: 'Run `mh-keys project list` to see them, or `mh-keys project create NAME`.',
  unknown_key: 'Run `mh-keys keys list` to see them.',
  unknown_rotation: 'Run `mh-keys rotations` to see them.',
  malformed_envelope: 'Give a whole value of an encrypted column, as bytes, hex or base64.',
  unsupported_envelope: 'Upgrade MeshHook Keyring to the version that wrote it.',
  database_refused: 'Run `mh-keys doctor`; if that fails too, see the log of PostgreSQL.',
};

export function describeError(error: unknown): ErrorDescription {
  if (error instanceof KeyringError) {
    const { code, message, remedy = remedies[code], details } = error;
    return redacted({ code, message, remedy, details, stack: code === 'internal' ? error.stack : undefined });
  }
  if (error instanceof CommanderError) return describeUsage(error);
  if (error instanceof Unhealthy) {
    const { message, remedy, details } = error;
    return redacted({ code: 'unhealthy', message, remedy, details, stack: undefined });
  }
  const unknown = error instanceof Error ? error : new Error(String(error));
  return redacted({
    code: 'internal',
    message: unknown.message,
    remedy: 'This is a bug of ours, or a computer in trouble. Please report the lines above.',
    details: {},
    stack: unknown.stack,
  });
}

/** Commander repeats what it was given, which may be a value that somebody meant to store. */
function describeUsage({ code, message }: CommanderError): ErrorDescription {
  const shown = message
    .replace(/^error: /, '')
    .replace(/('-[^'=]*)=[^']*'/, "$1=…'")
    .replace(/(but got \d+): .*$/s, '$1.');
  const remedy =
    code === 'commander.excessArguments'
      ? "Quote a name that has spaces; a secret's value goes to standard input. Add --help to see how it is used."
      : 'Add --help to see how it is used.';
  return { code: 'usage', message: shown, remedy, details: {}, stack: undefined };
}

function redacted(description: ErrorDescription): ErrorDescription {
  return JSON.parse(JSON.stringify(description), (_, value: unknown) =>
    typeof value === 'string' ? withoutPasswords(value) : value,
  ) as ErrorDescription;
}

/** A driver may quote the URL it was given. */
function withoutPasswords(text: string): string {
  return text.replace(/(\w:\/\/[^\s/:@]*):[^\s/@]*@/g, '$1:***@');
}
