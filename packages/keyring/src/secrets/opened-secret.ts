import { inspect } from 'node:util';
import type { OpenedSecret, OpenedValue } from '../api.ts';

/** A value on its way to whoever asked for it: reachable by name, and redacted wherever an object is printed. */
abstract class Opened {
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  get value(): string {
    return this.#bytes.toString('utf8');
  }

  abstract toString(): string;

  toJSON(): object {
    return { ...Object.fromEntries(Object.entries(this)), value: '<redacted>' };
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

export class OpenedStoredSecret extends Opened implements OpenedSecret {
  readonly id: string;
  readonly name: string;
  readonly keyId: string;
  readonly stale: boolean;
  readonly writtenAt: Date | undefined;

  constructor(bytes: Buffer, about: Omit<OpenedSecret, 'value' | 'bytes'>) {
    super(bytes);
    this.id = about.id;
    this.name = about.name;
    this.keyId = about.keyId;
    this.stale = about.stale;
    this.writtenAt = about.writtenAt;
  }

  toString(): string {
    return `OpenedSecret(${this.name}: <redacted>)`;
  }
}

export class OpenedColumnValue extends Opened implements OpenedValue {
  readonly label: string;
  readonly rowId: string;
  readonly keyId: string;

  constructor(bytes: Buffer, about: Omit<OpenedValue, 'value' | 'bytes'>) {
    super(bytes);
    this.label = about.label;
    this.rowId = about.rowId;
    this.keyId = about.keyId;
  }

  toString(): string {
    return `OpenedValue(${this.label} of ${this.rowId}: <redacted>)`;
  }
}
