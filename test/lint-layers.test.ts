import path from 'node:path';
import { ESLint } from 'eslint';
import { describe, expect, it } from 'vitest';
import { coreLayers } from '../scripts/eslint/layers.ts';
import { refusal } from '../scripts/eslint/plugin.ts';

const root = path.join(import.meta.dirname, '..');
const core = 'packages/keyring/src/';

// The project's own configuration, without type information: the sources below are not on the disk.
const eslint = new ESLint({
  cwd: root,
  overrideConfig: { languageOptions: { parserOptions: { projectService: false, project: false } } },
  ruleFilter: ({ ruleId }) => ruleId.startsWith('meshhook/') || ruleId.startsWith('no-restricted-'),
});

/** What the linter says of `source`, were it the file at `file`. */
async function lint(file: string, source: string): Promise<string> {
  const [result] = await eslint.lintText(source, { filePath: path.join(root, file) });
  return (result?.messages ?? []).map((message) => `${message.ruleId ?? 'fatal'}: ${message.message}`).join('\n');
}

describe('the layering rule refuses, and says why', () => {
  // prettier-ignore
  const refused: [claim: string, file: string, source: string, says: RegExp][] = [
    ['pg in the envelope', `${core}envelope/x.ts`, `import pg from 'pg';`, /only db\/ imports pg/],
    ['pg in a store', `${core}secrets/store.ts`, `import type { Pool } from 'pg';`, /only db\/ imports pg/],
    ['pg in the command line', 'packages/keyring-cli/src/x.ts', `import pg from 'pg';`, /keyring-cli may not import pg/],
    ['the queue outside the worker', 'packages/keyring-cli/src/x.ts', `import { PgBoss } from 'pg-boss';`, /keyring-cli may not import pg-boss/],
    ['the queue in the core', `${core}rotation/x.ts`, `import { PgBoss } from 'pg-boss';`, /only db\/ imports pg/],
    ['pg in the worker', 'packages/keyring-worker/src/x.ts', `import pg from 'pg';`, /keyring-worker may not import pg/],
    ['the program in the worker', 'packages/keyring-worker/src/x.ts', `import '@meshhook/keyring-cli';`, /which package builds on which/],
    ['a path into the core', 'packages/keyring-worker/src/x.ts', `import '../../keyring/src/rotation/work.ts';`, /by its name/],
    ['a piece of pg', `${core}keyring/x.ts`, `import 'pg-pool';`, /only db\/ imports pg/],
    ['files in the envelope', `${core}envelope/x.ts`, `import { readFile } from 'node:fs/promises';`, /no I\/O and no clock/],
    ['timers in the envelope', `${core}envelope/x.ts`, `import 'timers';`, /may not import node:timers/],
    ['the database in the envelope', `${core}envelope/x.ts`, `import '../db/port.ts';`, /envelope may not import db/],
    ['a clock in the envelope', `${core}envelope/x.ts`, `export const now = () => Date.now();`, /has no clock/],
    ['a hidden clock', `${core}envelope/x.ts`, `export const now = () => globalThis.performance.now();`, /has no clock/],
    ['rotation in secrets', `${core}secrets/x.ts`, `import '../rotation/plan.ts';`, /secrets may not import rotation/],
    ['secrets in the keyring', `${core}keyring/x.ts`, `export * from '../secrets/store.ts';`, /keyring may not import secrets/],
    ['rotation in the audit trail', `${core}audit/x.ts`, `export { a } from '../rotation/a.ts';`, /audit may not import rotation/],
    ['a provider that reads keys', `${core}providers/x.ts`, `import '../keyring/store.ts';`, /a provider sees only its contract/],
    ['a provider, by its file, in the keyring', `${core}keyring/x.ts`, `import '../providers/file.ts';`, /may not import providers/],
    ['a client library that everybody would need', `${core}providers/x.ts`, `import { KMSClient } from '@aws-sdk/client-kms';`, /is an optional peer/],
    ['a client library outside the providers', `${core}keyring/x.ts`, `const a = await import('pkcs11js');`, /depends on nothing but Node and pg/],
    ['the top, from below', `${core}secrets/x.ts`, `import '../index.ts';`, /secrets may not import top/],
    ['an import when running', `${core}secrets/x.ts`, `const a = import('../rotation/a.ts');`, /may not import rotation/],
    ['a computed import', `${core}secrets/x.ts`, `const a = import('../' + name);`, /cannot be checked/],
    ['a type in another layer', `${core}keyring/x.ts`, `let a: import('../rotation/a.ts').A;`, /may not import rotation/],
    ['require', `${core}keyring/x.ts`, `const a = require('../rotation/a.ts');`, /may not import rotation/],
    ['values of the types-only surface', `${core}keyring/x.ts`, `import { a } from '../api.ts';`, /only types from api/],
    ['a folder without a row', `${core}novel/x.ts`, `import '../errors.ts';`, /is in no layer/],
    ['a dependency of the core', `${core}secrets/x.ts`, `import 'left-pad';`, /depends on nothing but Node and pg/],
    ['another package in the core', `${core}index.ts`, `import '@meshhook/keyring-http';`, /which package builds on which/],
    ['what is inside a package', 'packages/keyring-cli/src/x.ts', `import '@meshhook/keyring/src/errors.ts';`, /is inside @meshhook\/keyring/],
    ['what was built', 'apps/keyring-admin/src/x.ts', `import '@meshhook/keyring/dist/errors.js';`, /is inside @meshhook\/keyring/],
    ['a path into a package', 'packages/keyring-http/src/x.ts', `import '../../keyring/src/errors.ts';`, /by its name/],
    ['a path out of a command', 'packages/keyring-cli/src/commands/x.ts', `import '../../../keyring/src/db/port.ts';`, /by its name/],
    ['a path in a page', 'apps/keyring-admin/src/routes/+page.svelte', `<p>x</p>\n<script lang="ts">\n  import '../../../../packages/keyring/src/errors.ts';\n</script>`, /by its name/],
    ['sources that import a build', `${core}keyring/x.ts`, `import '../../dist/index.js';`, /the sources import only sources/],
  ];
  it.each(refused)('%s', async (_claim, file, source, says) => {
    const said = await lint(file, source);
    expect(said).toMatch(says);
    expect(said).not.toContain('fatal');
  });
});

describe('the layering rule lets pass', () => {
  // prettier-ignore
  const allowed: [claim: string, file: string, source: string][] = [
    ['cryptography in the envelope', `${core}envelope/x.ts`, `import { createHash } from 'node:crypto';`],
    ['the layers below', `${core}rotation/x.ts`, `import '../secrets/store.ts';\nimport '../keyring/store.ts';\nimport '../db/port.ts';`],
    ['neighbours', `${core}rotation/x.ts`, `import './store.ts';`],
    ['pg in db/', `${core}db/x.ts`, `import pg from 'pg';`],
    ['types of the surface', `${core}keyring/x.ts`, `import type { Keys } from '../api.ts';`],
    ['the contract of providers', `${core}keyring/x.ts`, `import type { RootKeyProvider } from '../providers/provider.ts';`],
    ['files for a provider', `${core}providers/x.ts`, `import { readFile } from 'node:fs/promises';\nimport '../envelope/seal.ts';`],
    ['a client library that is loaded when used, and its types', `${core}providers/x.ts`, `import type { Handle } from 'pkcs11js';\nconst a = import('pkcs11js');`],
    ['everything for the top', `${core}open-keyring.ts`, `import './rotation/run.ts';\nimport './providers/registry.ts';`],
    ['everything for the doctor', `${core}doctor/x.ts`, `import '../rotation/run.ts';`],
    ['the queue in the worker', 'packages/keyring-worker/src/x.ts', `import { PgBoss } from 'pg-boss';\nimport '@meshhook/keyring';`],
    ['a package by its name', 'packages/keyring-cli/src/commands/x.ts', `import '@meshhook/keyring';\nimport '../terminal.ts';`],
    ['a test of what is inside', 'packages/keyring/test/x.test.ts', `import '../src/rotation/run.ts';\nimport pg from 'pg';`],
  ];
  it.each(allowed)('%s', async (_claim, file, source) => {
    expect(await lint(file, source)).toBe('');
  });

  it('nothing that goes round: of two layers at most one imports the other', () => {
    const above = new Set(['top', 'options', 'doctor']);
    const layers = coreLayers.filter((layer) => !above.has(layer.name));
    const representative = (layer: (typeof layers)[number]): string =>
      layer.paths[0]?.replace(/\/$/, '/representative.ts') ?? '';
    let pairs = 0;
    for (const [index, a] of layers.entries()) {
      for (const b of layers.slice(index + 1)) {
        const [fileA, fileB] = [representative(a), representative(b)];
        const relative = (from: string, to: string): string => {
          const steps = path.posix.relative(path.posix.dirname(from), to);
          return steps.startsWith('.') ? steps : `./${steps}`;
        };
        const bothWays = [refusal(fileA, relative(fileA, fileB), false), refusal(fileB, relative(fileB, fileA), false)];
        expect(
          bothWays.some((why) => why !== undefined),
          `${a.name} and ${b.name} import each other`,
        ).toBe(true);
        pairs++;
      }
    }
    expect(pairs).toBeGreaterThan(50);
  });
});

describe('the environment is read in one file per program', () => {
  it.each([
    ['process.env in the core', `${core}keyring/x.ts`, `export const a = process.env.A;`],
    ['process.env in the options', `${core}keyring-options.ts`, `export const a = process.env['A'];`],
    ["process['env']", `${core}keyring/x.ts`, `export const a = process['env'];`],
    ['taken apart', `${core}keyring/x.ts`, `const { env } = process;`],
    ['imported', `${core}keyring/x.ts`, `import { env } from 'node:process';`],
    ['through globalThis', `${core}keyring/x.ts`, `export const a = globalThis.process.env.A;`],
    ['in the HTTP API', 'packages/keyring-http/src/x.ts', `export const a = process.env.A;`],
    ['in a command', 'packages/keyring-cli/src/commands/x.ts', `export const a = process.env.A;`],
    [
      "through SvelteKit's module",
      'apps/keyring-admin/src/hooks.server.ts',
      `import { env } from '$env/dynamic/private';`,
    ],
    ['through Vite', 'apps/keyring-admin/src/x.ts', `export const a = import.meta.env.A;`],
  ])('refused: %s', async (_claim, file, source) => {
    expect(await lint(file, source)).toMatch(/a library reads no environment|the environment is read in one file/);
  });

  it.each([
    'packages/keyring-cli/src/env.ts',
    'apps/keyring-admin/src/lib/server/env.ts',
    'apps/keyring-admin/serve.js',
  ])('read by %s', async (file) => {
    expect(await lint(file, `export const a = process.env.A;\n`)).toBe('');
  });
});

describe('the rest', () => {
  it('the core prints nothing', async () => {
    expect(await lint(`${core}secrets/x.ts`, `console.log(1);`)).toContain('the core prints nothing');
    expect(await lint(`${core}envelope/x.ts`, `globalThis.console.log(1);`)).toContain('no I/O');
    expect(await lint('packages/keyring-cli/src/x.ts', `console.log(1);`)).toBe('');
  });

  // Written in two pieces, so that the rule does not find them here.
  const call = (member: string): string => `${member}('a claim', () => {});`;
  it.each([
    call('it.on' + 'ly'),
    call('describe.sk' + 'ip'),
    call('test.to' + 'do'),
    call('it.concurrent.on' + 'ly'),
    call('describe.sk' + 'ip.each([1])'),
    `it('a claim', { sk${''}ip: true }, () => {});`,
    `x${''}it('a claim', () => {});`,
  ])('a silenced test is refused: %s', async (source) => {
    expect(await lint('test/x.test.ts', source)).toContain('meshhook/silenced-tests');
  });

  it('a test with a condition and a reason is not', async () => {
    expect(await lint('test/x.test.ts', `it.skipIf(missing('PostgreSQL 15'))('a claim', () => {});`)).toBe('');
  });

  it('the line of a refusal in a Svelte file is the line where it stands', async () => {
    const page =
      '<script lang="ts">\n  const a = 1;\n</script>\n<p>x</p>\n<script module>\n  import pg from "pg";\n</script>\n';
    const [result] = await eslint.lintText(page, { filePath: path.join(root, 'apps/keyring-admin/src/a.svelte') });
    expect(result?.messages.map(({ line, ruleId }) => ({ line, ruleId }))).toEqual([
      { line: 6, ruleId: 'meshhook/layers' },
    ]);
  });
});
