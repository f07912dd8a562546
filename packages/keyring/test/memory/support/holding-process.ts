/**
 * A service that does what services do, one step after the other as its parent asks, and is then looked into from outside:
 *
 *   node --conditions=@meshhook/source --expose-gc holding-process.ts DATABASE_URL ROOT_KEY_URI
 */
import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeHeapSnapshot } from 'node:v8';
import { openKeyring, type Keyring } from '@meshhook/keyring';

/** A value of 32 bytes, made from a seed, so that no message holds one. */
export const bytesOf = (seed: string): Buffer => hash('sha256', seed, 'buffer');
/** The same for a value that is a string: 32 characters. */
export const textOf = (seed: string): string => bytesOf(seed).toString('base64url').slice(0, 32);

export type Step =
  | { readonly do: 'open' | 'drop' | 'rest' | 'close' }
  /** Rotates the wrapping key, and destroys the version that it leaves. */
  | { readonly do: 'replace wrapping key' }
  /** `text`: as a string, which nobody can wipe. `bytes`: wiped by the service once it is stored or read. */
  | { readonly do: 'put' | 'get'; readonly as: 'text' | 'bytes'; readonly project: string; readonly seed: string }
  | { readonly do: 'rotate'; readonly project: string }
  | { readonly do: 'destroy'; readonly keyId: string }
  | { readonly do: 'plant'; readonly as: 'text' | 'bytes'; readonly seed: string }
  | { readonly do: 'snapshot'; readonly to: string };

let keyring: Keyring;
const planted: unknown[] = [];

async function step(asked: Step): Promise<unknown> {
  switch (asked.do) {
    case 'open':
      // Two data keys are held: the third lets the first go.
      keyring = await openKeyring({ database: process.argv[2] ?? '', rootKey: process.argv[3] ?? '', keyCacheSize: 2 });
      return;
    case 'put': {
      if (asked.as === 'text') return keyring.secrets.put(asked.project, asked.seed, textOf(asked.seed));
      const value = bytesOf(asked.seed);
      await keyring.secrets.put(asked.project, asked.seed, value);
      value.fill(0);
      return;
    }
    case 'get': {
      const secret = await keyring.secrets.get(asked.project, asked.seed);
      if (asked.as === 'text') return secret?.value === textOf(asked.seed);
      const [value, wanted] = [secret?.bytes, bytesOf(asked.seed)];
      const same = value?.equals(wanted);
      value?.fill(0);
      wanted.fill(0);
      return same;
    }
    case 'rotate': {
      const { id } = await keyring.rotations.request({ projects: [asked.project], pace: 'full' });
      return (await keyring.rotations.run(id)).state;
    }
    case 'replace wrapping key': {
      const { id, fromKeyId } = await keyring.wrappingKeys.request();
      await keyring.wrappingKeys.run(id);
      return (await keyring.wrappingKeys.destroy(fromKeyId, { reason: 'nothing is under it' })).state;
    }
    case 'destroy':
      return (await keyring.keys.destroy(asked.keyId, { reason: 'its retention is over' })).status;
    case 'plant':
      // Behind so many others that a snapshot with the usual limit of 1,024 characters to a string would not have it.
      planted.push(asked.as === 'bytes' ? bytesOf(asked.seed) : 'x'.repeat(5000) + bytesOf(asked.seed).toString('hex'));
      return;
    case 'drop':
      planted.length = 0;
      return;
    case 'rest':
      for (let round = 0; round < 5; round++) {
        globalThis.gc?.();
        await sleep(20);
      }
      return;
    case 'snapshot':
      return writeHeapSnapshot(asked.to);
    case 'close':
      // Still referred to, as by a program that goes on.
      await keyring.close();
      return;
  }
}

process.on('message', (asked: Step) => {
  step(asked).then(
    (done) => process.send?.({ done }),
    (error: unknown) => process.send?.({ failed: String(error) }),
  );
});
