/**
 * What the clouds' client libraries do to a process: nothing until a URI asks for one; then only that one; no log of a key; and
 * no connection that keeps it alive. Each test is a process of its own.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startAwsKms, type AwsKmsServer } from './support/aws-kms-server.ts';
import { VAULT, startAzure, type AzureServer } from './support/azure-server.ts';
import { startGcpKms, type GcpKmsServer } from './support/gcp-kms-server.ts';

const library = new URL('../../src/index.ts', import.meta.url).href;

/** Tells every file that is loaded, imported or required. */
const listening = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  globalThis.loaded = [];
  registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context); } });
`)}`;

interface Ran {
  readonly code: number | null;
  readonly printed: string;
  /** Packages of which anything was loaded, by name. */
  readonly packages: readonly string[];
}

async function run(program: string, env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const child = spawn(
    process.execPath,
    ['-C', '@meshhook/source', '--import', listening, '--input-type=module', '-e', program],
    { env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...env }, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] },
  );
  const output = ['', '', '', ''];
  for (const n of [1, 2, 3]) child.stdio[n]?.on('data', (chunk: Buffer) => (output[n] += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  const urls = JSON.parse(output[3] === '' ? '[]' : (output[3] ?? '')) as string[];
  const names = urls.map((url) => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1]);
  return {
    code,
    printed: `${output[1] ?? ''}${output[2] ?? ''}`,
    packages: [...new Set(names.filter((name) => name !== undefined))].sort(),
  };
}

const tellLoaded = `
  import { writeSync } from 'node:fs';
  process.on('exit', () => writeSync(3, JSON.stringify(loaded)));
`;

/** Opens, wraps, unwraps, and lets the process end by itself. */
const useKey = (uri: string, key: Buffer): string => `
  ${tellLoaded}
  const { openRootKey } = await import(${JSON.stringify(library)});
  const provider = await openRootKey(${JSON.stringify(uri)}, { cwd: '/' });
  const key = Buffer.from(${JSON.stringify(key.toString('base64'))}, 'base64');
  const context = Buffer.from('context');
  const { wrapped } = await provider.wrap(key, context);
  const opened = await provider.unwrap(wrapped, context);
  console.log(key.equals(opened) ? 'opened' : 'wrong');
`;

/** Asks a service that says nothing, until its patience ends. */
const waitFor = (uri: string): string => `
  const { openRootKey } = await import(${JSON.stringify(library)});
  const remote = { attempts: 2, attemptTimeoutMs: 300, backoffMs: 0 };
  await openRootKey(${JSON.stringify(uri)}, { cwd: '/', remote }).catch((error) => console.log(error.code));
`;

describe('client libraries', () => {
  let aws: AwsKmsServer;
  let gcp: GcpKmsServer;
  let azure: AzureServer;
  let folder: string;
  let clouds: Record<
    'awskms' | 'gcpkms' | 'azurekms',
    { uri: string; env: Record<string, string>; silence: () => void }
  >;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'client-libraries-'));
    aws = await startAwsKms('eu-west-1');
    gcp = await startGcpKms();
    azure = await startAzure();
    const account = join(folder, 'account.json');
    const authority = join(folder, 'authority.pem');
    writeFileSync(account, JSON.stringify(gcp.serviceAccount));
    writeFileSync(authority, azure.cert);
    clouds = {
      awskms: {
        uri: `awskms:///${aws.createKey().arn}?endpoint=${aws.url}`,
        env: {
          AWS_ACCESS_KEY_ID: aws.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: aws.credentials.secretAccessKey,
          AWS_SESSION_TOKEN: aws.credentials.sessionToken ?? '',
        },
        silence: () => aws.spoil('silent'),
      },
      gcpkms: {
        uri: `gcpkms://${gcp.createKey().name}?endpoint=${gcp.url}`,
        env: { GOOGLE_APPLICATION_CREDENTIALS: account },
        silence: () => gcp.spoil('silent'),
      },
      azurekms: {
        uri: `azurekms://${VAULT}/${azure.createKey(VAULT).name}`,
        env: {
          HTTPS_PROXY: azure.proxy,
          NODE_EXTRA_CA_CERTS: authority,
          AZURE_TOKEN_CREDENTIALS: 'prod',
          AZURE_TENANT_ID: azure.tenantId,
          AZURE_CLIENT_ID: azure.clientId,
          AZURE_CLIENT_SECRET: azure.clientSecret,
        },
        silence: () => azure.spoil('silent', Infinity, ({ headers }) => headers['host'] === VAULT),
      },
    };
  });

  afterAll(async () => {
    for (const server of [aws, gcp, azure]) await server?.takeAway();
    rmSync(folder, { recursive: true });
  });

  const isOf = {
    awskms: /^@(aws-sdk|aws-crypto|smithy)\/|^@aws\//,
    gcpkms: /^(@google-cloud\/|google-|gaxios|@grpc\/|protobufjs)/,
    azurekms: /^@(azure|azure-rest|typespec)\//,
  };
  const schemes = ['awskms', 'gcpkms', 'azurekms'] as const;

  test('the library, and a root key in a file, load nothing but pg', async () => {
    const uri = `file:${join(folder, 'root.key')}`;
    const { code, printed, packages } = await run(`
      ${tellLoaded}
      const { createRootKeyFile, openRootKey } = await import(${JSON.stringify(library)});
      await createRootKeyFile(${JSON.stringify(uri)});
      const { healthy } = await (await openRootKey(${JSON.stringify(uri)}, { cwd: '/' })).status();
      console.log(healthy);
    `);
    expect([code, printed]).toEqual([0, 'true\n']);
    expect(packages.filter((name) => !name.startsWith('pg') && !/^(postgres-|split2$|xtend$)/.test(name))).toEqual([]);
  });

  test.each(schemes)('%s: loads its own library, and no other cloud’s', async (scheme) => {
    const { uri, env } = clouds[scheme];
    const { code, printed, packages } = await run(useKey(uri, randomBytes(32)), env);
    expect([code, printed]).toEqual([0, 'opened\n']);
    for (const other of schemes) {
      const loaded = packages.filter((name) => isOf[other].test(name));
      if (other === scheme) expect(loaded).not.toEqual([]);
      else expect(loaded).toEqual([]);
    }
  });

  test.each(schemes)(
    '%s: with every log of its library switched on, no key and no credential is in them',
    async (scheme) => {
      const { uri, env } = clouds[scheme];
      const key = randomBytes(32);
      const { code, printed } = await run(useKey(uri, key), {
        ...env,
        GOOGLE_SDK_NODE_LOGGING: '*',
        NODE_DEBUG: 'auth,kms,gaxios',
        DEBUG: '*',
        AZURE_LOG_LEVEL: 'verbose',
      });
      expect(code).toBe(0);
      expect(printed).toContain('opened');
      const forms = ['base64', 'base64url', 'hex', 'latin1'] as const;
      const secrets = [
        ...forms.map((form) => key.toString(form).slice(0, 30)),
        [...key].join(','),
        [...key].join(', '),
        env['AWS_SECRET_ACCESS_KEY'],
        env['AWS_SESSION_TOKEN'],
        env['AZURE_CLIENT_SECRET'],
        ...azure.tokens,
        gcp.serviceAccount['private_key']?.slice(40, 100),
      ];
      for (const secret of secrets) if (secret !== undefined) expect(printed.includes(secret)).toBe(false);
    },
  );

  test.each(schemes)('%s: a service that says nothing does not keep the process alive', async (scheme) => {
    const { uri, env, silence } = clouds[scheme];
    silence();
    const { code, printed } = await run(waitFor(uri), env);
    expect([code, printed]).toEqual([0, 'root_key_unreachable\n']);
  });
});
