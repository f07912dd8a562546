import {
  createRootKeyFile,
  openKeyring,
  pgDatabase,
  type Database,
  type Keyring,
  type Queryable,
} from '@meshhook/keyring';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createTestDatabase, query } from '../../../../test/support/database.ts';
import { keyringHandler, tokenDigest, type KeyringHandlerOptions, type RequestContext } from '../../src/index.ts';

export const tokens = { admin: 'mhk_admin', all: 'mhk_all', reader: 'mhk_reader', rotator: 'mhk_rotator' };

export interface Api extends AsyncDisposable {
  readonly keyring: Keyring;
  readonly errors: { readonly error: unknown; readonly id: string }[];
  readonly requested: string[];
  /** How often its keyring has asked the database something so far. */
  readonly questions: () => number;
  /** A superuser's connection string. */
  readonly adminUrl: string;
  /** What the service logs in with, and its root key: to open another one. */
  readonly serviceUrl: string;
  readonly rootKey: string;
  /** Has the stored bytes of a secret open no more, as a broken disk would. */
  spoil(projectId: string, name: string): Promise<void>;
  /** As the token "all" unless headers say otherwise. */
  send(method: string, address: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Exactly this. */
  fetch(request: Request, context?: RequestContext): Promise<Response>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: AnswerBody;
}

/** What tests look at, of all the answers there are; a test that looks at what was not sent fails. */
export interface AnswerBody {
  readonly id: string;
  readonly code: string;
  readonly detail: string;
  readonly details: { readonly ids: string[]; readonly rotationIds: string[] };
  readonly fields: readonly { readonly field: string; readonly message: string }[];
  readonly requestedAt: string;
  readonly finishedAt: string | null;
  readonly durationMs: number;
  readonly projectDetails: readonly { readonly finishedAt: string }[];
  readonly rotations: readonly { readonly id: string }[];
  readonly next: string | null;
  readonly keys: readonly {
    readonly id: string;
    readonly projectName: string;
    readonly active: boolean;
    readonly createdAt: string;
  }[];
  readonly projects: readonly { readonly name: string }[];
  readonly secrets: readonly { readonly name: string }[];
  readonly grants: readonly { readonly id: string }[];
  readonly approvals: readonly { readonly id: string }[];
  readonly receipts: readonly { readonly projectId: string }[];
  readonly quarantine: readonly { readonly projectId: string; readonly label: string; readonly rowId: string }[];
  readonly events: readonly { readonly action: string }[];
  readonly rotation: { readonly id: string };
  readonly instances: unknown[];
  readonly workers: unknown[];
  readonly rootKeys: unknown[];
  readonly wrappingKeys: readonly { readonly id: string }[];
}

/** A handler over a keyring of its own, in a database of its own. */
export async function openApi(options: Partial<KeyringHandlerOptions> = {}): Promise<Api> {
  const database = await createTestDatabase();
  const folder = await mkdtemp(path.join(tmpdir(), 'keyring-http-'));
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  let questions = 0;
  const counted = counting(pgDatabase({ connectionString: database.serviceUrl }), () => (questions += 1));
  const keyring = await openKeyring({ database: counted, rootKey, actor: 'server' });
  const errors: { error: unknown; id: string }[] = [];
  const requested: string[] = [];
  const handler = keyringHandler({
    keyring,
    tokens: [
      { name: 'admin', digest: tokenDigest(tokens.admin), role: 'instance_admin' },
      { name: 'all', digest: tokenDigest(tokens.all), scopes: ['read', 'rotate'] },
      { name: 'reader', digest: tokenDigest(tokens.reader), scopes: ['read'] },
      { name: 'rotator', digest: tokenDigest(tokens.rotator), scopes: ['rotate'] },
    ],
    onRotationRequested: (id) => requested.push(id),
    onError: (error, id) => errors.push({ error, id }),
    ...options,
  });
  return {
    keyring,
    errors,
    requested,
    questions: () => questions,
    adminUrl: database.adminUrl,
    serviceUrl: database.serviceUrl,
    rootKey,
    async spoil(projectId, name) {
      await query(
        database.adminUrl,
        `set session_replication_role = replica;
         update public.secrets set value_encrypted = set_byte(value_encrypted, 50, get_byte(value_encrypted, 50) # 1)
         where project_id = '${projectId}' and key = '${name}'`,
      );
    },
    fetch: handler,
    async send(method, address, body, headers = {}) {
      const sent = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
      const response = await handler(
        new Request(`http://127.0.0.1:8080${address}`, {
          method,
          ...(sent === undefined ? {} : { body: sent }),
          headers: {
            authorization: `Bearer ${tokens.all}`,
            ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
            ...headers,
          },
        }),
      );
      return answer(response);
    },
    async [Symbol.asyncDispose]() {
      await keyring.close();
      await rm(folder, { recursive: true, force: true });
      await database.drop();
    },
  };
}

/** Counts what is asked, each time under whosever identity. Not what is written: heartbeats, summaries and the last use of a token come when they do. */
function counting(database: Database, count: () => void): Database {
  const noting = (queryable: Queryable): Queryable['query'] => {
    return (statement) => {
      if (/^\s*select\b/.test(statement.text)) count();
      return queryable.query(statement);
    };
  };
  return {
    query: (statement) => noting(database)(statement),
    queryAfter: (first, statement) => {
      count();
      if (database.queryAfter === undefined) throw new TypeError('the shipped database sends two at once');
      return database.queryAfter(first, statement);
    },
    async connect() {
      const connection = await database.connect();
      return {
        query: (statement) => noting(connection)(statement),
        release: (broken) => {
          connection.release(broken);
        },
      };
    },
    close: () => database.close(),
  };
}

export async function answer(response: Response): Promise<Answer> {
  const text = await response.text();
  const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: (isJson ? JSON.parse(text) : undefined) as AnswerBody,
  };
}
