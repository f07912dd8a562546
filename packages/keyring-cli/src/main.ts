import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { CommanderError } from 'commander';
import { readSettings } from './env.ts';
import { exitCodeFor, exitCodes, type ExitCode } from './exit-codes.ts';
import { watchSignals } from './interruption.ts';
import { createProgram } from './program.ts';
import type { App } from './session.ts';
import { Terminal } from './terminal/terminal.ts';

/** Runs one command of `mh-keys`. Gives its exit code; never rejects. */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const { stdin, stdout, stderr } = process;
  let lost: Error | undefined;
  const onLost = (error: NodeJS.ErrnoException): void => {
    // Whoever reads our output may stop reading (`mh-keys audit | head`): what is under way is brought to its end all the same.
    if (error.code !== 'EPIPE') lost ??= error;
  };
  for (const stream of [stdout, stderr]) stream.on('error', onLost);
  const settings = readSettings();
  const terminal = new Terminal({
    stdout,
    stderr,
    json: wantsJson(argv),
    color: settings.color,
    animated: settings.animated,
  });
  const interruption = new AbortController();
  const app: App = { settings, terminal, stdin, stderr, signal: interruption.signal };
  const unwatch = watchSignals(interruption, () => terminal.say('Stopping; Ctrl-C again to stop at once.'));
  try {
    const program = createProgram(app, await version(), (text) => stdout.write(text));
    await program.parseAsync(argv, { from: 'user' });
    // A stream tells of its failure a moment later.
    await setImmediate();
    if (lost !== undefined) throw new Error(`The output could not be written: ${lost.message}`);
    return exitCodes.ok;
  } catch (error) {
    // Only `mh-keys` and `mh-keys project`: the help that was printed is all there is to say.
    if (!(error instanceof CommanderError && error.code === 'commander.help')) terminal.error(error);
    return exitCodeFor(error);
  } finally {
    unwatch();
  }
}

/** Known before the options are read, because reading them can fail, and that too has to be told in JSON. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end === -1 ? argv.length : end).includes('--json');
}

async function version(): Promise<string> {
  const manifest = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}
