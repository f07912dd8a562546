import type { Command } from 'commander';
import { wholeNumber } from './command.ts';
import type { Terminal } from './terminal/terminal.ts';

/** Which part of a list is shown; where it goes on is the id of the last one that was. */
export interface Page {
  readonly limit: number;
  readonly after?: string;
  readonly before?: string;
}

interface Shape {
  /** At once; how many it is unless somebody says otherwise. */
  readonly most: number;
  readonly usual?: number;
  /** What an id is of. */
  readonly of: string;
}

/** Of a list by name or in the order of its making. */
export function pagedAfter(list: Command, { most, usual = most, of }: Shape): Command {
  return limited(list, most, usual).option(`--after <${of}>`, `only those that come after this ${of}`);
}

/** Of a list with the newest first. */
export function pagedBefore(list: Command, { most, usual = most, of }: Shape): Command {
  return limited(list, most, usual).option(`--before <${of}>`, `only older ones than this ${of}`);
}

function limited(list: Command, most: number, usual: number): Command {
  return list.option('--limit <n>', `how many (at most ${most.toLocaleString('en')})`, wholeNumber(1, most), usual);
}

/** Says how to see what was left out, to people: who reads JSON has the ids. */
export function sayMore<Item>(
  terminal: Terminal,
  shown: readonly Item[],
  { limit }: Page,
  goOn: (last: Item) => string,
): void {
  const last = shown.at(-1);
  if (last !== undefined && shown.length === limit) terminal.say(`There may be more: add ${goOn(last)}`);
}
