import type { Audit, AuditEntry, AuditFilter } from '../api.ts';
import { sqlState, sqlStates } from '../db/failures.ts';
import type { Database } from '../db/port.ts';
import { archiveTrail, type ArchiveContext } from './archive.ts';
import { openArchiveNote } from './archive-note.ts';
import { verifyAuditArchive } from './archive-file.ts';
import { requireFilter } from './filter.ts';
import { auditOrigin } from './note.ts';
import { selectInstallation, selectLastCheckpoint, selectUnsealedCount } from './seal-store.ts';
import { checkpointOf, type Sealer } from './sealer.ts';
import { selectEntries, selectEntriesUpwards } from './store.ts';
import { selectVerified } from './verification-store.ts';
import { noteByHand, type Verifier } from './verifier.ts';
import { selectArchive, selectHeadAt } from './verify-store.ts';
import { verifyTrail } from './verify.ts';

const EXPORT_PAGE = 1_000;

export interface AuditLogContext extends ArchiveContext {
  readonly sealer: Sealer;
  readonly verifier: Verifier;
}

/** The trail, as its readers see it. */
export function auditLog({ sealer, verifier, ...context }: AuditLogContext): Omit<Audit, 'keptOutside'> {
  const { database, publicKeys, trail } = context;
  return {
    list: ({ limit = 100, before, ...filter } = {}) =>
      selectEntries(database, requireFilter(filter), { before, limit: Math.min(Math.max(limit, 1), 1000) }),
    export: (filter = {}) => exportEntries(database, filter),
    seal: () => sealer.seal(),
    async checkpoint() {
      const row = await selectLastCheckpoint(database);
      if (row === undefined) return undefined;
      return checkpointOf(row, auditOrigin(await selectInstallation(database)), await publicKeys());
    },
    async holds(note) {
      const [origin, keys] = [auditOrigin(await selectInstallation(database)), await publicKeys()];
      const checkpoint = checkpointOf({ note }, origin, keys);
      if (checkpoint === undefined) return false;
      const hash = await selectHeadAt(database, checkpoint.size);
      if (hash !== undefined) return hash.toString('base64') === checkpoint.hash;
      const archive = await selectArchive(database);
      const told = archive && openArchiveNote(archive.note, origin, keys);
      return told !== undefined && checkpoint.size <= told.through;
    },
    async verify(options = {}) {
      const part = await verifyTrail({ ...options, database, publicKeys: await publicKeys() });
      // A database that takes no note, as one that is read only, is verified all the same.
      await noteByHand(database, trail.actor.name, part).catch((error: unknown) => {
        if (sqlState(error) !== sqlStates.readOnly) throw error;
      });
      const { intact, problem, entries, archived, checkpoints, checkpoint, given, unsealed } = part;
      return { intact, problem, entries, archived, checkpoints, checkpoint, given, unsealed };
    },
    verifyDue: (scope, options) => verifier.verifyDue(trail, scope, options),
    archive: (options) => archiveTrail(context, options),
    verifyArchive: async (lines) => verifyAuditArchive(lines, await publicKeys()),
    verified: () => selectVerified(database),
    async health() {
      const last = await selectLastCheckpoint(database);
      const { entries, oldestAt, now } = await selectUnsealedCount(database, last?.floor_id ?? '0');
      return {
        unsealed: { entries, oldestAt },
        lagSeconds: oldestAt === undefined ? 0 : Math.max(0, (now.getTime() - oldestAt.getTime()) / 1000),
        size: Number(last?.size ?? 0),
        lastCheckpointAt: last?.signed_at,
        verified: await selectVerified(database),
      };
    },
  };
}

async function* exportEntries(database: Database, given: AuditFilter): AsyncIterable<AuditEntry> {
  const filter = requireFilter(given);
  for (let after: string | undefined; ;) {
    const page = await selectEntriesUpwards(database, filter, { after, limit: EXPORT_PAGE });
    yield* page;
    after = page.at(-1)?.id;
    if (page.length < EXPORT_PAGE) return;
  }
}
