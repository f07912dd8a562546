import { problem } from '@meshhook/keyring-http';

const loopback = ['127.0.0.1', 'localhost', '[::1]'];
const reading = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Refuses what a browser was tricked into sending, before anything else looks at it; undefined lets a request pass.
 *
 * - A name that is not ours (DNS rebinding): any web page can point a name of its own at 127.0.0.1, and then its scripts may
 *   read what we answer. The `Host` header still says that name.
 * - A change asked for from another origin: browsers say so in `Origin` and `Sec-Fetch-Site`; programs send neither.
 */
export function refuse(request: Request, allowedHosts: readonly string[]): Response | undefined {
  const host = request.headers.get('host')?.toLowerCase() ?? '';
  const name = host.replace(/:\d+$/, '');
  if (!loopback.includes(name) && !allowedHosts.includes(name)) {
    return problem('forbidden', 'This server does not go by the name in the Host header.', {
      remedy: 'Use http://127.0.0.1, or add the name to MESHHOOK_ALLOWED_HOSTS.',
    });
  }
  if (reading.has(request.method)) return undefined;
  const origin = request.headers.get('origin');
  const isForeign = origin !== null && hostOf(origin) !== host;
  if (isForeign || request.headers.get('sec-fetch-site') === 'cross-site') {
    return problem('forbidden', 'A change was asked for from another origin.', {
      remedy: 'Ask from the page of this server, or from a program that sends no Origin.',
    });
  }
  return undefined;
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}
