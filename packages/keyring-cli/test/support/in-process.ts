/** Commands in this process: the same program, without the second that it takes to start another one. */
import { Readable } from 'node:stream';
import { CommanderError } from 'commander';
import { readSettings } from '../../src/env.ts';
import { exitCodeFor, type ExitCode } from '../../src/exit-codes.ts';
import { createProgram } from '../../src/program.ts';
import { describeError, type ErrorDescription } from '../../src/terminal/describe-error.ts';
import { Terminal, type OutputStream } from '../../src/terminal/terminal.ts';
import { asking, collected, type Outcome, type RunOptions } from './cli.ts';

export interface Ended {
  readonly code: ExitCode;
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly error: ErrorDescription | undefined;
}

export interface InProcessOptions {
  readonly input?: string | Uint8Array;
  readonly env?: { readonly home?: string; readonly databaseUrl?: string; readonly rootKeyUri?: string };
  readonly signal?: AbortSignal;
  /** Standard output is a terminal. */
  readonly tty?: boolean;
}

export function inProcess(home: string) {
  return async (
    args: readonly string[],
    { input = '', env, signal, tty = false }: InProcessOptions = {},
  ): Promise<Ended> => {
    const stdout: Buffer[] = [];
    let stderr = '';
    const write =
      (take: (chunk: Buffer) => void): OutputStream['write'] =>
      (chunk, written) => {
        take(Buffer.from(chunk as Uint8Array));
        written?.();
      };
    const out = { isTTY: tty, write: write((chunk) => stdout.push(chunk)) };
    const err = { isTTY: false, write: write((chunk) => (stderr += chunk.toString())) };
    const terminal = new Terminal({
      ...{ stdout: out, stderr: err, json: args.includes('--json'), color: false, animated: false },
    });
    const settings = {
      ...{
        databaseUrl: undefined,
        rootKeyUri: undefined,
        nextRootKeyUri: undefined,
        environment: {},
        auditCheckpoint: undefined,
      },
      ...{ preparedStatements: 'on', logFormat: 'text', logLevel: 'info', color: false, animated: false },
      ...{ home, ...env },
    };
    const app = {
      ...{ settings, terminal, stdin: Readable.from([Buffer.from(input)]), stderr: err },
      signal: signal ?? new AbortController().signal,
    };
    try {
      await createProgram(app, '0.0.0', () => undefined).parseAsync(args, { from: 'user' });
      return { code: 0, stdout: Buffer.concat(stdout), stderr, error: undefined };
    } catch (error) {
      return { code: exitCodeFor(error), stdout: Buffer.concat(stdout), stderr, error: describeError(error) };
    }
  };
}

/**
 * As `cli(home)`, but for `start`: the same settings, the same answers, the same exit codes. What belongs to a process (signals,
 * pipes that close, who is killed when) is for that one.
 */
export function here(home: string) {
  const runHere = async (args: readonly string[], { input = '', env, cwd }: RunOptions = {}): Promise<Outcome> => {
    if (cwd !== undefined) throw new Error('Commands in this process run where it is.');
    const said = { stdout: '', stderr: '' };
    const stream = (name: keyof typeof said): OutputStream => ({
      isTTY: false,
      write(chunk, written) {
        said[name] += Buffer.from(chunk as Uint8Array).toString();
        written?.();
      },
    });
    const [stdout, stderr] = [stream('stdout'), stream('stderr')];
    const settings = readSettings({ MESHHOOK_HOME: home, ...env });
    const terminal = new Terminal({ stdout, stderr, json: args.includes('--json'), color: false, animated: false });
    const app = {
      ...{ settings, terminal, stderr, stdin: Readable.from([Buffer.from(input)]) },
      signal: new AbortController().signal,
    };
    const code = await createProgram(app, '0.0.0', (text) => stdout.write(text))
      .parseAsync(args, { from: 'user' })
      .then(
        () => 0,
        (error: unknown) => {
          if (!(error instanceof CommanderError && error.code === 'commander.help')) terminal.error(error);
          return exitCodeFor(error);
        },
      );
    return collected(args, { code, ...said });
  };
  return asking(runHere);
}
