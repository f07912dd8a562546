/** An HTTP server of the tests on 127.0.0.1, whose next answers a test can spoil. What it means is its caller's business. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

export interface ReceivedRequest {
  readonly method: string;
  /** Path and query, as sent. */
  readonly target: string;
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A string is sent as it is, anything else as JSON. */
  readonly body?: unknown;
}

/** `silent` takes the request and never answers; `broken` ends the connection in the middle of the answer. */
export type Spoiled = 'silent' | 'broken' | Answer;

export interface LocalServer {
  readonly port: number;
  /** How many requests have come in whole, answered or not. */
  readonly count: () => number;
  /** The next `times` requests that `match` get this instead of what they should; what was said before is off. */
  readonly spoil: (spoiled: Spoiled, times?: number, match?: (request: ReceivedRequest) => boolean) => void;
  /** Requests that were spoiled since. Sent again under the same `x-ms-client-request-id`, they are one. */
  readonly spoiled: () => number;
  /** Stops listening and ends all connections. */
  readonly takeAway: () => Promise<void>;
  /** Listens again, on the same port. */
  readonly bringBack: () => Promise<void>;
}

export interface LocalServerOptions {
  /** Serves what comes through `CONNECT`, whatever the host, over TLS: a proxy and all that is behind it. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export async function startLocalServer(
  handle: (request: ReceivedRequest) => Answer | Promise<Answer>,
  options: LocalServerOptions = {},
): Promise<LocalServer> {
  let spoil: { as: Spoiled; left: number; match: (request: ReceivedRequest) => boolean } | undefined;
  let spoiled = new Set<unknown>();
  let received = 0;
  const sockets = new Set<Duplex>();

  const listener = (incoming: IncomingMessage, response: ServerResponse): void => {
    answer(incoming, response).catch((error: unknown) => {
      // A mistake of the test's server: nothing that a client tries again, and words that show up in the failure.
      send(response, { status: 418, body: { testServerFailed: String(error) } });
    });
  };
  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await read(incoming);
    received++;
    if (spoil === undefined || spoil.left === 0 || !spoil.match(request)) {
      send(response, await handle(request));
      return;
    }
    const id = request.headers['x-ms-client-request-id'] ?? spoiled.size;
    // A client that signs in anew and sends the same request again is answered the same.
    if (!spoiled.has(id)) spoil.left--;
    spoiled.add(id);
    if (spoil.as === 'broken') sendHalf(response);
    else if (spoil.as !== 'silent') send(response, spoil.as);
  }

  const remember = (socket: Duplex): void => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
  };
  const server = createServer(listener).on('connection', remember);
  if (options.tls !== undefined) {
    const behind = createTlsServer(options.tls, listener).on('secureConnection', remember);
    server.on('connect', (_request, socket: Duplex) => {
      remember(socket);
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      behind.emit('connection', socket);
    });
  }
  const listen = async (port: number): Promise<void> => {
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  };
  await listen(0);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    count: () => received,
    spoil(as, times = Infinity, match = () => true) {
      spoil = { as, left: times, match };
      spoiled = new Set();
    },
    spoiled: () => spoiled.size,
    async takeAway() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
    bringBack: () => listen(port),
  };
}

async function read(incoming: IncomingMessage): Promise<ReceivedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const headers = Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(', ') : (value ?? ''),
    ]),
  );
  const target = incoming.url ?? '/';
  return {
    method: incoming.method ?? '',
    target,
    url: new URL(target, 'http://test.invalid'),
    headers,
    body: Buffer.concat(chunks),
  };
}

function sendHalf(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
  response.write('{"half":', () => response.destroy());
}

function send(response: ServerResponse, { status, headers = {}, body }: Answer): void {
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(text);
}
