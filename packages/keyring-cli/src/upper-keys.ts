/** What `wrapping-key` and `root-key` have in common: driving a rotation, and showing what it waits for. */
import { KeyringError, type Instance, type UpperRunOptions } from '@meshhook/keyring';
import type { App } from './session.ts';
import type { Terminal } from './terminal/terminal.ts';
import { line, plural } from './terminal/text.ts';

export interface DriveOptions {
  readonly forcePast?: readonly string[];
  readonly wait: boolean;
}

interface Standing {
  readonly id: string;
  readonly state: string;
}

/** Drives a rotation to where it comes to rest, and says what it does and whom it waits for. */
export async function driveUpper<Rotation extends Standing>(
  { terminal, signal }: App,
  { forcePast = [], wait }: DriveOptions,
  describe: (rotation: Rotation) => string,
  run: (options: UpperRunOptions<Rotation>) => Promise<Rotation>,
): Promise<{ readonly rotation: Rotation; readonly waitingFor: readonly Instance[] }> {
  let laggards: readonly Instance[] = [];
  const show = progress(terminal, describe);
  try {
    const rotation = await run({
      signal,
      forcePast,
      whenLagging: wait ? 'wait' : 'leave',
      onProgress(now, waitingFor) {
        laggards = waitingFor;
        show(now, waitingFor);
      },
    });
    return { rotation, waitingFor: rotation.state === 'prepared' ? laggards : [] };
  } finally {
    terminal.clearStatus();
  }
}

/** A line that redraws itself at a terminal; elsewhere one whenever something changes; nothing with `--json`. */
function progress<Rotation>(terminal: Terminal, describe: (rotation: Rotation) => string) {
  let said = '';
  return (rotation: Rotation, waitingFor: readonly Instance[]): void => {
    const text = waitingFor.length === 0 ? describe(rotation) : `${describe(rotation)}: waits for ${names(waitingFor)}`;
    if (terminal.isAnimated) terminal.status(text);
    else if (text !== said) terminal.say(text);
    said = text;
  };
}

export function names(instances: readonly Instance[]): string {
  const shown = instances.slice(0, 10).map(({ id, host, pid, actor }) => line`${id} (${actor}, ${host}:${pid})`);
  const more = instances.length - shown.length;
  return [...shown, ...(more > 0 ? [plural(more, 'more process', 'more processes')] : [])].join(', ');
}

/** For somebody who does not wait: what it comes to, and how it goes on. */
export function leftPrepared(kind: 'wrapping' | 'root', waitingFor: readonly Instance[]): string {
  const who = waitingFor.length === 0 ? '' : ` It waits for ${names(waitingFor)}.`;
  const again = kind === 'root' ? 'root-key rotate --to URI' : 'wrapping-key rotate';
  return `Prepared.${who} Go on with \`mh-keys ${again}\`, or take it back with \`mh-keys ${kind}-key cancel\`.`;
}

/** Ids of instances, given one by one or several at once. */
export function collect(id: string, before: readonly string[] = []): string[] {
  return [...before, id];
}

export function noneOpen(kind: 'wrapping' | 'root'): KeyringError {
  return new KeyringError('rotation_not_open', `No rotation of the ${kind} key is open.`, {
    remedy: `Run \`mh-keys ${kind}-key rotations\` to see those that were.`,
  });
}

const ended: ReadonlySet<string> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);

/** The open one, if there is one: there is never a second. */
export function openOne<Rotation extends Standing>(rotations: readonly Rotation[]): Rotation | undefined {
  return rotations.find(({ state }) => !ended.has(state));
}
