/**
 * Who may import whom, as data: the rule in `plugin.ts` reads this table and nothing else. Paths are from the root of the
 * repository, with forward slashes. A file's layer is the entry with the longest path that it is under.
 *
 * To add a folder to the core, add its row here; a folder without a row may import nothing.
 */

export interface Layer {
  readonly name: string;
  /** Files (ending in `.ts`) and folders (ending in `/`) that make it. */
  readonly paths: readonly string[];
  /** Names of layers; `*` is every layer. A layer may always import itself. */
  readonly mayImport: readonly string[];
  /** Layers of which only types may be imported: they are gone when the program runs. */
  readonly mayImportTypes?: readonly string[];
  /** Node's own modules; undefined is all of them. */
  readonly builtins?: readonly string[];
  /** Packages from npm. */
  readonly packages?: readonly string[];
  /** Ends the message of every refusal: what the rule protects. */
  readonly why: string;
}

const core = 'packages/keyring/src/';
const inCore = (...paths: string[]): string[] => paths.map((path) => core + path);

const storyOfLayers = 'errors, secret-bytes ← envelope ← keyring ← secrets ← rotation, with audit and db beside them';

/** Inside the library. */
export const coreLayers: readonly Layer[] = [
  {
    name: 'errors',
    paths: inCore('errors.ts'),
    mayImport: [],
    builtins: [],
    why: 'everything may throw, so what is thrown depends on nothing',
  },
  {
    name: 'secret-bytes',
    paths: inCore('secret-bytes.ts'),
    mayImport: ['errors'],
    builtins: ['node:crypto', 'node:util'],
    why: 'the one file that touches raw key bytes is read by itself',
  },
  {
    name: 'api',
    paths: inCore(
      'api.ts',
      'api-access.ts',
      'api-audit.ts',
      'api-backup.ts',
      'api-columns.ts',
      'api-keys.ts',
      'api-monitoring.ts',
      'api-notifications.ts',
      'api-overview.ts',
      'api-quarantine.ts',
      'api-rotations.ts',
      'api-schedule.ts',
      'api-upper-keys.ts',
    ),
    mayImport: [],
    mayImportTypes: ['provider contract', 'access', 'tally', 'db'],
    builtins: [],
    why: 'the public surface is types only and depends on nothing but the contract that others implement',
  },
  {
    name: 'tally',
    paths: inCore('tally.ts'),
    mayImport: [],
    builtins: [],
    why: 'what counts is counted everywhere, and knows nothing that could get into a metric but numbers',
  },
  {
    name: 'threads',
    paths: inCore('threads.ts'),
    mayImport: [],
    builtins: ['node:os', 'node:worker_threads'],
    why: 'what starts threads and hands work over knows nothing of the work',
  },
  {
    name: 'validate',
    paths: inCore('validate.ts'),
    mayImport: ['errors'],
    builtins: [],
    why: 'checks of what a caller gave are pure, so that every layer can use them',
  },
  {
    name: 'envelope',
    paths: inCore('envelope/'),
    mayImport: ['errors', 'secret-bytes'],
    builtins: ['node:crypto'],
    why: 'the envelope is bytes in, bytes out: no I/O and no clock, so that a reviewer of the cryptography reads it alone',
  },
  {
    name: 'provider contract',
    paths: inCore('providers/provider.ts'),
    mayImport: ['errors'],
    builtins: [],
    why: 'the contract of providers is all that the rest sees of them, so it drags nothing along',
  },
  {
    name: 'providers',
    paths: inCore('providers/'),
    mayImport: ['provider contract', 'errors', 'secret-bytes', 'envelope'],
    // Optional peers, loaded when a URI asks for them.
    packages: ['pkcs11js', '@aws-sdk/client-kms', '@google-cloud/kms', '@azure/identity', '@azure/keyvault-keys'],
    why: 'a provider sees only its contract: whoever adds one reads one file, and none can reach a data key or a secret',
  },
  {
    name: 'db',
    paths: inCore('db/'),
    mayImport: ['errors'],
    packages: ['pg'],
    why: 'the database port knows nothing of keys and secrets',
  },
  {
    name: 'audit',
    paths: inCore('audit/'),
    mayImport: ['errors', 'validate', 'secret-bytes', 'envelope', 'db'],
    mayImportTypes: ['api'],
    why: 'the trail is beside the layers: every one of them writes to it, so it knows none of them',
  },
  {
    name: 'access',
    paths: inCore('access/'),
    mayImport: ['errors', 'validate', 'audit', 'db'],
    mayImportTypes: ['api'],
    why: 'who may do what is rows and rules: no keys, no secrets, and nothing that they are about',
  },
  {
    name: 'projects',
    paths: inCore('projects/'),
    mayImport: ['errors', 'validate', 'audit', 'db'],
    mayImportTypes: ['api'],
    why: 'projects are rows with names: they hold no keys and no secrets',
  },
  {
    name: 'keyring',
    paths: inCore('keyring/'),
    mayImport: [
      'tally',
      'errors',
      'validate',
      'secret-bytes',
      'envelope',
      'provider contract',
      'schedule arithmetic',
      'audit',
      'access',
      'db',
    ],
    mayImportTypes: ['api'],
    why: storyOfLayers,
  },
  {
    name: 'secrets',
    paths: inCore('secrets/'),
    mayImport: ['errors', 'validate', 'secret-bytes', 'envelope', 'keyring', 'audit', 'db'],
    mayImportTypes: ['api'],
    why: storyOfLayers,
  },
  {
    name: 'rotation',
    paths: inCore('rotation/'),
    mayImport: [
      'threads',
      'errors',
      'validate',
      'secret-bytes',
      'envelope',
      'keyring',
      'secrets',
      'audit',
      'access',
      'db',
    ],
    mayImportTypes: ['api'],
    why: storyOfLayers,
  },
  {
    name: 'schedule arithmetic',
    paths: inCore('schedule/arithmetic/'),
    mayImport: ['errors'],
    mayImportTypes: ['api'],
    builtins: [],
    // An optional peer, loaded when a policy has a cron expression.
    packages: ['croner'],
    why: 'dates are computed from what is given: no database, no clock, so that two years pass in a test within a second',
  },
  {
    name: 'schedule',
    paths: inCore('schedule/'),
    mayImport: ['errors', 'validate', 'schedule arithmetic', 'keyring', 'rotation', 'audit', 'access', 'db'],
    mayImportTypes: ['api'],
    why: 'a schedule asks for rotations, as anybody may: it touches no key and no secret',
  },
  {
    name: 'notifications',
    paths: inCore('notifications/'),
    mayImport: ['errors', 'validate', 'audit', 'db'],
    mayImportTypes: ['api'],
    why: 'it tells what the trail says: it knows projects and secrets as callers know them',
  },
  {
    name: 'upper keys',
    paths: inCore('upper-keys/'),
    mayImport: [
      'threads',
      'errors',
      'validate',
      'secret-bytes',
      'envelope',
      'provider contract',
      'keyring',
      'audit',
      'db',
    ],
    mayImportTypes: ['api'],
    why: 'wrapping and root keys rotate under everything else: they know no secret and no rotation of one',
  },
  {
    name: 'backup',
    paths: inCore('backup/'),
    mayImport: [
      'errors',
      'validate',
      'secret-bytes',
      'envelope',
      'provider contract',
      'providers',
      'keyring',
      'audit',
      'db',
    ],
    mayImportTypes: ['api'],
    why: 'a backup is made of keys and of what says where they belong: it knows neither secrets nor rotations',
  },
  {
    name: 'monitoring',
    paths: inCore('monitoring/'),
    mayImport: ['errors', 'tally', 'provider contract', 'db', 'upper keys'],
    mayImportTypes: ['api'],
    why: 'whoever watches reads tables and numbers: no key, no value and no way to change anything is in reach',
  },
  {
    name: 'overview',
    paths: inCore('overview/'),
    mayImport: ['errors', 'schedule arithmetic', 'db'],
    mayImportTypes: ['api'],
    why: 'the overview only looks: at rows, with no key at hand',
  },
  {
    name: 'doctor',
    paths: inCore('doctor/'),
    mayImport: ['*'],
    why: 'the doctor is above every layer',
  },
  {
    name: 'options',
    paths: inCore('keyring-options.ts'),
    mayImport: ['*'],
    why: 'the options name what is injected',
  },
  {
    name: 'top',
    paths: inCore('index.ts', 'open-keyring.ts'),
    mayImport: ['*'],
    why: 'the top wires the layers together',
  },
];

export interface Package {
  readonly name: string;
  /** Its folder; what is under it is linted, its tests excepted. */
  readonly path: string;
  /** Other packages of this repository, by their exports. */
  readonly mayImport: readonly string[];
  /** The files that may read the environment: one per program, none in a library. */
  readonly readsEnvironment: readonly string[];
  readonly mayImportPg: boolean;
  /** The job queue it is built on. It has a driver inside, and is given our `Database` instead. */
  readonly queue?: string;
}

/** Between the packages: only what a package exports. */
export const packages: readonly Package[] = [
  { name: '@meshhook/keyring', path: 'packages/keyring/', mayImport: [], readsEnvironment: [], mayImportPg: true },
  {
    name: '@meshhook/keyring-http',
    path: 'packages/keyring-http/',
    mayImport: ['@meshhook/keyring'],
    readsEnvironment: [],
    mayImportPg: false,
  },
  {
    name: '@meshhook/keyring-embedded',
    path: 'packages/keyring-embedded/',
    mayImport: ['@meshhook/keyring'],
    readsEnvironment: [],
    mayImportPg: true,
  },
  {
    name: '@meshhook/keyring-worker',
    path: 'packages/keyring-worker/',
    mayImport: ['@meshhook/keyring'],
    readsEnvironment: [],
    mayImportPg: false,
    queue: 'pg-boss',
  },
  {
    name: '@meshhook/keyring-backup',
    path: 'packages/keyring-backup/',
    mayImport: ['@meshhook/keyring'],
    readsEnvironment: [],
    mayImportPg: false,
  },
  {
    name: '@meshhook/keyring-cli',
    path: 'packages/keyring-cli/',
    mayImport: [
      '@meshhook/keyring',
      '@meshhook/keyring-backup',
      '@meshhook/keyring-embedded',
      '@meshhook/keyring-http',
      '@meshhook/keyring-worker',
    ],
    readsEnvironment: ['packages/keyring-cli/src/env.ts'],
    mayImportPg: false,
  },
  {
    name: '@meshhook/keyring-admin',
    path: 'apps/keyring-admin/',
    mayImport: [
      '@meshhook/keyring',
      '@meshhook/keyring-embedded',
      '@meshhook/keyring-http',
      '@meshhook/keyring-worker',
    ],
    readsEnvironment: ['apps/keyring-admin/src/lib/server/env.ts', 'apps/keyring-admin/serve.js'],
    mayImportPg: false,
  },
];
