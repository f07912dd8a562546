import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { KeyringError } from '@meshhook/keyring';
import { expect, test } from 'vitest';
import { events } from '../src/log.ts';
import { eventLog, inWords, type EventLogOptions, type Facts } from '../src/index.ts';

/** A log whose lines can be read. */
function logOf(options: Partial<EventLogOptions> = {}) {
  const written = { stdout: '', stderr: '' };
  const log = eventLog({
    format: 'json',
    level: 'info',
    stdout: { write: (text) => (written.stdout += text) },
    stderr: { write: (text) => (written.stderr += text) },
    ...options,
  });
  return {
    log,
    written,
    lines: () =>
      written.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
  };
}

const rotationId = randomUUID();

test('an event is one line of JSON, with its rotation and its numbers', () => {
  const { log, lines, written } = logOf();
  log.info('rotation x: completed', {
    event: 'rotation_ended',
    rotationId,
    outcome: 'completed',
    secrets: 60,
    durationMs: 4.5,
  });
  expect(lines()).toEqual([
    {
      ...{ level: 'info', time: expect.stringMatching(/^\d{4}-.*Z$/) as string, pid: process.pid },
      ...{ event: 'rotation_ended', rotationId, outcome: 'completed', secrets: 60, durationMs: 4.5 },
    },
  ]);
  expect(written.stderr).toBe('');
});

test('what is no field, or does not look like one, is not written, whatever the types were told', () => {
  const { log, written, lines } = logOf();
  const secret = `sk_live_${randomBytes(8).toString('hex')}`;
  const smuggled = {
    event: 'unit_failed',
    rotationId: secret,
    outcome: `failed: ${secret}`,
    secrets: secret,
    projects: Number.NaN,
    value: secret,
    details: { secret },
    msg: secret,
    err: new Error(secret),
    [secret]: 1,
    toJSON: () => ({ secret }),
  };
  log.error(secret, smuggled as unknown as Facts);
  log.info(secret, { event: secret as 'note' });
  expect(written.stdout).not.toContain(secret);
  expect(Object.keys(lines()[0] as object).toSorted()).toEqual(['event', 'level', 'pid', 'time']);
  expect(lines()[1]).not.toHaveProperty('event');
});

test('of an error its code and its place are written, never its message, its cause or what it carries', () => {
  const { log, written, lines } = logOf();
  const secret = `sk_live_${randomBytes(8).toString('hex')}`;
  const choked = (): unknown => {
    try {
      return JSON.parse(`"${secret}`.slice(1));
    } catch (error) {
      return error;
    }
  };
  expect(String(choked()), 'the runtime quotes what it choked on').toContain(secret.slice(0, 8));
  const errors = [
    choked(),
    new Error(`${secret}\n    at ${secret} (file:///x.js:1:1)`),
    Object.assign(new TypeError(secret, { cause: secret }), { name: secret, secret }),
    new KeyringError('database_refused', `${secret}`, { details: { sqlState: '23514', secret }, cause: secret }),
    new KeyringError('internal', secret, { details: { sqlState: secret } }),
    secret,
    { secret },
    undefined,
  ];
  for (const error of errors) {
    log.error(inWords(error), { event: 'unit_failed', rotationId, error });
    if (!(error instanceof KeyringError)) expect(inWords(error)).not.toContain(secret);
  }
  expect(written.stdout).not.toContain(secret);
  expect(written.stdout).not.toContain(secret.slice(0, 12));
  expect(lines()[0]).toMatchObject({ code: 'internal', error: 'SyntaxError', at: expect.any(Array) as string[] });
  expect(written.stdout).toContain('event-log.test.ts');
  expect(lines()[3]).toMatchObject({ code: 'database_refused', sqlState: '23514' });
});

test('for people it writes lines, and what is not ordinary on standard error', () => {
  const { log, written } = logOf({ format: 'text' });
  log.info('rotation x: completed', { event: 'rotation_ended' });
  log.error('The queue: it is gone', { event: 'queue_trouble' });
  expect(written).toEqual({ stdout: 'rotation x: completed\n', stderr: 'The queue: it is gone\n' });
});

test.each(['json', 'text'] as const)('a level keeps quiet what is below it: %s', (format) => {
  const some = logOf({ format, level: 'error' });
  some.log.info('ordinary', { event: 'note' });
  expect(some.written).toEqual({ stdout: '', stderr: '' });
  some.log.error('not ordinary', { event: 'queue_trouble' });
  expect(some.written.stdout + some.written.stderr).not.toBe('');
  const none = logOf({ format, level: 'silent' });
  none.log.error('not ordinary', { event: 'queue_trouble' });
  expect(none.written).toEqual({ stdout: '', stderr: '' });
});

test('a format or a level that is none is refused', () => {
  expect(() => logOf({ format: 'xml' as 'json' })).toThrow(TypeError);
  expect(() => logOf({ level: 'loud' as 'info' })).toThrow(TypeError);
});

test('docs/monitoring.md has every event, and no other', () => {
  const docs = readFileSync(path.join(import.meta.dirname, '../../../docs/monitoring.md'), 'utf8');
  const table = docs.slice(docs.indexOf('| event | when |'));
  const named = [...table.matchAll(/^\| (`[a-z_`, ]+) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name),
  );
  expect(named.toSorted()).toEqual(events.filter((event) => !event.endsWith('_over')).toSorted());
});
