// @ts-check
import { existsSync } from 'node:fs';
import path from 'node:path';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import { meshhook } from './scripts/eslint/plugin.ts';

const root = import.meta.dirname;
const sources = ['packages/*/src/**/*.ts'];
const tests = ['packages/*/test/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts', 'scripts/**/*.ts', 'vitest.config.ts'];
const admin = ['apps/keyring-admin/**/*.ts'];
const svelteScripts = ['**/*.svelte/*.ts'];

// The app's types are made by its build; until that has run, its files are linted without them.
const adminIsTyped = existsSync(path.join(root, 'apps/keyring-admin/node_modules/$app/tsconfig.json'));

const noClock = 'the envelope has no clock: whoever calls it passes what it needs.';
const noIo = 'the envelope does no I/O: bytes in, bytes out.';

export default defineConfig(
  { ignores: ['**/dist/', '**/build/', '**/.svelte-kit/', '**/.meshhook/', '**/coverage/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },

  // Everywhere: our own rules.
  {
    files: ['**/*.ts', '**/*.js'],
    plugins: { meshhook },
    languageOptions: { parser: tseslint.parser },
    rules: {
      'meshhook/layers': 'error',
      'meshhook/environment': 'error',
      'meshhook/silenced-tests': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['**/*.svelte'], plugins: { meshhook }, processor: 'meshhook/svelte' },

  // What ships: as strict as there is, with types.
  {
    files: [...sources, ...(adminIsTyped ? admin : [])],
    ignores: svelteScripts,
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: root } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `[...text]` counts code points, which is what a limit on names means.
      '@typescript-eslint/no-misused-spread': ['error', { allow: ['string'] }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  // Without types: the scripts in Svelte files, whose file names TypeScript does not know.
  {
    files: [...svelteScripts, ...(adminIsTyped ? [] : admin)],
    extends: [tseslint.configs.strict],
    // What only the markup uses; svelte-check sees both.
    rules: { '@typescript-eslint/no-unused-vars': 'off' },
  },

  // What proves it: with types, for the promises nobody waits for; less strict about how a thing is said.
  {
    files: tests,
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.tests.json', tsconfigRootDir: root } },
    rules: {
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      // Our objects are closures behind an interface: a method taken off one works.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/require-await': 'off',
      // `await using _ = …` is held, not read.
      '@typescript-eslint/no-unused-vars': ['error', { varsIgnorePattern: '^_' }],
      // A test prints what must not show a value, in every way there is.
      '@typescript-eslint/restrict-template-expressions': 'off',
      '@typescript-eslint/no-base-to-string': 'off',
      '@typescript-eslint/no-floating-promises': ['error', { ignoreVoid: false }],
    },
  },

  // The core prints nothing, whatever it is handed.
  {
    files: ['packages/keyring/src/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        {
          checkGlobalObject: true,
          globals: [{ name: 'console', message: 'the core prints nothing: it holds keys and values.' }],
        },
      ],
    },
  },
  {
    files: ['packages/keyring/src/envelope/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        {
          checkGlobalObject: true,
          globals: [
            { name: 'console', message: noIo },
            { name: 'fetch', message: noIo },
            { name: 'process', message: noIo },
            { name: 'Date', message: noClock },
            { name: 'performance', message: noClock },
            { name: 'setTimeout', message: noClock },
            { name: 'setInterval', message: noClock },
            { name: 'setImmediate', message: noClock },
          ],
        },
      ],
    },
  },
);
