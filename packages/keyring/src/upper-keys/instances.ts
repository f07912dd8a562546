import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Actor } from '../api.ts';
import { isUnreachable } from '../db/failures.ts';
import type { Database } from '../db/port.ts';
import type { Wanted, WrappingKeys } from '../keyring/wrapping-keys.ts';
import { deleteInstance, noteSeen, type Self } from './instance-store.ts';

/** This process, in the list of those that have the keyring open. */
export interface OwnInstance {
  readonly id: string;
  /** Says at once what can be used now, as after something new can be; what there is to load is not waited for. */
  beat(): Promise<void>;
  /** Leaves the list. Never rejects, and takes no longer than a moment. */
  leave(): Promise<void>;
}

export interface InstanceOptions {
  readonly actor: Actor;
  readonly heartbeatMs: number;
}

// Whoever closes does not wait for a database that has gone away.
const LEAVE_WITHIN_MS = 2_000;

/**
 * Enters this process into the list, and keeps it there: every heartbeat says what it can use, and looks whether there is a wrapping
 * key or a root key that it has yet to load or try. A heartbeat that fails is no failure of the process.
 * @throws KeyringError `database_unreachable`. A database that takes no entry, as one that is read only, is used without.
 */
export async function enterInstance(
  database: Database,
  wrappingKeys: WrappingKeys,
  { actor, heartbeatMs }: InstanceOptions,
): Promise<OwnInstance> {
  const self: Self = {
    id: randomUUID(),
    host: hostname(),
    pid: process.pid,
    actor: actor.name,
    version: await ownVersion(),
  };
  let left = false;
  let underWay: Promise<unknown> = Promise.resolve();
  let catchingUp: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  /** One after the other, so that the last word is the newest, and none comes after leaving. */
  const say = (): Promise<Wanted | undefined> => {
    const next = underWay.then(() => (left ? undefined : noteSeen(database, self, wrappingKeys.holding())));
    underWay = next.catch(() => undefined);
    return next;
  };
  const load = async (): Promise<void> => {
    const before = JSON.stringify(wrappingKeys.holding());
    await wrappingKeys.reload();
    await wrappingKeys.proveRoots();
    if (JSON.stringify(wrappingKeys.holding()) !== before) await say();
  };
  /** Beside the heartbeats: a provider that does not answer would keep them, and who falls silent is not waited for. */
  const catchUp = (): void => {
    catchingUp ??= load()
      .catch(() => undefined)
      .finally(() => {
        catchingUp = undefined;
      });
  };
  const beat = async (): Promise<void> => {
    const wanted = await say();
    if (wanted !== undefined && wrappingKeys.isBehind(wanted)) catchUp();
  };
  const keepBeating = (): void => {
    timer = setTimeout(() => {
      void beat().then(keepBeating, keepBeating);
    }, heartbeatMs);
    timer.unref();
    if (left) clearTimeout(timer);
  };

  // What there is to load or to try is not waited for: the one that it opened with is at hand.
  await beat().catch((error: unknown) => {
    if (isUnreachable(error)) throw error;
  });
  keepBeating();
  return {
    id: self.id,
    beat,
    async leave() {
      left = true;
      clearTimeout(timer);
      const gone = underWay
        .then(() => deleteInstance(database, self.id))
        .catch(() => undefined)
        .then(() => catchingUp);
      const enough = new AbortController();
      await Promise.race([gone, sleep(LEAVE_WITHIN_MS, undefined, { signal: enough.signal }).catch(() => undefined)]);
      enough.abort();
    },
  };
}

/** Of the library. */
export async function ownVersion(): Promise<string> {
  const manifest = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
