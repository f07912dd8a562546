/**
 * Checks what would be published, as it would be published: packs every package, looks at what is in it, unpacks it into
 * an empty folder and imports it there. Run after `npm run build`.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.join(import.meta.dirname, '..');
const core = '@meshhook/keyring';

/** What a program that uses the library cannot do without. */
const coreExports = ['KeyringError', 'errorCodes', 'migrate', 'openKeyring'];

export interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly type?: string;
  readonly sideEffects?: boolean;
  readonly bin?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>> | string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

export interface Packed {
  readonly manifest: Manifest;
  /** Paths in the package. */
  readonly files: readonly string[];
  readonly read: (file: string) => string;
}

/** What is wrong with a package, one line each. `migrations` are the names of those the core ships. */
export function packageProblems({ manifest, files, read }: Packed, migrations: readonly string[]): string[] {
  const problems: string[] = [];
  const has = (file: string): boolean => files.includes(file.replace(/^\.\//, ''));
  const expect = (truth: boolean, problem: string): void => {
    if (!truth) problems.push(`${manifest.name}: ${problem}`);
  };

  expect(manifest.type === 'module', 'package.json does not say "type": "module"');
  if (manifest.exports !== undefined) {
    expect(has('dist/index.js'), 'dist/index.js is missing: run `npm run build`');
    expect(has('dist/index.d.ts'), 'dist/index.d.ts is missing: run `npm run build`');
  }
  expect(manifest.exports !== undefined || manifest.bin !== undefined, 'package.json has neither exports nor bin');
  for (const [entry, target] of Object.entries(manifest.exports ?? {})) {
    if (typeof target === 'string') expect(has(target), `exports ${entry}, but ${target} is not shipped`);
    else {
      // `@meshhook/source` leads to TypeScript, for this repository's own tools.
      for (const [condition, file] of Object.entries(target).filter(([name]) => name !== '@meshhook/source')) {
        expect(has(file), `exports ${entry} (${condition}), but ${file} is not shipped`);
      }
    }
  }
  for (const [name, file] of Object.entries(manifest.bin ?? {})) {
    expect(has(file), `the command ${name} is ${file}, which is not shipped`);
    expect(
      has(file) && read(file).startsWith('#!/usr/bin/env node\n'),
      `${file} does not start with #!/usr/bin/env node`,
    );
  }

  for (const file of files) {
    const isOutside = !/^(dist|bin)\//.test(file) && !/^(package\.json|README(\.md)?|LICENSE(\.md)?)$/.test(file);
    expect(!isOutside, `${file} is shipped: only dist, bin, README and LICENSE are`);
    expect(!/(^|\/)(test|tests)\/|\.(test|spec|bench)\./.test(file), `${file} is a test, and shipped`);
    expect(!/\.(c|m)[jt]s$/.test(file), `${file} is shipped: everything here is .js and ESM`);
    expect(!/\.tsbuildinfo$/.test(file), `${file} is shipped: add "!dist/.tsbuildinfo" to "files"`);
    expect(!/\.ts$/.test(file) || /\.d\.ts$/.test(file), `${file} is shipped: it is a source`);
    if (file.endsWith('.js')) {
      expect(!/^\s*(module\.exports|exports\.\w+)\s*=|\brequire\(/m.test(read(file)), `${file} is CommonJS`);
    }
  }

  if (manifest.name === core) {
    const dependencies = Object.keys(manifest.dependencies ?? {});
    expect(dependencies.length === 0, `the core depends on ${dependencies.join(', ')}: it may depend on nothing`);
    expect(migrations.length > 0, 'there are no migrations');
    for (const migration of migrations)
      expect(has(`dist/migrations/${migration}`), `the migration ${migration} is not shipped`);
    for (const file of files.filter((one) => one.startsWith('dist/migrations/'))) {
      expect(migrations.includes(path.basename(file)), `${file} is shipped, and not in supabase/migrations`);
    }
  }
  return problems;
}

/** Runs in the unpacked folder, in a process that may write nothing, start nothing and say nothing. */
const importer = `
import { createHook } from 'node:async_hooks';
const [specifier, strict, ...wanted] = process.argv.slice(1);
// Timers, sockets, servers, watchers, workers: those too that do not keep a process alive.
// Not counted: what loading a module is made of, and what Node makes for \`node:dns\` and for the standard streams.
const resources = [];
const loading = /^(PROMISE|Immediate|TickObject|FS|CloseReq|Microtask|RANDOM|DNSCHANNEL)/;
void [process.stdout, process.stderr];
createHook({ init: (id, type) => { if (!loading.test(type)) resources.push(type); } }).enable();
const look = () => ({
  // zod keeps its registry there, so that two copies of it share one.
  globals: Object.getOwnPropertyNames(globalThis).filter((name) => !name.startsWith('__zod')).sort().join(),
  listeners: process.eventNames().map((name) => String(name) + process.listenerCount(name)).sort().join(),
  environment: JSON.stringify(process.env),
  resources: resources.join(),
});
const before = look();
const names = Object.keys(await import(specifier));
await new Promise((resolve) => setImmediate(resolve));
const after = look();
const problems = wanted.filter((name) => !names.includes(name)).map((name) => 'does not export ' + name);
if (strict === 'strict') {
  for (const what of Object.keys(before)) {
    if (before[what] !== after[what]) problems.push('importing it changes ' + what + ': ' + before[what] + ' -> ' + after[what]);
  }
}
process.stderr.write(problems.join('\\n'));
`;

/** What is wrong with importing `specifier` from `folder`; `strict`: importing it may do nothing. */
export function importProblems(
  folder: string,
  specifier: string,
  wanted: readonly string[],
  strict: boolean,
): string[] {
  const run = spawnSync(
    process.execPath,
    [
      ...(strict ? ['--permission', '--allow-fs-read=*'] : []),
      '--input-type=module',
      '--eval',
      importer,
      specifier,
      strict ? 'strict' : 'lax',
      ...wanted,
    ],
    { cwd: folder, encoding: 'utf8', timeout: 120_000 },
  );
  const said = (run.stderr + (strict ? run.stdout : '')).trim();
  if (run.error !== undefined) return [`${specifier}: the program that imports it does not end (${run.error.message})`];
  if (run.status !== 0) return [`${specifier} cannot be imported: ${said}`];
  return said === '' ? [] : said.split('\n').map((line) => `${specifier}: ${line}`);
}

function npm(args: string[], cwd: string): string {
  return execFileSync('npm', [...args, '--loglevel=error'], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

interface PackReport {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

function pack(folder: string, ...options: string[]): PackReport {
  const report = JSON.parse(npm(['pack', '--json', '--ignore-scripts', ...options], folder)) as unknown;
  const [one] = (Array.isArray(report) ? report : Object.values(report as object)) as PackReport[];
  if (one === undefined) throw new Error(`npm pack said nothing about ${folder}`);
  return one;
}

function main(): void {
  const migrations = readdirSync(path.join(root, 'supabase/migrations')).sort();
  const temporary = mkdtempSync(path.join(tmpdir(), 'meshhook-pack-'));
  const problems: string[] = [];
  try {
    const published: Manifest[] = [];
    for (const name of readdirSync(path.join(root, 'packages')).sort()) {
      const folder = path.join(root, 'packages', name);
      if (!existsSync(path.join(folder, 'package.json'))) continue;
      const manifest = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')) as Manifest;
      if (manifest.private === true) continue;
      published.push(manifest);
      const files = pack(folder, '--dry-run').files.map((file) => file.path);
      const read = (file: string): string => readFileSync(path.join(folder, file), 'utf8');
      problems.push(...packageProblems({ manifest, files, read }, migrations));
      // Whoever cannot start a thread does its work itself, and nobody would notice.
      for (const thread of globSync('**/*-thread.ts', { cwd: path.join(folder, 'src') })) {
        const built = `dist/${thread.replace(/\.ts$/, '.js')}`;
        if (!files.includes(built)) problems.push(`${manifest.name}: ${built} runs in a thread and is not shipped`);
      }

      const unpacked = path.join(temporary, 'node_modules', manifest.name);
      mkdirSync(unpacked, { recursive: true });
      const { filename } = pack(folder, '--pack-destination', temporary);
      execFileSync('tar', ['-xzf', path.join(temporary, filename), '-C', unpacked, '--strip-components=1']);
    }

    // Dependencies from the outside are the installed ones; those from here are the packed ones. Optional peers stay out:
    // everything can be imported without them.
    const needed = published.flatMap((one) => [
      ...Object.keys(one.dependencies ?? {}),
      ...Object.keys(one.peerDependencies ?? {}).filter((name) => one.peerDependenciesMeta?.[name]?.optional !== true),
    ]);
    for (const name of new Set(needed.filter((one) => !one.startsWith('@meshhook/')))) {
      const link = path.join(temporary, 'node_modules', name);
      mkdirSync(path.dirname(link), { recursive: true });
      symlinkSync(path.join(root, 'node_modules', name), link);
    }
    writeFileSync(path.join(temporary, 'package.json'), '{"type":"module"}');
    for (const manifest of published) {
      for (const entry of Object.keys(manifest.exports ?? {})) {
        const wanted = manifest.name === core && entry === '.' ? coreExports : [];
        problems.push(
          ...importProblems(temporary, manifest.name + entry.slice(1), wanted, manifest.sideEffects === false),
        );
      }
    }
    if (problems.length === 0) console.log(`${String(published.length)} packages are as they should be published.`);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}

if (import.meta.main) main();
