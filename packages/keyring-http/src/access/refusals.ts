import type { Keyring } from '@meshhook/keyring';

const EVERY_MS = 60_000;
const MOST_SOURCES = 20;

/**
 * Tries that were refused, for the trail: the first at once, those of the next minute in one entry. However many there are, they
 * are an entry a minute.
 */
export class Refusals {
  readonly #keyring: Keyring;
  readonly #onError: (error: unknown, id: string) => void;
  #tries = 0;
  readonly #sources = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(keyring: Keyring, onError: (error: unknown, id: string) => void) {
    this.#keyring = keyring.as({ name: 'sign-in', kind: 'system' });
    this.#onError = onError;
  }

  note(source: string): void {
    this.#tries += 1;
    if (this.#sources.has(source) || this.#sources.size < MOST_SOURCES) {
      this.#sources.set(source, (this.#sources.get(source) ?? 0) + 1);
    }
    if (this.#timer !== undefined) return;
    this.#write();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#tries > 0) this.#write();
    }, EVERY_MS);
    this.#timer.unref();
  }

  #write(): void {
    const sources = [...this.#sources].map(([address, tries]) => ({ address, tries }));
    const refused = { tries: this.#tries, sources };
    this.#tries = 0;
    this.#sources.clear();
    this.#keyring.access.noteRefused(refused).catch((error: unknown) => {
      this.#onError(error, 'sign-in');
    });
  }
}
