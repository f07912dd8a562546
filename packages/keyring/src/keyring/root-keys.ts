import { KeyringError } from '../errors.ts';
import type { RootKeyProvider } from '../providers/provider.ts';

/** Where a root key of this process comes from: opened when it is needed, and again after it could not be. */
export interface RootSource {
  /** For people, and stored; holds no credential. */
  readonly name: string;
  open(): Promise<RootKeyProvider>;
}

/** A root key that was opened. Whether it can be used is known once it has unwrapped something. */
export interface RootAtHand {
  readonly provider: RootKeyProvider;
  readonly fingerprint: string;
}

/** A root key that this process was given and cannot use now. */
export interface RootTrouble {
  readonly name: string;
  /** Undefined when it could not even be opened. */
  readonly fingerprint: string | undefined;
  readonly error: KeyringError;
}

interface Entry {
  readonly source: RootSource;
  opened?: RootAtHand;
  proven: boolean;
  failures: number;
  error?: KeyringError;
  /** Not asked again before that, by `performance.now()`. */
  retryAt: number;
}

// A provider that is down is asked again soon, and then less and less often: by nobody's impatience more than that.
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 60_000;

/**
 * The root keys that this process was given, in their order: one, or several while the root key changes. One that cannot be used is
 * no trouble as long as another can. Only what was given is ever opened, never what the database names: whoever could write there
 * would point every process at a server of his own.
 */
export class RootKeys {
  readonly #entries: Entry[] = [];
  #opening: Promise<void> | undefined;

  constructor(sources: readonly RootSource[]) {
    for (const source of sources) this.#add(source);
  }

  /** Opens what is not open yet, and not to be left alone after a failure. Never rejects, and takes as long as the slowest. */
  open(): Promise<void> {
    return (this.#opening ??= this.#openAll().finally(() => {
      this.#opening = undefined;
    }));
  }

  async #openAll(): Promise<void> {
    for (const entry of this.#entries) {
      if (entry.opened !== undefined || !isDue(entry)) continue;
      try {
        const provider = await entry.source.open();
        entry.opened = { provider, fingerprint: (await provider.status()).fingerprint };
        succeeded(entry);
      } catch (error) {
        failed(entry, error);
      }
    }
  }

  /** Adds one more, opened already; nothing happens when there is one of its fingerprint. */
  add(root: RootAtHand): void {
    if (this.#entries.some(({ opened }) => opened?.fingerprint === root.fingerprint)) return;
    const { provider } = root;
    this.#add({ name: provider.uri, open: () => Promise.resolve(provider) }).opened = root;
  }

  /** Those that are open and may be asked now. */
  get atHand(): readonly RootAtHand[] {
    return this.#entries.flatMap((entry) => (entry.opened !== undefined && isDue(entry) ? [entry.opened] : []));
  }

  /** Those that are open, whether or not they may be asked now. */
  get opened(): readonly RootAtHand[] {
    return this.#entries.flatMap(({ opened }) => opened ?? []);
  }

  /** Fingerprints of those that have unwrapped a wrapping key here. */
  get usable(): string[] {
    return this.#entries.flatMap(({ opened, proven }) => (proven && opened !== undefined ? [opened.fingerprint] : []));
  }

  get troubles(): readonly RootTrouble[] {
    return this.#entries.flatMap(({ source: { name }, opened, error }) =>
      error === undefined ? [] : [{ name, fingerprint: opened?.fingerprint, error }],
    );
  }

  /** The one that was named first: what a new installation is under. @throws KeyringError why it cannot be used. */
  get first(): RootAtHand {
    const [entry] = this.#entries;
    if (entry?.opened !== undefined) return entry.opened;
    throw entry?.error ?? new TypeError('no root key was given');
  }

  /** Is there one that is not open, and may be tried now? */
  get anyToOpen(): boolean {
    return this.#entries.some((entry) => entry.opened === undefined && isDue(entry));
  }

  /** Is there anything that failed, or was never tried, whose time has come? */
  get anyToTry(): boolean {
    return this.#entries.some((entry) => (entry.error !== undefined || entry.opened === undefined) && isDue(entry));
  }

  isProven({ fingerprint }: RootAtHand): boolean {
    return this.#of(fingerprint)?.proven === true;
  }

  /** It has unwrapped a wrapping key. */
  proved({ fingerprint }: RootAtHand): void {
    const entry = this.#of(fingerprint);
    if (entry === undefined) return;
    entry.proven = true;
    succeeded(entry);
  }

  failed({ fingerprint }: RootAtHand, error: unknown): KeyringError {
    const entry = this.#of(fingerprint);
    return entry === undefined ? asRootError(error, fingerprint) : failed(entry, error);
  }

  #of(fingerprint: string): Entry | undefined {
    return this.#entries.find(({ opened }) => opened?.fingerprint === fingerprint);
  }

  #add(source: RootSource): Entry {
    const entry: Entry = { source, proven: false, failures: 0, retryAt: -Infinity };
    this.#entries.push(entry);
    return entry;
  }
}

/** Of one provider that is open already. */
export function rootKeysOf(...providers: readonly RootKeyProvider[]): RootKeys {
  return new RootKeys(providers.map((provider) => ({ name: provider.uri, open: () => Promise.resolve(provider) })));
}

function isDue({ retryAt }: Entry): boolean {
  return performance.now() >= retryAt;
}

function succeeded(entry: Entry): void {
  delete entry.error;
  entry.failures = 0;
  entry.retryAt = -Infinity;
}

function failed(entry: Entry, error: unknown): KeyringError {
  const told = asRootError(error, entry.source.name);
  entry.error = told;
  entry.failures += 1;
  entry.proven = false;
  entry.retryAt = performance.now() + Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (entry.failures - 1));
  return told;
}

/** Providers throw errors of ours; one that does not is taken for one that cannot be reached. */
function asRootError(error: unknown, name: string): KeyringError {
  if (error instanceof KeyringError) return error;
  return new KeyringError('root_key_unreachable', `The root key ${name} could not be used.`, {
    remedy: 'See the log of its provider.',
    cause: error,
  });
}
