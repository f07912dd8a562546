import { inspect } from 'node:util';
import type { OpenedSecret } from '../api.ts';

/** A value on its way to whoever asked for it: reachable by name, and redacted wherever an object is printed. */
export class Opened implements OpenedSecret {
  readonly #bytes: Buffer;
  readonly id: string;
  readonly name: string;
  readonly stale: boolean;
  readonly keyId: string;
  readonly writtenAt: Date | undefined;

  constructor(bytes: Buffer, about: Omit<OpenedSecret, 'value' | 'bytes'>) {
    this.#bytes = bytes;
    this.id = about.id;
    this.name = about.name;
    this.stale = about.stale;
    this.keyId = about.keyId;
    this.writtenAt = about.writtenAt;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  get value(): string {
    return this.#bytes.toString('utf8');
  }

  toString(): string {
    return `OpenedSecret(${this.name}: <redacted>)`;
  }

  toJSON(): object {
    const { id, name, keyId, stale, writtenAt } = this;
    return { id, name, keyId, stale, writtenAt, value: '<redacted>' };
  }

  [inspect.custom](): string {
    return this.toString();
  }
}
