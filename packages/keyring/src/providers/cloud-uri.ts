/** What the URIs of the clouds' keys have in common: parameters that are all known, and an endpoint that is safe. */
import { invalidUri, parseServiceUri } from './client.ts';

/** How a cloud's URIs look. */
export interface CloudUriForm {
  readonly scheme: string;
  /** The names of the parameters there are. */
  readonly parameters: readonly string[];
  /** Shows how to write one. */
  readonly remedy: string;
}

export interface CloudUri {
  /** Between `//` and the next `/`; may be empty. */
  readonly authority: string;
  /** What follows, without its first `/`. */
  readonly path: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Takes a URI apart. User names, fragments, percent-encoding, and parameters that do not exist or are given twice are refused:
 * a URI is stored and shown, so it has no place for a credential, and no error shows any of what it refuses.
 * @throws KeyringError `invalid_argument`.
 */
export function parseCloudUri(uri: string, { scheme, parameters: known, remedy }: CloudUriForm): CloudUri {
  const url = parseServiceUri(uri, scheme, remedy);
  const location = uri.slice(`${scheme}://`.length).replace(/\?.*$/, '');
  // As it is written, or not at all: what a URL parser would mend or normalise names another key to another parser.
  const path = url.pathname.slice(1);
  if (location.includes('%') || location !== (path === '' ? url.host : `${url.host}/${path}`)) {
    throw invalidUri(scheme, 'is not written in its plainest form', remedy);
  }
  const parameters = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    if (!known.includes(name)) {
      throw invalidUri(scheme, `has a parameter that does not exist (there is: ${known.join(', ')})`, remedy);
    }
    if (parameters.has(name)) throw invalidUri(scheme, `has the parameter ${name} twice`, remedy);
    parameters.set(name, value);
  }
  return { authority: url.host, path, parameters };
}

/**
 * The endpoint that a parameter names: an origin, and HTTPS unless it is on this machine, for keys travel to it in the clear.
 * @throws KeyringError `invalid_argument`.
 */
export function endpointOf({ scheme, remedy }: CloudUriForm, parameters: ReadonlyMap<string, string>): URL | undefined {
  const given = parameters.get('endpoint');
  if (given === undefined) return undefined;
  const url = URL.parse(given);
  if (url === null || !/^https?:$/.test(url.protocol) || ![url.origin, url.href].includes(given)) {
    throw invalidUri(scheme, 'has an endpoint that is not https://HOST or https://HOST:PORT', remedy);
  }
  if (url.href !== `${url.origin}/`)
    throw invalidUri(scheme, 'has an endpoint with more than a host and a port', remedy);
  const isHere = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(url.hostname);
  if (url.protocol !== 'https:' && !isHere) {
    throw invalidUri(scheme, 'has an endpoint without TLS: keys would travel in the clear', remedy);
  }
  return url;
}
