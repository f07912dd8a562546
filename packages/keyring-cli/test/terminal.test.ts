import { KeyringError } from '@meshhook/keyring';
import { CommanderError } from 'commander';
import { describe, expect, test } from 'vitest';
import { table } from '../src/terminal/table.ts';
import { age, cut, duration, line, oneLine, plural, printable, width } from '../src/terminal/text.ts';
import { Terminal } from '../src/terminal/terminal.ts';
import { fakeTerminal } from './support/fake-terminal.ts';

describe('a table', () => {
  const columns = [
    { title: 'NAME', value: (row: { name: string; n: number }) => row.name },
    { title: 'N', value: (row: { name: string; n: number }) => String(row.n), align: 'right' as const },
  ];

  test('is as wide as its widest cell, right-aligned where numbers are, without trailing blanks', () => {
    const rows = [
      { name: 'a', n: 1 },
      { name: 'longer', n: 1234 },
    ];
    expect(table(rows, columns)).toBe(['NAME       N', 'a          1', 'longer  1234'].join('\n'));
  });

  test('counts two columns for wide letters', () => {
    const [title, first, second] = table(
      [
        { name: '日本', n: 1 },
        { name: 'abcd', n: 2 },
      ],
      columns,
    ).split('\n');
    expect([title, first, second]).toEqual(['NAME  N', '日本  1', 'abcd  2']);
  });

  test('keeps a row on one line, and lets no name command the terminal', () => {
    const text = table([{ name: 'a\nb\u001b[31m\u202e', n: 1 }], columns);
    expect(text.split('\n')).toHaveLength(2);
    expect(text).toContain('a b\ufffd[31m\ufffd');
  });
});

describe('text', () => {
  test('is made harmless: controls and marks of direction show, line ends and tabs stay', () => {
    expect(printable('a\u0007\u009b\u2066\tb\n')).toBe('a\ufffd\ufffd\ufffd\tb\n');
    expect(oneLine('a\n  b\tc')).toBe('a b c');
    expect(line`made ${'x\u001b[2J'} in ${3} s`).toBe('made x\ufffd[2J in 3 s');
  });

  test('is cut between letters, not within', () => {
    expect(cut('日本語', 5)).toBe('日本');
    expect(cut('👩‍👩‍👧x', 2)).toBe('👩‍👩‍👧');
    expect(cut('abc', 0)).toBe('');
    expect(width('e\u0301')).toBe(1);
  });

  test('says how long and how many as people do', () => {
    expect([40, 3_200, 45_000, 245_000, 25_380_000, 1_036_800_000].map(duration)).toEqual([
      ...['40 ms', '3.2 s', '45 s', '4 min 5 s', '7 h 3 min', '12 d'],
    ]);
    expect([5_000, 90_000, 86_400_000].map(age)).toEqual(['< 1 min', '1 min', '24 h 0 min']);
    expect([plural(1, 'row'), plural(1200, 'row')]).toEqual(['1 row', '1,200 rows']);
  });
});

describe('a long answer', () => {
  const over = (failure: NodeJS.ErrnoException | undefined, limit: number) => {
    let written = 0;
    const stdout = {
      write: (_: unknown, done?: (error?: Error | null) => void) => done?.(++written > limit ? failure : null),
    };
    const stderr = { write: () => undefined };
    return new Terminal({ stdout, stderr, json: false, color: false, animated: false });
  };
  const parts = (ended: { early: boolean }) =>
    (async function* () {
      ended.early = true;
      for (let part = 0; part < 5; part++) yield await Promise.resolve(`${part}\n`);
      ended.early = false;
    })();

  test('ends where nobody reads on, and fetches no more', async () => {
    const ended = { early: false };
    await over(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }), 2).stream(parts(ended));
    expect(ended.early).toBe(true);
    await over(undefined, 2).stream(parts(ended));
    expect(ended.early).toBe(false);
  });

  test('fails on a disk that is full, and where what it tells of failed', async () => {
    const full = Object.assign(new Error('write ENOSPC'), { code: 'ENOSPC' });
    await expect(over(full, 2).stream(parts({ early: false }))).rejects.toBe(full);
    const gone = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    const failing = (async function* () {
      yield await Promise.resolve('0\n');
      throw gone;
    })();
    await expect(over(undefined, 0).stream(failing)).rejects.toBe(gone);
  });
});

describe('what is printed', () => {
  test('is the answer on standard output and the rest on standard error', () => {
    const { terminal, written } = fakeTerminal();
    terminal.note('made: root key');
    terminal.result({ a: 1 }, () => 'one');
    expect(written).toEqual({ stdout: 'one\n', stderr: 'made: root key\n' });
  });

  test('is one document with --json, undefined as null, and lines of JSON on standard error', () => {
    const { terminal, written } = fakeTerminal({ json: true });
    terminal.say('for people only');
    terminal.note('made: root key');
    terminal.result({ a: undefined, at: new Date(0) }, () => 'one');
    terminal.error(new KeyringError('unknown_project', 'There is no project "x".', { details: { name: 'x' } }));
    expect(JSON.parse(written.stdout)).toEqual({ a: null, at: '1970-01-01T00:00:00.000Z' });
    const [note, error, ...rest] = written.stderr
      .trimEnd()
      .split('\n')
      .map((text) => JSON.parse(text));
    expect(note).toEqual({ note: 'made: root key' });
    expect(error).toEqual({
      error: {
        code: 'unknown_project',
        message: 'There is no project "x".',
        remedy: expect.stringContaining('mh-keys project list'),
        details: { name: 'x' },
      },
    });
    expect(rest).toEqual([]);
  });

  test('has an error: line with the code, and a hint: line with the remedy', () => {
    const { terminal, written } = fakeTerminal();
    terminal.error(new KeyringError('not_migrated', 'No schema.', { remedy: 'Run `mh-keys migrate`.' }));
    expect(written.stderr).toBe('error: No schema. [not_migrated]\nhint: Run `mh-keys migrate`.\n');
  });

  test('is coloured at a terminal only, and not against NO_COLOR', () => {
    const shown = (options: Parameters<typeof fakeTerminal>[0]) => {
      const { terminal, written } = fakeTerminal(options);
      terminal.error(new KeyringError('internal', 'no'));
      return written.stderr.includes('\u001b[');
    };
    expect(shown({ tty: true, color: true })).toBe(true);
    expect(shown({ tty: true, color: false })).toBe(false);
    expect(shown({ tty: false, color: true })).toBe(false);
    expect(shown({ tty: true, color: true, json: true })).toBe(false);
  });

  test('has no password of a URL in it, wherever the URL stands', () => {
    const { terminal, written } = fakeTerminal();
    const url = 'postgres://owner:hunter2@db/app';
    terminal.error(new KeyringError('database_unreachable', `No ${url}`, { remedy: url, details: { url } }));
    terminal.error(new Error(`bad ${url}`));
    expect(written.stderr).toContain('postgres://owner:***@db/app');
    expect(written.stderr).not.toContain('hunter2');
  });

  test('does not repeat what somebody put after an option that there is not', () => {
    const { terminal, written } = fakeTerminal();
    terminal.error(new CommanderError(1, 'commander.unknownOption', "error: unknown option '--value=sk_live_1'"));
    expect(written.stderr).toContain("unknown option '--value=…'");
    expect(written.stderr).not.toContain('sk_live');
  });

  test('redraws one line that fits, and clears it for what comes next', () => {
    const { terminal, written } = fakeTerminal({ tty: true });
    terminal.status('x'.repeat(200));
    terminal.note('done');
    expect(written.stderr).toBe(`\r\u001b[2K${'x'.repeat(79)}\r\u001b[2Kdone\n`);
  });

  test('redraws nothing off a terminal, in CI, or with --json', () => {
    for (const options of [{ tty: false }, { tty: true, animated: false }, { tty: true, json: true }]) {
      const { terminal, written } = fakeTerminal(options);
      terminal.status('sweeping');
      expect(written.stderr).toBe('');
    }
  });
});
