/** The statements that ship, as transactions of actors. The one place here that imports the stores. */
import { auditTrail } from '../../../src/audit/audit.ts';
import type { Queryable } from '../../../src/db/port.ts';
import {
  eraseKey,
  eraseKeys,
  markCompromised,
  markRolledBack,
  movePrimary,
  selectPrimary,
} from '../../../src/keyring/store.ts';
import { moveProject, overtakeProject, type ProjectProgress } from '../../../src/rotation/project-store.ts';
import { replacement, replaceCiphertexts, selectRows } from '../../../src/rotation/rows-store.ts';
import { insertSecret, selectSecretRow, updateSecret } from '../../../src/secrets/store.ts';
import type { Isolation } from '../../database/support.ts';
import type { Actor } from './scheduler.ts';
import type { ScheduledProject } from './lane-database.ts';

/** What a transaction acknowledged. */
export type Effect =
  | { readonly kind: 'put' | 'restored'; readonly name: string; readonly value: string }
  | { readonly kind: 'swept' }
  | { readonly kind: 'moved'; readonly from: string; readonly to: string }
  | { readonly kind: 'destroyed'; readonly keyIds: readonly string[] };

export interface KeyringActor extends Actor<Effect> {
  readonly role: 'writer' | 'sweeper' | 'promoter' | 'destroyer' | 'restorer';
  readonly login: 'service' | 'owner';
}

/** An actor is made for a project. */
export type MakeActor = (project: ScheduledProject) => KeyringActor;

// Longer than any schedule: what becomes of those whose patience ends is the business of other tests.
const waitMs = 60_000;
const ACTOR = { name: 'test', kind: 'service' } as const;
const audit = auditTrail('test');

function actor(
  role: KeyringActor['role'],
  name: string,
  body: (tx: Queryable) => Promise<Effect | undefined>,
  { isolation = 'read committed', login = 'service' }: { isolation?: Isolation; login?: KeyringActor['login'] } = {},
): KeyringActor {
  return {
    role,
    name,
    isolation,
    login,
    async run(tx) {
      await tx.query({ text: `begin isolation level ${isolation}` });
      const effect = await body(tx);
      await tx.query({ text: effect === undefined ? 'rollback' : 'commit' });
      return effect;
    },
  };
}

/** What a test makes of a statement that ships, to see it caught. */
type Edit = (text: string) => string;
const same: Edit = (text) => text;

function edited(tx: Queryable, edit: Edit): Queryable {
  return { query: (statement) => tx.query({ ...statement, text: edit(statement.text) }) };
}

interface WriterOptions {
  readonly name?: string;
  readonly isolation?: Isolation;
  /** The version it believes primary, from a cache; without it, it reads the pointer in its transaction. */
  readonly believes?: number;
}

/** A put of a secret that is there: where is it, what is primary, and the compare-and-set. */
export function writer(
  secret: string,
  { name = `writer of ${secret}`, isolation = 'read committed', believes }: WriterOptions = {},
): MakeActor {
  return (project) =>
    actor(
      'writer',
      name,
      async (tx) => {
        const row = await selectSecretRow(tx, project.projectId, secret);
        const keyId = believes === undefined ? await selectPrimary(tx, project.projectId) : project.key(believes);
        if (row === undefined || keyId === undefined) throw new Error('no such secret, or no keyring');
        const value = `${secret} by ${name}`;
        const envelope = project.seal(project.version(keyId)!, row.id, value);
        const write = { id: row.id, projectId: project.projectId, name: secret, envelope, keyId, actor: ACTOR };
        const written = await updateSecret(tx, write, row.encryption_key_id);
        return written ? { kind: 'put', name: secret, value } : undefined;
      },
      { isolation },
    );
}

/** A put of a new secret under the version it believes primary. */
export function creator(secret: string, { isolation = 'read committed', believes = 1 }: WriterOptions = {}): MakeActor {
  return (project) =>
    actor(
      'writer',
      `creator of ${secret}`,
      async (tx) => {
        const id = project.row(secret);
        const value = `${secret} as it was made`;
        const envelope = project.seal(believes, id, value);
        const keyId = project.key(believes);
        await insertSecret(tx, { id, projectId: project.projectId, name: secret, envelope, keyId, actor: ACTOR });
        return { kind: 'put', name: secret, value };
      },
      { isolation },
    );
}

interface SweeperOptions {
  readonly name?: string;
  readonly isolation?: Isolation;
  /**
   * `one` transaction (the default), so that there are moments, too, at which others meet what it has moved and not committed;
   * or `none`, as the engine sends the two statements.
   */
  readonly transaction?: 'one' | 'none';
}

/** A batch of a sweep: reads these secrets, re-encrypts them, replaces them. */
export function sweeper(
  to: number,
  secrets: readonly string[],
  { name = 'sweeper', isolation = 'read committed', transaction = 'one' }: SweeperOptions = {},
): MakeActor {
  return (project) => {
    const sweep = async (tx: Queryable): Promise<Effect | undefined> => {
      const { projectId, rotationId, column } = project;
      const keyId = project.key(to);
      const ids = secrets.map((secret) => project.row(secret));
      const found = await selectRows(tx, column, { projectId, ids, exceptKeyId: keyId });
      if (found.length === 0) return undefined;
      const rows = found.map((row) =>
        replacement(row, project.seal(to, row.id, project.open(row.id, row.keyId, row.envelope))),
      );
      const moved = await replaceCiphertexts(tx, column, { rotationId, projectId, rows });
      return moved > 0 ? { kind: 'swept' } : undefined;
    };
    const made = actor('sweeper', name, sweep, { isolation });
    return transaction === 'one' ? made : { ...made, run: sweep };
  };
}

/** A promote. With `step`, the rotation's own: its project moves on in the same transaction. */
export function promoter(
  from: number,
  to: number,
  { name = 'promoter', step = false, edit = same }: { name?: string; step?: boolean; edit?: Edit } = {},
): MakeActor {
  return (project) =>
    actor('promoter', name, async (tx) => {
      const move = { projectId: project.projectId, from: project.key(from), to: project.key(to) };
      if (!(await movePrimary(edited(tx, edit), { ...move, waitMs }))) return undefined;
      if (step && !(await moveProject(tx, progressOf(project), { to: 'sweeping' }))) return undefined;
      await audit.record(tx, { action: 'key.promoted', projectId: project.projectId, subject: `key:${move.to}` });
      return { kind: 'moved', from: move.from, to: move.to };
    });
}

/** A rollback: the pointer back, the version it leaves marked, the project on its way back. */
export function rollback(from: number, to: number): MakeActor {
  return (project) =>
    actor('promoter', 'rollback', async (tx) => {
      const move = { projectId: project.projectId, from: project.key(from), to: project.key(to) };
      if (!(await movePrimary(tx, { ...move, waitMs }))) return undefined;
      await markRolledBack(tx, [move.from]);
      if (!(await moveProject(tx, progressOf(project), { to: 'rolling_back', direction: 'back' }))) return undefined;
      await audit.record(tx, { action: 'key.rolled_back', projectId: project.projectId, subject: `key:${move.from}` });
      return { kind: 'moved', from: move.from, to: move.to };
    });
}

/** A compromise: the pointer to a version made for it, the leaked one marked, what was open of a rotation overtaken. */
export function emergency(from: number, to: number): MakeActor {
  return (project) =>
    actor('promoter', 'emergency', async (tx) => {
      const move = { projectId: project.projectId, from: project.key(from), to: project.key(to) };
      if (!(await movePrimary(tx, { ...move, waitMs }))) return undefined;
      if (!(await markCompromised(tx, move.from))) return undefined;
      await overtakeProject(tx, project.projectId);
      await audit.record(tx, { action: 'key.compromised', projectId: project.projectId, subject: `key:${move.from}` });
      return { kind: 'moved', from: move.from, to: move.to };
    });
}

export function destroyer(version: number): MakeActor {
  return (project) =>
    actor('destroyer', 'destroyer', async (tx) => {
      const keyId = project.key(version);
      if (!(await eraseKey(tx, keyId))) return undefined;
      await audit.record(tx, { action: 'key.destroyed', projectId: project.projectId, subject: `key:${keyId}` });
      return { kind: 'destroyed', keyIds: [keyId] };
    });
}

/** Old versions destroyed together, as the schedule has it: whichever of them nobody holds. */
export const setDestroyer = (...versions: readonly number[]): MakeActor => setDestroyerOf(same, ...versions);

export function setDestroyerOf(edit: Edit, ...versions: readonly number[]): MakeActor {
  return (project) =>
    actor('destroyer', 'destroyer of a set', async (tx) => {
      const wanted = versions.map((version) => project.key(version));
      const keyIds = (await eraseKeys(edited(tx, edit), wanted)).map(({ keyId }) => keyId);
      if (keyIds.length === 0) return undefined;
      await audit.recordAll(
        tx,
        keyIds.map((id) => ({ action: 'key.destroyed', projectId: project.projectId, subject: `key:${id}` })),
      );
      return { kind: 'destroyed', keyIds };
    });
}

/** Brings a row of a backup back, as docs/runbooks/restore-old-rows.md says. */
export function restorer(secret: string, under: number): MakeActor {
  return (project) =>
    actor(
      'restorer',
      'restorer',
      async (tx) => {
        const id = project.row(secret);
        const value = `${secret} of the backup`;
        await tx.query({ text: `select keyring.open_restore_door('ticket 4711')` });
        await tx.query({
          text: `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id, value_written_at)
                 values ($1, $2, $3, $4, $5, now())`,
          values: [id, project.projectId, secret, project.seal(under, id, value), project.key(under)],
        });
        return { kind: 'restored', name: secret, value };
      },
      { login: 'owner' },
    );
}

function progressOf({ rotationId, projectId, rotationState }: ScheduledProject): ProjectProgress {
  return {
    rotationId,
    projectId,
    projectName: 'project',
    state: rotationState as ProjectProgress['state'],
    direction: 'forward',
    sourceKeyId: undefined,
    targetKeyId: undefined,
    promoted: false,
  };
}
