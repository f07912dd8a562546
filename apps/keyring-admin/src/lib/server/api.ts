import type { Problem } from '@meshhook/keyring-http';
import { error, type RequestEvent } from '@sveltejs/kit';
import type { FormState } from '#lib/forms.ts';
import { besideFields } from './beside.ts';
import { program } from './program.ts';

/**
 * The pages' only way to anything: the HTTP API, in-process, in the visitor's own name. What they may not see or do is
 * refused there, in one place, for browsers and programs alike.
 */

export type Query = Readonly<Record<string, string | number | boolean | null | undefined>>;

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

/** What the API refused. */
export class Refusal extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export interface Api {
  /** @throws Refusal */
  get<T>(path: string, query?: Query): Promise<T>;
  /** As `get`, and undefined where the visitor may not look or nothing is: for the parts of a page that not everybody sees. */
  getIfPermitted<T>(path: string, query?: Query): Promise<T | undefined>;
  /** @throws Refusal */
  send<T>(method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<Answer<T>>;
  /** The answer as it is, for what is handed on. */
  forward(method: 'GET' | 'DELETE', path: string): Promise<Response>;
}

export function visitorApi(event: Pick<RequestEvent, 'request' | 'url' | 'getClientAddress'>): Api {
  const ask = (method: string, path: string, query: Query = {}, body?: unknown): Promise<Response> => {
    const address = new URL(path, event.url.origin);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null && value !== '') address.searchParams.set(name, String(value));
    }
    const headers = new Headers({ accept: 'application/json' });
    // Who asks, and from where: SvelteKit has checked that a form is our own.
    for (const name of ['cookie', 'authorization', 'host', 'user-agent']) {
      const value = event.request.headers.get(name);
      if (value !== null) headers.set(name, value);
    }
    if (method !== 'GET') headers.set('origin', event.url.origin);
    if (body !== undefined) headers.set('content-type', 'application/json');
    return program().api(
      new Request(address, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }),
      { address: event.getClientAddress() },
    );
  };
  const read = async <T>(response: Response): Promise<T> => {
    if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
    throw new Refusal((await response.json()) as Problem);
  };
  return {
    get: async (path, query) => read(await ask('GET', path, query)),
    async getIfPermitted(path, query) {
      const response = await ask('GET', path, query);
      return response.status === 403 || response.status === 404 ? undefined : read(response);
    },
    async send(method, path, body) {
      const response = await ask(method, path, {}, body ?? {});
      return { status: response.status, body: await read(response) };
    },
    forward: (method, path) => ask(method, path),
  };
}

/** What is wrong with what was asked for, beside the fields. */
export type Wrong = FormState | null;

/** What a filter finds; what the API has against it is said beside its fields, and what was typed is kept. */
export async function filtered<T>(load: () => Promise<T>, none: NoInfer<T>): Promise<T & { readonly wrong: Wrong }> {
  try {
    return { ...(await load()), wrong: null };
  } catch (thrown) {
    if (!(thrown instanceof Refusal) || !wrongRequests.has(thrown.problem.status)) throw thrown;
    const { detail, remedy } = thrown.problem;
    const { fields, isAll } = besideFields(thrown.problem, () => true);
    const message = isAll ? {} : { message: detail, ...(remedy === undefined ? {} : { remedy }) };
    return { ...none, wrong: { form: 'filter', values: {}, fields, ...message } };
  }
}
const wrongRequests: ReadonlySet<number> = new Set([400, 404, 409, 422]);

/**
 * What a `load` shows; what the API refused becomes the error page, in its words.
 */
export async function show<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (thrown) {
    if (!(thrown instanceof Refusal)) throw thrown;
    const { status, detail, code, remedy, id } = thrown.problem;
    error(status, status === 503 ? 'The database does not answer, or is not ready.' : detail, {
      code,
      ...(remedy === undefined || status >= 500 ? {} : { remedy }),
      ...(id === undefined ? {} : { id }),
    });
  }
}
