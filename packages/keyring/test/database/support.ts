import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts';

/** One connection of one test. It ends with the test, its transaction with it. */
export interface Session {
  readonly pid: number;
  readonly client: pg.Client;
  run<Row extends pg.QueryResultRow = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>;
  /** The first column of the first row. */
  value<T = unknown>(text: string, values?: unknown[]): Promise<T>;
}

export interface Connections {
  /** As superuser, whom no policy and no grant holds back. */
  admin(): Promise<Session>;
  /** As the role that ran the migrations: owns the tables in `public`. */
  owner(): Promise<Session>;
  /** As the service, whose role is `keyring_service`. */
  service(): Promise<Session>;
  readonly database: TestDatabase;
}

/** A database for the tests of a file, and connections to it that are closed after each test. */
export function useDatabase(options: Parameters<typeof createTestDatabase>[0] = {}): Connections {
  let database: TestDatabase | undefined;
  let sessions: Session[] = [];
  beforeAll(async () => {
    database = await createTestDatabase(options);
  });
  afterEach(async () => {
    await Promise.all(sessions.map((session) => session.client.end()));
    sessions = [];
  });
  afterAll(async () => {
    await database?.drop();
  });
  const made = (): TestDatabase => {
    if (database === undefined) throw new Error('the database is made in beforeAll');
    return database;
  };
  const open = async (url: string): Promise<Session> => {
    const session = await connect(url);
    sessions.push(session);
    return session;
  };
  return {
    admin: () => open(made().adminUrl),
    owner: () => open(made().ownerUrl),
    service: () => open(made().serviceUrl),
    get database() {
      return made();
    },
  };
}

/** A connection that its taker ends. */
export async function connect(url: string): Promise<Session> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  const run = async <Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]> =>
    (await client.query<Row>(text, values)).rows;
  const value = async <T>(text: string, values?: unknown[]): Promise<T> =>
    Object.values((await run(text, values))[0] ?? {})[0] as T;
  return { client, run, value, pid: await value<number>('select pg_backend_pid()') };
}

/** `done`, or the SQLSTATE it was refused with. To be called at once on a statement that will wait. */
export function outcome(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'done',
    (error: unknown) => {
      if (error instanceof pg.DatabaseError && error.code !== undefined) return error.code;
      throw error;
    },
  );
}

/** Does a statement of `session` wait for a lock of somebody else? */
export function waits(observer: Session, session: Session): Promise<boolean> {
  return observer.value<boolean>('select cardinality(pg_blocking_pids($1)) > 0', [session.pid]);
}

export async function untilItWaits(observer: Session, session: Session): Promise<void> {
  while (!(await waits(observer, session))) await sleep(2);
}

export const isolations = ['read committed', 'repeatable read', 'serializable'] as const;
export type Isolation = (typeof isolations)[number];

export interface Project {
  readonly id: string;
  readonly owner: string;
  /** Key ids of versions 1, 2, 3…; the first is primary. */
  readonly keys: readonly [v1: string, v2: string, ...string[]];
}

/** A project with a keyring and this many versions. */
export async function makeProject(by: Session, versions = 2): Promise<Project> {
  const id = randomUUID();
  const owner = randomUUID();
  await by.run('insert into public.projects (id, owner, name) values ($1, $2, $3)', [id, owner, `project ${id}`]);
  const keys: string[] = [];
  for (let version = 1; version <= versions; version++) keys.push(await addVersion(by, id, version));
  await by.run('insert into keyring.keyrings (project_id, primary_key_id) values ($1, $2)', [id, keys[0]]);
  return { id, owner, keys: keys as unknown as Project['keys'] };
}

export const wrappingKey = '00000000-0000-4000-8000-00000000001a';

/** A wrapped key: well-formed, and naming its wrapping key; nothing in it opens. */
export function wrapped(wrappingKeyId: string): Buffer {
  return Buffer.concat([Buffer.from([1, 1]), Buffer.from(wrappingKeyId.replaceAll('-', ''), 'hex'), randomBytes(60)]);
}

/** A data key version whose wrapped bytes are anything of the right length: the database never opens them. */
export async function addVersion(by: Session, projectId: string, version: number): Promise<string> {
  await by.run(
    `insert into keyring.wrapping_keys (id, version, fingerprint) values ($1, 1, $2) on conflict do nothing`,
    [wrappingKey, randomBytes(32)],
  );
  await by.run('insert into keyring.installation (wrapping_key_id) values ($1) on conflict do nothing', [wrappingKey]);
  const id = randomUUID();
  await by.run(
    `insert into keyring.encryption_keys (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint)
     values ($1, $2, $3, $4, $5, $6)`,
    [id, projectId, version, wrapped(wrappingKey), wrappingKey, randomBytes(32)],
  );
  return id;
}

/** Well-formed (docs/spec/envelope.md) and under this key; nothing in it opens. */
export function envelope(keyId: string): Buffer {
  return Buffer.concat([Buffer.from([1, 1]), Buffer.from(keyId.replaceAll('-', ''), 'hex'), randomBytes(12 + 9 + 16)]);
}

/** A secret as the service writes it; its row id. */
export async function putSecret(by: Session, project: { id: string }, keyId: string, name?: string): Promise<string> {
  const id = randomUUID();
  await by.run(
    `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id, value_written_at)
     values ($1, $2, $3, $4, $5, clock_timestamp())`,
    [id, project.id, name ?? `secret ${id}`, envelope(keyId), keyId],
  );
  return id;
}

/** Sets the value of a secret, as a sweep does: ciphertext and key id, nothing else. */
export async function reencrypt(by: Session, rowId: string, keyId: string): Promise<void> {
  await by.run('update public.secrets set value_encrypted = $2, encryption_key_id = $3 where id = $1', [
    rowId,
    envelope(keyId),
    keyId,
  ]);
}

type FromTo = readonly [from: string, to: string, ...string[]];

/** In the transaction that is open: the queue, then compare-and-set on the pointer. False when it pointed elsewhere. */
export async function movePointer(by: Session, project: { id: string }, ...[from, to]: FromTo): Promise<boolean> {
  await by.run('select pg_advisory_xact_lock(keyring.project_lock($1))', [project.id]);
  const moved = await by.run(
    `update keyring.keyrings set primary_key_id = $3, promoted_at = now()
     where project_id = $1 and primary_key_id = $2 returning 1`,
    [project.id, from, to],
  );
  return moved.length === 1;
}

export async function promote(by: Session, project: { id: string }, ...fromTo: FromTo): Promise<boolean> {
  await by.run('begin');
  const moved = await movePointer(by, project, ...fromTo);
  await by.run('commit');
  return moved;
}

/** Ends the retention of a version at once, as a finished rotation does with a window of nothing. */
export async function retire(by: Session, keyId: string, window = '0 seconds'): Promise<void> {
  await by.run('update keyring.encryption_keys set retention_until = clock_timestamp() + $2::interval where id = $1', [
    keyId,
    window,
  ]);
}

export async function destroy(by: Session, keyId: string): Promise<void> {
  await by.run(
    `update keyring.encryption_keys set state = 'destroyed', wrapped_key = null, destroyed_at = clock_timestamp()
     where id = $1`,
    [keyId],
  );
}

/** How many secrets of the project name this version. Everybody's, whatever the policies. */
export async function rowsUnder(admin: Session, project: { id: string }, keyId: string): Promise<number> {
  return Number(
    await admin.value('select count(*) from public.secrets where project_id = $1 and encryption_key_id = $2', [
      project.id,
      keyId,
    ]),
  );
}

/** Replaces a function by what `edit` makes of its source: a rule of ours taken away, to see what it was for. */
export async function rewrite(admin: Session, name: string, edit: (source: string) => string): Promise<void> {
  const source = await admin.value<string>('select pg_get_functiondef($1::regproc)', [name]);
  const edited = edit(source);
  if (edited === source) throw new Error(`${name} reads otherwise than this test expects`);
  await admin.run(edited);
}

/** Copies one line of text into a table. */
export function copyIn(session: Session, into: string, line: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const copy = new CopyIn(`copy ${into} from stdin`, [], (error) => {
      if (error instanceof Error) reject(error);
      else resolve();
    });
    copy.data = `${line.join('\t')}\n`;
    session.client.query(copy as unknown as pg.Submittable);
  });
}

interface CopyTarget {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

const Query = pg.Query as unknown as new (text: string, values: unknown[], done: (error: unknown) => void) => object;

/** The driver can speak this part of the protocol and offers no call for it. */
class CopyIn extends Query {
  data = '';
  handleCopyInResponse(connection: CopyTarget): void {
    connection.sendCopyFromChunk(Buffer.from(this.data));
    connection.endCopyFrom();
  }
}
