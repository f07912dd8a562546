import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { readSettings } from '../src/env.ts';
import { decodeEnvelopeInput, parseLegacyKey } from '../src/input.ts';
import { ask } from '../src/terminal/prompt.ts';

describe('an envelope on standard input', () => {
  const envelope = Buffer.concat([Buffer.from([1, 1]), randomBytes(60)]);

  test.each([
    ['raw', envelope],
    ['hex', envelope.toString('hex')],
    ['hex', `\\x${envelope.toString('hex')}\n`],
    ['hex', `\\\\x${envelope.toString('hex').toUpperCase()}\n`],
    ['hex', envelope.toString('hex').replace(/.{20}/g, '$&\n')],
    ['base64', envelope.toString('base64')],
    ['base64', `${envelope.toString('base64').replace(/.{20}/g, '$&\r\n')}\n`],
    ['base64', envelope.toString('base64url')],
  ] as const)('is found to be %s', (encoding, input) => {
    expect(decodeEnvelopeInput(Buffer.from(input))).toEqual({ encoding, bytes: envelope });
  });

  test('that is nothing of these goes to the parser as it is', () => {
    for (const text of ['not an envelope!', '\\x01f', '']) {
      expect(decodeEnvelopeInput(Buffer.from(text))).toEqual({ encoding: 'raw', bytes: Buffer.from(text) });
    }
  });
});

describe('a legacy key file', () => {
  const key = randomBytes(32);

  test.each([
    ['32 bytes', key],
    ['hex', `${key.toString('hex')}\n`],
    ['base64', `${key.toString('base64')}\r\n`],
    ['base64url', key.toString('base64url')],
  ])('may hold %s', (_, content) => {
    expect(parseLegacyKey(Buffer.from(content))).toEqual(key);
  });

  test.each([
    ['nothing', ''],
    ['31 bytes', key.subarray(1)],
    ['33 bytes', Buffer.concat([key, Buffer.from('\n')])],
    ['62 hex digits', key.toString('hex').slice(2)],
    ['a sentence', 'this is not a key at all, is it?!'],
  ])('may not hold %s', (_, content) => {
    expect(() => parseLegacyKey(Buffer.from(content))).toThrow(
      expect.objectContaining({ code: 'invalid_argument', remedy: expect.stringContaining('64 hex digits') }),
    );
  });
});

describe('a question at the terminal', () => {
  const terminal = () => {
    const raw: boolean[] = [];
    const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (on: boolean) => raw.push(on) });
    const shown: string[] = [];
    return { input, raw, shown, output: { write: (text: string | Uint8Array) => shown.push(text.toString()) } };
  };
  const answer = async (typed: string, hidden = true) => {
    const { input, output, raw, shown } = terminal();
    const asked = ask(input, output, 'Value: ', { hidden });
    input.write(typed);
    const result = await asked.catch((error: { code: string }) => error.code);
    return { result, raw, shown: shown.join('') };
  };

  test('shows nothing of a hidden answer, and leaves the terminal as it found it', async () => {
    expect(await answer('sk_live_1\r')).toEqual({ result: 'sk_live_1', raw: [true, false], shown: 'Value: \n' });
  });

  test('understands backspace, Ctrl-U, pasting, and letters of several bytes', async () => {
    expect((await answer('abx\u007fc\r')).result).toBe('abc');
    expect((await answer('wrong\u0015né日\b語\n')).result).toBe('né語');
    expect((await answer('\u001b[200~pasted\u001b[201~\r')).result).toBe('pasted');
  });

  test('is given up by Ctrl-C, and by Ctrl-D before anything is typed', async () => {
    expect(await answer('abc\u0003')).toMatchObject({ result: 'interrupted', raw: [true, false] });
    expect((await answer('\u0004')).result).toBe('interrupted');
    expect((await answer('abc\u0004')).result).toBe('abc');
  });
});

test('a setting that is empty is not set; the embedded database is the default', () => {
  expect(readSettings({ DATABASE_URL: '', MESHHOOK_HOME: '' }, '/')).toEqual({
    databaseUrl: undefined,
    rootKeyUri: undefined,
    nextRootKeyUri: undefined,
    auditCheckpoint: undefined,
    environment: { DATABASE_URL: '', MESHHOOK_HOME: '' },
    preparedStatements: 'on',
    logFormat: 'text',
    logLevel: 'info',
    home: '/.meshhook',
    color: true,
    animated: true,
  });
  expect(readSettings({ NO_COLOR: '1', CI: 'true' })).toMatchObject({ color: false, animated: false });
  expect(readSettings({ TERM: 'dumb' })).toMatchObject({ color: false, animated: false });
});
