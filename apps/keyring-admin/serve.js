// @ts-check
// What `npm start` runs: an HTTP server around the built app, which opens the rest (src/lib/server/program.ts).
import { access } from 'node:fs/promises';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { KeyringError } from '@meshhook/keyring';
import { eventLog } from '@meshhook/keyring-worker';
import { readSettings } from './src/lib/server/env.ts';

const DRAIN_MS = 3_000;
const programKey = Symbol.for('@meshhook/keyring-admin: program');
/** @returns {import('./src/lib/server/program.ts').Program | undefined} */
const program = () => Reflect.get(globalThis, programKey);

/** @type {http.RequestListener} */
let answer = (_, response) => {
  response.writeHead(503, { 'content-type': 'text/plain', 'retry-after': '1' }).end('Starting.\n');
};
const server = http.createServer((request, response) => {
  answer(request, response);
});
// A client that sends slowly holds a connection no longer than this.
server.headersTimeout = 10_000;
server.requestTimeout = 30_000;

/** @type {ReturnType<typeof openApp> | undefined} */
let opening;
let closing = false;
process.on('SIGINT', () => void stop());
process.on('SIGTERM', () => void stop());

try {
  const settings = readSettings();
  // The port comes first: whoever cannot have it should not start a database for nothing.
  await listen(settings.host, settings.port);
  opening = openApp();
  const handler = await opening;
  answer = (request, response) => {
    toApp(request);
    handler(request, response, () => response.writeHead(404).end());
  };
  if (!closing) await announce(program());
} catch (error) {
  if (!closing) {
    explain(error);
    await program()?.close();
    process.exit(error instanceof KeyringError && error.code === 'invalid_argument' ? 2 : 1);
  }
}

/**
 * @param {string} host
 * @param {number} port
 */
async function listen(host, port) {
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(undefined));
  });
}

/** Imports the built app, whose `init` hook opens the program. */
async function openApp() {
  const built = new URL('./build/handler.js', import.meta.url);
  await access(built).catch(() => {
    throw new KeyringError('illegal_state', `The app is not built: ${fileURLToPath(built)} is missing.`, {
      remedy: 'Run `npm run build`.',
    });
  });
  // We are called by plain HTTP, and say so to the adapter by a header that nobody outside can set: see toApp.
  process.env['PROTOCOL_HEADER'] = 'x-mh-protocol';
  const { handler } = await import('./build/handler.js');
  return handler;
}

/**
 * By the `Origin` of a change, a browser says whether a proxy with TLS is before us: without that, SvelteKit would take its forms for those
 * of another site, and the cookie of a session would not be `Secure`.
 *
 * A POST without `Origin` or cookie is from a program: browsers send it with every one. SvelteKit takes it for a form from another
 * site unless it is declared as JSON, and the API would rather say what is missing. What does come from another site, src/lib/server/guard.ts refuses.
 * @param {http.IncomingMessage} request
 */
function toApp({ headers }) {
  const { host, origin, cookie } = headers;
  headers['x-mh-protocol'] = host !== undefined && origin === `https://${host}` ? 'https' : 'http';
  if (host !== undefined && cookie === undefined) headers.origin ??= `http://${host}`;
}

/** @param {import('./src/lib/server/program.ts').Program | undefined} opened */
async function announce(opened) {
  if (opened === undefined) throw new Error('the app did not open the program');
  const { host, tokenFile, settings, log } = opened;
  if (settings.logFormat === 'json') {
    log.info('', { event: 'listening', port: Number(new URL(address()).port) });
    return;
  }
  if (settings.logLevel === 'silent') return;
  const made = [...host.made, ...(tokenFile.made ? [{ what: 'API token', where: tokenFile.file }] : [])];
  const width = Math.max(...made.map(({ what }) => what.length), 'API token'.length);
  const lines = made.map(({ what, where }) => `  made ${what.padEnd(width)}  ${where}`);
  console.log(['MeshHook Keyring', ...lines].join('\n'));
  for (const notice of host.notices) console.log(`\n${notice}`);
  console.log(`\nroot key   ${rootKeyPlace(host.rootKeyUri)}: losing it loses every secret.`);
  console.log(`API token  ${tokenFile.file}`);
  if (!isLoopback()) {
    console.log(
      'warning    whoever reaches this address can try to sign in, over plain HTTP: put a proxy with TLS before it.',
    );
  }
  // Into the terminal of whoever started it, behind a `#`, which no browser sends; never into the log of a service.
  if (host.embedded) {
    console.log(`sign in    ${address()}/sign-in#${await opened.signInLink()}`);
    console.log('           once, within ten minutes; `npx mh-keys sign-in` prints another link.');
  } else {
    console.log('sign in    by the link that `npx mh-keys sign-in` prints.');
  }
  console.log(`page       ${address()}\n\nCtrl-C stops it; rotations continue at the next start.`);
}

/** A URI may hold a credential; of one that is no file, only the kind is printed. @param {string} uri */
function rootKeyPlace(uri) {
  if (uri.startsWith('file:///')) return fileURLToPath(uri);
  return uri.startsWith('file:') ? uri.slice('file:'.length) : uri.slice(0, uri.indexOf(':') + 1);
}

function isLoopback() {
  const bound = server.address();
  return bound !== null && typeof bound === 'object' && /^(127\.|::1$)/.test(bound.address);
}

function address() {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') return '';
  const everywhere = bound.address === '0.0.0.0' || bound.address === '::';
  const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return `http://${everywhere ? '127.0.0.1' : host}:${bound.port}`;
}

/** Once: in order. Twice: at once. */
async function stop() {
  if (closing) process.exit(130);
  closing = true;
  const { log } = program() ?? { log: undefined };
  if (log === undefined) console.log('Stopping.');
  else log.info('Stopping.', { event: 'stopping' });
  server.close();
  server.closeIdleConnections();
  setTimeout(() => server.closeAllConnections(), DRAIN_MS).unref();
  await opening?.catch(() => undefined);
  await program()?.close();
  process.exit(0);
}

/** @param {unknown} error */
function explain(error) {
  if (process.env['LOG_FORMAT'] === 'json') {
    const { stdout, stderr } = process;
    eventLog({ format: 'json', level: 'error', stdout, stderr }).error('', { event: 'start_failed', error });
    return;
  }
  if (error instanceof KeyringError) {
    console.error(`error: ${error.message} (${error.code})`);
    if (error.remedy !== undefined) console.error(`hint: ${error.remedy}`);
    return;
  }
  const { code } = /** @type {NodeJS.ErrnoException} */ (error);
  if (code === 'EADDRINUSE' || code === 'EACCES' || code === 'EADDRNOTAVAIL') {
    console.error(`error: cannot listen: ${error instanceof Error ? error.message : code}`);
    console.error('hint: Set PORT to a free port, as PORT=8081; HOST is the address to listen on.');
    return;
  }
  console.error(error);
}
