import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { collectOutput } from '../../../../test/support/needles.ts';

const app = path.join(import.meta.dirname, '../..');

export interface Server extends AsyncDisposable {
  readonly url: string;
  readonly process: ChildProcess;
  /** What it printed so far, both streams. */
  output(): string;
  /** Gives the exit code, or the signal that ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals | null>;
}

export interface Ended {
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function launch(environment: Record<string, string>) {
  if (!existsSync(path.join(app, 'build/handler.js'))) throw new Error('The app is not built: run `npm run build`.');
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [path.join(app, 'serve.js')], {
    env: { PATH, HOME, PORT: '0', ...environment },
  });
  const printed = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed.stderr += text));
  const ended = once(child, 'close').then(([code, signal]: (number | NodeJS.Signals | null)[]) => {
    collectOutput(printed.stdout + printed.stderr);
    return code ?? signal ?? null;
  });
  return { child, printed, ended };
}

/** The real, built server, on a port that the system chose. */
export async function startServer(environment: Record<string, string>): Promise<Server> {
  const { child, printed, ended } = launch(environment);
  const output = (): string => printed.stdout + printed.stderr;
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', () => {
      const port = /"event":"listening","port":(\d+)/.exec(printed.stdout)?.[1];
      const found = port === undefined ? /^page +(http:\S+)$/m.exec(printed.stdout)?.[1] : `http://127.0.0.1:${port}`;
      if (found !== undefined) resolve(found);
    });
    void ended.then((code) => {
      reject(new Error(`The server ended with ${String(code)}:\n${output()}`));
    });
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal);
    return ended;
  };
  return {
    url,
    process: child,
    output,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

/** A start that is expected to end by itself. */
export async function failToStart(environment: Record<string, string>): Promise<Ended> {
  const { printed, ended } = launch(environment);
  return { code: await ended, ...printed };
}
