import { spawn } from 'node:child_process';

/** The operating system's user that PostgreSQL runs as, where that is not ourselves. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface Outcome {
  readonly ok: boolean;
  /** Standard output and standard error, trimmed; when the program could not be started at all, why. */
  readonly output: string;
}

// Never our own environment: a postmaster outlives us, and whoever shares its user id can read its environment.
export const childEnvironment = { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/** Runs a program to its end, as `account` if one is given. Does not reject. */
export async function run(command: string, args: readonly string[], account?: Account): Promise<Outcome> {
  return new Promise((resolve) => {
    // Our working directory may be one that the account cannot enter.
    const child = spawn(command, args, {
      cwd: '/',
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...account,
    });
    let output = '';
    const append = (chunk: Buffer) => (output += chunk.toString());
    child.stdout.on('data', append);
    child.stderr.on('data', append);
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output: output.trim() }));
  });
}

/** Whether `account` can enter `directory`. Asked of the kernel: mode bits alone do not know of access lists. */
export async function canEnter(directory: string, account: Account): Promise<boolean> {
  return (await run('/bin/sh', ['-c', 'cd -- "$1"', 'sh', directory], account)).ok;
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}
