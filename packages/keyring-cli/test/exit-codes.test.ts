import { errorCodes, KeyringError } from '@meshhook/keyring';
import { CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { exitCodeFor, exitCodeMeanings, exitCodeOf, Unhealthy } from '../src/exit-codes.ts';

test('every error code of the library has an exit code, and every exit code a meaning', () => {
  expect(Object.keys(exitCodeOf).toSorted()).toEqual([...errorCodes].toSorted());
  for (const code of errorCodes) {
    const exitCode = exitCodeFor(new KeyringError(code, 'no'));
    expect(exitCode).not.toBe(0);
    expect(exitCodeMeanings[exitCode]).toBeTypeOf('string');
  }
});

test('usage is 2, help is 0, bad news is 5, and what nobody foresaw is 1', () => {
  expect(exitCodeFor(new CommanderError(1, 'commander.unknownOption', 'no'))).toBe(2);
  expect(exitCodeFor(new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'))).toBe(0);
  expect(exitCodeFor(new CommanderError(1, 'commander.help', '(outputHelp)'))).toBe(2);
  expect(exitCodeFor(new Unhealthy('rows do not open', 'mend them'))).toBe(5);
  expect(exitCodeFor(new Error('out of memory'))).toBe(1);
  expect(exitCodeFor('a string')).toBe(1);
});
