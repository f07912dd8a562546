import type { Keyring, WrappingRotation } from '@meshhook/keyring';

const resting: ReadonlySet<string> = new Set(['completed', 'rolled_back', 'canceled', 'failed', 'blocked']);

/**
 * Goes on with a rotation of the wrapping key that stood still between two looks: whoever drove it has died, or it waited for processes
 * that have come meanwhile. By any number of workers: each step is taken by one.
 */
export class WrappingTakeover {
  readonly #wrappingKeys: Pick<Keyring['wrappingKeys'], 'rotations' | 'run'>;
  readonly #signal: AbortSignal;
  #stood: string | undefined;

  constructor(wrappingKeys: Pick<Keyring['wrappingKeys'], 'rotations' | 'run'>, signal: AbortSignal) {
    this.#wrappingKeys = wrappingKeys;
    this.#signal = signal;
  }

  /** The rotation that it brought further, as it stands then. @throws KeyringError as `wrappingKeys.run` does. */
  async look(): Promise<WrappingRotation | undefined> {
    const [newest] = await this.#wrappingKeys.rotations({ limit: 1 });
    const open = newest === undefined || resting.has(newest.state) ? undefined : newest;
    const stands = open && standing(open);
    const stoodStill = stands !== undefined && stands === this.#stood;
    this.#stood = stands;
    if (open === undefined || !stoodStill) return undefined;
    const run = await this.#wrappingKeys.run(open.id, { signal: this.#signal, whenLagging: 'leave' });
    return standing(run) === stands ? undefined : run;
  }
}

function standing({ id, state, keys: { moved, verified } }: WrappingRotation): string {
  return [id, state, moved, verified].join(' ');
}
