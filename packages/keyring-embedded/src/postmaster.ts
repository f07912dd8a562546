import { readFileSync, realpathSync } from 'node:fs';
import { readFile, unlink } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface Postmaster {
  readonly pid: number;
  readonly port: number;
}

/** How PostgreSQL stops: `fast` ends sessions and writes a checkpoint, `immediate` leaves recovery to the next start. */
export type StopMode = 'fast' | 'immediate';

const signals = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/** The running PostgreSQL of `dataDirectory`, by its `postmaster.pid`; one left behind by a crash is not running. */
export async function findPostmaster(dataDirectory: string): Promise<Postmaster | undefined> {
  const found = await readPidFile(dataDirectory);
  return found !== undefined && isPostmasterOf(found.pid, dataDirectory) ? found : undefined;
}

/**
 * Removes a `postmaster.pid` whose process id went to some other program, after a reboot for example: PostgreSQL sees
 * a process alive under it and would refuse to start. Where no process has the id, PostgreSQL sees to the file itself.
 */
export async function forgetStrangersPid(dataDirectory: string): Promise<void> {
  const found = await readPidFile(dataDirectory);
  if (found === undefined || !isAlive(found.pid) || isPostmasterOf(found.pid, dataDirectory)) return;
  await unlink(join(dataDirectory, 'postmaster.pid'));
}

/** @returns whether PostgreSQL was down in time; if not, it is still on its way. */
export async function stopPostmaster(dataDirectory: string, mode: StopMode, patience = 60_000): Promise<boolean> {
  const running = await findPostmaster(dataDirectory);
  if (running === undefined) return true;
  signal(running.pid, signals[mode]);
  const deadline = Date.now() + patience;
  while ((await findPostmaster(dataDirectory))?.pid === running.pid) {
    if (Date.now() > deadline) return false;
    await delay(15);
  }
  return true;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function readPidFile(dataDirectory: string): Promise<Postmaster | undefined> {
  let text: string;
  try {
    text = await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  // Process id, data directory, start time, port, …: src/include/utils/pidfile.h of PostgreSQL.
  const [pid, , , port] = text.split('\n').map(Number);
  return pid !== undefined && pid > 0 && port !== undefined && port > 0 ? { pid, port } : undefined;
}

/** In doubt, yes: taking a running postmaster for a dead one could start a second one on the same files. */
function isPostmasterOf(pid: number, dataDirectory: string): boolean {
  if (!isAlive(pid)) return false;
  let commandLine: string;
  try {
    commandLine = readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8');
  } catch {
    return process.platform !== 'linux' || isAlive(pid);
  }
  const [program = '', ...args] = commandLine.split('\0');
  // Its children call themselves `postgres: …`; a zombie has no command line at all.
  if (basename(program) !== 'postgres') return false;
  const at = args.indexOf('-D');
  const named = at === -1 ? undefined : args[at + 1];
  return named === undefined || !isAbsolute(named) || sameDirectory(named, dataDirectory);
}

function sameDirectory(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return one === other;
  }
}
