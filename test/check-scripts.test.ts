import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importProblems, packageProblems, type Manifest, type Packed } from '../scripts/check-package.ts';

const scripts = path.join(import.meta.dirname, '../scripts');

describe('the sum of test runs', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'meshhook-sum-'));
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  const report = (name: string, statuses: string[], more: object = {}): string => {
    const file = path.join(folder, `${name}.json`);
    const assertionResults = statuses.map((status, index) => ({ fullName: `claim ${String(index)}`, status }));
    const status = statuses.includes('failed') ? 'failed' : 'passed';
    const testResults = [{ name: '/somewhere/a.test.ts', status, message: 'went wrong', assertionResults, ...more }];
    writeFileSync(file, JSON.stringify({ success: status === 'passed', testResults, ...more }));
    return file;
  };
  const sum = (...args: string[]): { last: string; said: string; status: number | null } => {
    const run = spawnSync(process.execPath, [path.join(scripts, 'sum-tests.ts'), ...args], { encoding: 'utf8' });
    return { last: run.stdout.trimEnd().split('\n').at(-1) ?? '', said: run.stdout, status: run.status };
  };

  it('adds steps and reports up, and ends with one line', () => {
    const good = report('good', ['passed', 'passed', 'pending']);
    expect(sum('--step', 'check=0', `${good}=0`, `${good}=0`)).toMatchObject({
      last: '5 passed, 0 failed, 2 skipped',
      status: 0,
    });
  });

  it('names what failed', () => {
    const result = sum('--step', 'check=2', `${report('bad', ['passed', 'failed'])}=1`);
    expect(result).toMatchObject({ last: '1 passed, 2 failed', status: 1 });
    expect(result.said).toContain('check: failed: it ended with status 2');
    expect(result.said).toContain('bad: failed: claim 1');
  });

  it.each([
    ['a report that is missing', () => path.join(folder, 'nowhere.json'), /no report/],
    ['a report that is cut off', () => cutOff(), /no report/],
    ['a run without a test', () => report('empty', []), /no test ran/],
    ['a run that skipped everything', () => report('skipped', ['pending']), /no test ran/],
    ['a file that did not load', () => report('unloaded', ['passed'], { status: 'failed' }), /a\.test\.ts: went wrong/],
    ['an error outside every test', () => `${report('late', ['passed'])}=1`, /but the run ended with status 1/],
    ['a run that says it failed', () => `${report('unhappy', ['passed'], { success: false })}=0`, /but the run ended/],
    ['a run that was cut off', () => `${path.join(folder, 'nowhere.json')}=124`, /cut off/],
    [
      'a run that was cut off at its end',
      () => `${report('endless', ['passed'])}=124`,
      /passed, but the run was cut off/,
    ],
    ['a report without its status', () => report('unknown', ['passed']), /but the run ended with status/],
  ])('takes %s for a failure', (_claim, make, says) => {
    const result = sum(make());
    expect(result.status).toBe(1);
    expect(result.last).toMatch(/ 1 failed/);
    expect(result.said).toMatch(says);
  });

  const cutOff = (): string => {
    const file = path.join(folder, 'cut-off.json');
    writeFileSync(file, '{"success":true,"testResu');
    return file;
  };

  describe('of a run in which much fails', () => {
    const file = path.join(folder, 'run.json');
    const failures = path.join(folder, 'run.failures');
    let told: ReturnType<typeof sum>;
    beforeAll(() => {
      const config = path.join(import.meta.dirname, 'fixtures/failing/vitest.config.ts');
      const { status } = spawnSync('npx', ['vitest', 'run', '--config', config, `--outputFile.json=${file}`], {
        env: { ...process.env, MESHHOOK_FAILURES: failures },
      });
      told = sum(`${file}=${String(status)}`);
    });

    it('tells each with its file, what it said, where, and its seed', () => {
      expect(told).toMatchObject({ last: '1 passed, 4 failed', status: 1 });
      const [claim = [], drawn = []] = told.said
        .split('run: failed: ')
        .slice(1)
        .map((one) => one.split('\n    '));
      expect(claim[0]).toBe('a claim that is not so');
      expect(claim[1]).toContain('fixtures/failing/test.fails.ts');
      expect(claim.join('\n')).toMatch(/AssertionError: expected .* to deeply equal(.|\n)*test\.fails\.ts:5/);
      expect(drawn.slice(0, 4)).toEqual([
        'drawn from a seed',
        expect.stringContaining('fails.ts'),
        'seed 4711',
        'Error: lost',
      ]);
      expect(drawn.join('\n')).toMatch(/because of Error: the connection .* was closed/);
    });

    it('tells hooks, too', () => {
      expect(told.said).toMatch(/failed: what leaves something behind\n.*hook\.fails\.ts\n.*a connection was left/);
    });

    it('has room for all of them, and for no secret', () => {
      expect(told.said.split('\n').length).toBeLessThan(100);
      expect(told.said).toContain('more lines');
      expect(told.said).not.toMatch(/hunter2|0f0f0f|EXAMPLE/);
      const many = Array.from({ length: 200 }, () => 'failed');
      expect(sum(`${report('many', many)}=1`).said.split('\n').length).toBeLessThan(100);
    });
  });

  it('tells the end of what a step said, or a run that failed outside every test', () => {
    const log = path.join(folder, 'late.log');
    writeFileSync(log, `begun\n${'.\n'.repeat(50)}The run gave secrets away\n`);
    for (const said of [sum('--step', `check=1=${log}`).said, sum(`${report('late', ['passed'])}=1`).said]) {
      expect(said).toContain('secrets away');
      expect(said).not.toContain('begun');
    }
  });

  it('is not satisfied with no run at all', () => {
    expect(sum()).toMatchObject({ last: '0 passed, 1 failed', status: 1 });
    expect(sum('--step', 'check=0')).toMatchObject({ last: '1 passed, 1 failed', status: 1 });
  });
});

describe('the check of packages', () => {
  const manifest: Manifest = {
    name: '@meshhook/keyring',
    type: 'module',
    exports: { '.': { '@meshhook/source': './src/index.ts', types: './dist/index.d.ts', default: './dist/index.js' } },
  };
  const files = ['package.json', 'dist/index.js', 'dist/index.d.ts', 'dist/migrations/1_first.sql'];
  const problems = (change: Partial<Packed>): string[] =>
    packageProblems({ manifest, files, read: () => 'export {};\n', ...change }, ['1_first.sql']);

  it('finds nothing wrong with a good one', () => {
    expect(problems({})).toEqual([]);
  });

  it.each<[string, Partial<Packed>, RegExp]>([
    [
      'a build that did not run',
      { files: ['package.json', 'dist/migrations/1_first.sql'] },
      /dist\/index\.js is missing/,
    ],
    ['missing types', { files: files.filter((file) => !file.endsWith('.d.ts')) }, /dist\/index\.d\.ts is missing/],
    ['a missing migration', { files: files.slice(0, 3) }, /migration 1_first\.sql is not shipped/],
    ['a stray migration', { files: [...files, 'dist/migrations/0_old.sql'] }, /not in supabase\/migrations/],
    ['a test', { files: [...files, 'dist/a.test.js'] }, /is a test/],
    ['a source', { files: [...files, 'src/index.ts'] }, /it is a source/],
    ['a stray file', { files: [...files, 'root.key'] }, /root\.key is shipped/],
    ['CommonJS by name', { files: [...files, 'dist/a.cjs'] }, /a\.cjs is shipped/],
    ['CommonJS by content', { read: () => 'module.exports = 1;\n' }, /is CommonJS/],
    ['a package that is not ESM', { manifest: { name: '@meshhook/keyring', exports: {} } }, /"type": "module"/],
    ['a dependency of the core', { manifest: { ...manifest, dependencies: { pg: '*' } } }, /may depend on nothing/],
    [
      'an export without a file',
      { manifest: { ...manifest, exports: { './a': './dist/a.js' } } },
      /a\.js is not shipped/,
    ],
    ['a command without a file', { manifest: { ...manifest, bin: { a: 'bin/a.js' } } }, /the command a/],
  ])('finds %s', (_claim, change, says) => {
    expect(problems(change).join('\n')).toMatch(says);
  });

  describe('by importing it', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'meshhook-import-'));
    afterAll(() => {
      rmSync(folder, { recursive: true });
    });
    const importing = (source: string, ...wanted: string[]): string => {
      writeFileSync(path.join(folder, 'index.mjs'), source);
      return importProblems(folder, './index.mjs', wanted, true).join('\n');
    };
    // What the importing program resolves paths against is itself, so name the file.
    const found = (source: string, ...wanted: string[]): string =>
      importing(source.replaceAll('FOLDER', JSON.stringify(folder)), ...wanted);

    it('finds nothing wrong with a module that only exports', () => {
      expect(found('export const a = 1;', 'a')).toBe('');
    });

    it.each([
      ['a missing export', 'export const a = 1;', /does not export b/],
      ['a timer', 'export const b = setInterval(() => {}, 1e9).unref();', /changes resources/],
      [
        'a server',
        'import net from "node:net"; export const b = net.createServer().listen(0).unref();',
        /changes resources/,
      ],
      ['a global', 'globalThis.surprise = 1; export const b = 1;', /changes globals/],
      ['a listener', 'process.on("exit", () => {}); export const b = 1;', /changes listeners/],
      ['a setting', 'process.env.SURPRISE = "1"; export const b = 1;', /changes environment/],
      ['a line printed', 'console.log("hello"); export const b = 1;', /hello/],
      [
        'a file written',
        'import fs from "node:fs"; fs.writeFileSync(FOLDER + "/x", ""); export const b = 1;',
        /cannot be imported/,
      ],
      [
        'a program started',
        'import c from "node:child_process"; c.execSync("true"); export const b = 1;',
        /cannot be imported/,
      ],
      ['a module that does not load', 'import "./nowhere.mjs"; export const b = 1;', /cannot be imported/],
    ])('finds %s', (_claim, source, says) => {
      expect(found(source, 'b')).toMatch(says);
    });
  });
});
