import { readFileSync } from 'node:fs';

/** A file of ../vectors, parsed. */
export function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8')) as T;
}

/** The bytes of a vector's hex, where `<n>` stands for n zero bytes. */
export function bytesOf(text: string): Buffer {
  return Buffer.from(
    text.replace(/<(\d+)>/g, (_, count: string) => '00'.repeat(Number(count))),
    'hex',
  );
}
