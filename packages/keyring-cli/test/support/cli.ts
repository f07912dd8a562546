/** The real binary, as a shell would run it. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { collectOutput } from '../../../../test/support/needles.ts';

const root = path.join(import.meta.dirname, '../../../..');
const binary = path.join(root, 'packages/keyring-cli/bin/mh-keys.js');
const packages = ['keyring', 'keyring-backup', 'keyring-embedded', 'keyring-worker', 'keyring-cli'].map((name) =>
  path.join(root, 'packages', name),
);

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Refusal {
  readonly exit: number | null;
  readonly code: string;
  readonly hint: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** What `--json` answers, as far as tests go on with it. */
export interface Answer {
  readonly project: { readonly id: string };
  readonly projects: readonly { readonly id: string; readonly name: string }[];
  readonly secret: { readonly valueBase64: string };
  readonly secrets: readonly { readonly name: string }[];
  readonly keys: readonly {
    readonly id: string;
    readonly active: boolean;
    readonly status: string;
    readonly rows: number;
  }[];
  readonly quarantine: readonly { readonly rowId: string }[];
  readonly exposed: readonly { readonly name: string | null }[];
  readonly rotation: { readonly id: string };
  readonly rotations: readonly { readonly id: string; readonly state: string }[];
  readonly openRotations: readonly { readonly id: string }[];
  readonly rootKey: { readonly fingerprint: string };
  readonly envelope: object;
  readonly applied: readonly string[];
}

export interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  /** Settles when standard error has this text. */
  says(text: string): Promise<void>;
}

/** Builds what is older than its sources: `npm test` has built everything, `npx vitest` has not. */
export function build(): void {
  if (!packages.some(isStale)) return;
  execFileSync(process.execPath, ['scripts/build.ts', '--packages'], { cwd: root, stdio: 'inherit' });
}

function isStale(folder: string): boolean {
  const built = ['index.js', 'main.js'].map((file) => path.join(folder, 'dist', file)).find(existsSync);
  if (built === undefined) return true;
  const at = statSync(built).mtimeMs;
  const sources = readdirSync(path.join(folder, 'src'), { recursive: true, encoding: 'utf8' });
  return sources.some((file) => file.endsWith('.ts') && statSync(path.join(folder, 'src', file)).mtimeMs > at);
}

/** A folder of one test file. `remove` once nothing runs in it any more. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const folder = mkdtempSync(path.join(tmpdir(), 'mh-keys-'));
  return { path: folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** `mh-keys` in one home, with an environment of nothing else. */
export function cli(home: string) {
  const start = (args: readonly string[], { input, env, cwd }: RunOptions = {}): Running => {
    const child = spawn(process.execPath, [binary, ...args], {
      env: { PATH: process.env['PATH'], MESHHOOK_HOME: home, ...env },
      ...(cwd === undefined ? {} : { cwd }),
    });
    const output = { stdout: '', stderr: '' };
    const watchers = new Set<() => void>();
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8');
      child[name].on('data', (text: string) => {
        output[name] += text;
        for (const watcher of watchers) watcher();
      });
    }
    // A command that has no use for its input may be gone before it is written.
    child.stdin.on('error', () => undefined);
    if (input !== undefined) child.stdin.end(input);
    else if (!args.includes('set')) child.stdin.end();
    const outcome = new Promise<Outcome>((resolve) =>
      child.on('close', (code) => {
        resolve(collected(args, { code, ...output }));
      }),
    );
    const says = async (text: string): Promise<void> => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const look = (): void => (output.stderr.includes(text) ? resolve() : undefined);
      watchers.add(look);
      look();
      outcome.then(() => reject(new Error(`It ended without saying "${text}":\n${output.stderr}`)), reject);
      await promise;
      watchers.delete(look);
    };
    return { child, outcome, says };
  };
  const run = (args: readonly string[], options: RunOptions = {}): Promise<Outcome> => start(args, options).outcome;
  return { start, ...asking(run) };
}

/** Standard output is where `secrets get` writes a value, and `root-key create` may write a key: that is not looked through. */
export function collected(args: readonly string[], outcome: Outcome): Outcome {
  const { stdout, stderr } = outcome;
  collectOutput(args.some((arg) => arg === 'get' || arg === 'create') ? stderr : stdout + stderr);
  return outcome;
}

/** What tests ask of commands, however those are run. */
export function asking(run: (args: readonly string[], options?: RunOptions) => Promise<Outcome>) {
  /** With --json: what it answers. Fails with what it said when it cannot. */
  const json = async (args: readonly string[], options: RunOptions = {}): Promise<Answer> => {
    const { code, stdout, stderr } = await run([...args, '--json'], options);
    if (code !== 0) throw new Error(`mh-keys ${args.join(' ')} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as Answer;
  };
  /** The last thing a command that fails says with --json, and its exit code. */
  const refused = async (args: readonly string[], options: RunOptions = {}): Promise<Refusal> => {
    const { code: exit, stderr } = await run([...args, '--json'], options);
    const { error } = JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '') as {
      error: { code: string; message: string; remedy: string };
    };
    return { exit, code: error.code, hint: error.remedy, stderr };
  };
  return { run, json, refused };
}

/** The first of a list that has to have one. */
export function firstOf<T>(list: readonly T[]): T {
  const [first] = list;
  if (first === undefined) throw new Error('The list is empty.');
  return first;
}
