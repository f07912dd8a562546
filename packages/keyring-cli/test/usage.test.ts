import { readFileSync } from 'node:fs';
import path from 'node:path';
import { CommanderError, type Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { exitCodeMeanings } from '../src/exit-codes.ts';
import { createProgram } from '../src/program.ts';
import { fakeTerminal } from './support/fake-terminal.ts';

/** The program, its actions noting what they were given instead of doing it. */
function program() {
  const { terminal } = fakeTerminal();
  const out: string[] = [];
  const called: { name: string; given: unknown[] }[] = [];
  const app = {
    settings: {
      databaseUrl: undefined,
      rootKeyUri: undefined,
      nextRootKeyUri: undefined,
      auditCheckpoint: undefined,
      environment: {},
      preparedStatements: 'on',
      logFormat: 'text',
      logLevel: 'info',
      home: '/nowhere',
      color: false,
      animated: false,
    },
    terminal,
    stdin: process.stdin,
    stderr: process.stderr,
    signal: new AbortController().signal,
  };
  const made = createProgram(app, '0.0.0', (text) => out.push(text));
  const leaves = walk(made).filter(({ command }) => command.options.some(({ long }) => long === '--json'));
  for (const { name, command } of leaves) {
    command.action((...given: unknown[]) => void called.push({ name, given: given.slice(0, -1) }));
  }
  return { program: made, leaves, out, called };
}

function walk(command: Command, prefix = ''): { name: string; command: Command }[] {
  return command.commands.flatMap((one) => {
    const name = `${prefix}${one.name()}`;
    return [{ name, command: one }, ...walk(one, `${name} `)];
  });
}

async function help(args: readonly string[]): Promise<string> {
  const { program: made, out } = program();
  await expect(made.parseAsync([...args, '--help'], { from: 'user' })).rejects.toThrow(CommanderError);
  return out.join('');
}

async function parse(args: readonly string[]) {
  const { program: made, called } = program();
  await made.parseAsync(args, { from: 'user' });
  return called;
}

const { leaves } = program();
const names = leaves.map(({ name }) => name);

test('every command that a user was promised is there', () => {
  const promised = `project create, project list, secrets set, secrets get, secrets list, secrets rm, secrets adopt, status, keys list,
    keys destroy, rotate, rotations, rotations pause, rotations pace, rotations resume, rotations rollback, audit, doctor, inspect, migrate,
    root-key create, root-key status, root-key backup, root-key backup verify, root-key recover, worker, workers`;
  expect(names).toEqual(expect.arrayContaining(promised.split(/,\s+/)));
});

describe.each(names)('%s', (name) => {
  test('has examples in its help, and every one of them is understood', async () => {
    const text = await help(name.split(' '));
    const examples = text.split('Examples:\n')[1]?.trimEnd().split('\n') ?? [];
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) {
      const called = await parse(shellWords(/mh-keys (.*)$/.exec(example)?.[1] ?? ''));
      expect(called, example).toHaveLength(1);
    }
    expect(text).toContain(`mh-keys ${name}`);
    expect(text).toContain('--json');
  });

  test('is in docs/cli.md', () => {
    const document = readFileSync(path.join(import.meta.dirname, '../../../docs/cli.md'), 'utf8');
    expect(document).toContain(`mh-keys ${name}`);
  });
});

/** The words of the first command of a line, as far as these examples go. */
function shellWords(text: string): string[] {
  const words: string[] = [];
  for (const [word] of text.matchAll(/'[^']*'|[^\s']+/g)) {
    if (/^(\||\|\||>|<|#)$/.test(word)) break;
    words.push(word.replace(/^'|'$|\)$/g, ''));
  }
  return words;
}

test('the help of mh-keys groups all commands, and says of an option that it is required', async () => {
  const text = await help([]);
  expect(text).toMatch(/^Projects and secrets:$[^]*^Rotation:$[^]*^Keys:$/m);
  expect(text).not.toMatch(/^Commands:$/m);
  expect((await help(['compromise'])).replace(/\s+/g, ' ')).toContain('why, for the audit log (required)');
  expect((await help(['rotate'])).replace(/\s+/g, ' ')).toContain('why, for the audit log --full-speed');
});

test('the exit codes are in the help of mh-keys and in docs/cli.md, with the same words', async () => {
  const document = readFileSync(path.join(import.meta.dirname, '../../../docs/cli.md'), 'utf8');
  const text = await help([]);
  for (const [code, meaning] of Object.entries(exitCodeMeanings)) {
    expect(text).toContain(`${code}  ${meaning}`);
    expect(document).toContain(`| ${code} | ${meaning} |`);
  }
});

describe('usage that cannot be', () => {
  test.each([
    ['an unknown command', ['statsu'], 'Did you mean status?'],
    ['an unknown option', ['status', '--colour'], "unknown option '--colour'"],
    ['no project', ['secrets', 'get', 'A'], "required option '--project <project>' not specified"],
    ['a value as an argument', ['secrets', 'set', 'A', 'sk_live_1', '--project', 'acme'], 'too many arguments'],
    ['both --all and --project', ['rotate', '--all', '--project', 'acme'], 'cannot be used with option'],
    ['both --resume and --all', ['rotate', '--resume', '--all'], 'cannot be used with option'],
    ['two paces', ['rotations', 'pace', 'x', '--polite', '--full-speed'], 'cannot be used with option'],
    ['no rate', ['rotate', '--all', '--max-rate', '0'], 'a whole number from 1 to 1000000'],
    ['no reason', ['keys', 'destroy', 'x'], "required option '--reason <text>' not specified"],
    ['no limit', ['audit', '--limit', '0'], 'a whole number from 1 to 1000'],
    ['half a limit', ['rotations', '--limit', '1.5'], 'a whole number from 1 to 500'],
  ])('is refused: %s', async (_, args, message) => {
    const error = await parse(args).catch((refusal: unknown) => refusal);
    expect(error).toBeInstanceOf(CommanderError);
    expect((error as Error).message).toContain(message);
  });

  test('is told without repeating what may be a value', async () => {
    for (const args of [
      ['A', 'sk_live_1'],
      ['A', '--value=sk_live_1'],
    ]) {
      const error = await parse(['secrets', 'set', ...args, '--project', 'acme']).catch((refusal: unknown) => refusal);
      const { terminal, written } = fakeTerminal();
      terminal.error(error);
      expect(written.stderr).toMatch(/^error: .*\[usage\]\nhint: /);
      expect(written.stderr).not.toContain('sk_live_1');
    }
  });
});

describe('options', () => {
  test('projects of rotate may be given together or apart', async () => {
    for (const args of ['rotate --project a b', 'rotate --project a --project b']) {
      const [call] = await parse(args.split(' '));
      expect(call?.given[0]).toEqual({ project: ['a', 'b'], wait: true });
    }
  });

  test('--resume takes a rotation or none, --no-wait means what it says', async () => {
    expect((await parse(['rotate', '--resume']))[0]?.given[0]).toEqual({ resume: true, wait: true });
    expect((await parse(['rotate', '--resume', 'x']))[0]?.given[0]).toEqual({ resume: 'x', wait: true });
    expect((await parse(['rotate', '--all', '--no-wait']))[0]?.given[0]).toEqual({ all: true, wait: false });
  });

  test('--json after a subcommand is the subcommand’s', async () => {
    const [call] = await parse(['rotations', 'pause', 'x', '--json']);
    expect(call).toEqual({ name: 'rotations pause', given: ['x', { json: true }] });
  });
});
