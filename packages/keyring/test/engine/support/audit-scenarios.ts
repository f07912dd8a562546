import { pgDatabase, type ArchiveAuditOptions, type Keyring } from '@meshhook/keyring';
import { expect } from 'vitest';
import type { FaultScenario, FaultWay } from './faults.ts';
import type { Installation } from './installation.ts';

/** Until nothing is left to do, the floor as high as it goes. Gives the checkpoints that were signed. */
export async function sealAll(keyring: Keyring, signed: (note: string) => void = () => undefined): Promise<void> {
  for (let idle = 0; idle < 2;) {
    const { checkpoint } = await keyring.audit.seal();
    if (checkpoint !== undefined) signed(checkpoint.note);
    idle = checkpoint === undefined ? idle + 1 : 0;
  }
}

async function clearTrail({ behindTheFence }: Installation): Promise<void> {
  for (const table of ['audit_checkpoints', 'audit_seals', 'audit_archives', 'audit_log', 'receipts', 'signing_keys']) {
    await behindTheFence(`delete from keyring.${table}`);
  }
}

async function note({ sql }: Installation, subject: string): Promise<void> {
  await sql(
    `insert into keyring.audit_log (actor, action, outcome, subject) values ('test', 'test.noted', 'succeeded', $1)`,
    [subject],
  );
}

/** All that is there has its place, and all that was signed holds. */
async function expectSealed({ sql }: Installation, keyring: Keyring, notes: readonly string[]): Promise<void> {
  const counted = async (): Promise<{ entries: number; seals: number; keys: number } | undefined> => {
    const [count] = await sql<{ entries: number; seals: number; keys: number }>(
      `select (select count(*)::int from keyring.audit_log) as entries, (select count(*)::int from keyring.audit_seals) as seals,
         (select count(*)::int from keyring.signing_keys) as keys`,
    );
    return count;
  };
  // The sealer that died is the sealer until PostgreSQL notices: others let it be.
  await expect
    .poll(async () => {
      await sealAll(keyring);
      const count = await counted();
      return count !== undefined && count.seals === count.entries;
    })
    .toBe(true);
  const count = await counted();
  expect(count).toEqual({ entries: count?.entries, seals: count?.entries, keys: 1 });
  for (const checkpoint of [undefined, ...notes]) {
    expect(await keyring.audit.verify(checkpoint === undefined ? {} : { checkpoint })).toMatchObject({
      intact: true,
      entries: count?.entries,
      given: checkpoint === undefined ? undefined : expect.stringMatching(/matches|archived/),
      unsealed: { entries: 0 },
    });
  }
}

interface SealWorld {
  /** Checkpoints that somebody was handed, and may have kept elsewhere. */
  readonly kept: string[];
}

/** A first seal, which makes its key, and the ones after it, until the floor is as high as it goes. */
export function sealScenario(installation: Installation, plans: readonly FaultWay[]): FaultScenario<SealWorld> {
  return {
    plans,
    async prepare() {
      await clearTrail(installation);
      for (const subject of ['a:1', 'a:2', 'a:3']) await note(installation, subject);
      return { kept: [] };
    },
    async act({ kept }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      fault.arm();
      const { checkpoint } = await struck.audit.seal();
      if (checkpoint !== undefined) kept.push(checkpoint.note);
      await note(installation, 'a:4');
      await sealAll(struck, (signed) => kept.push(signed));
    },
    async recover({ kept }) {
      await note(installation, 'a:5');
      const next = await installation.open();
      await expectSealed(installation, next, kept);
      expect(await next.audit.list({ action: 'signing_key.created' })).toHaveLength(1);
    },
  };
}

interface ArchiveWorld {
  readonly before: readonly string[];
  /** What was written, whole or not. */
  readonly files: string[];
  readonly kept: readonly string[];
}

/** A range that goes into a file, and then out of the database. */
export function archiveScenario(installation: Installation, plans: readonly FaultWay[]): FaultScenario<ArchiveWorld> {
  const subjects = async (): Promise<string[]> =>
    (await installation.sql<{ subject: string }>('select subject from keyring.audit_log order by id')).map(
      (row) => row.subject,
    );
  const options = (files: string[]): Omit<ArchiveAuditOptions, 'owner'> => ({
    before: new Date('2100-01-01'),
    reason: 'kept elsewhere',
    async write(text) {
      const at = files.push('') - 1;
      for await (const part of text) files[at] += part;
    },
  });
  return {
    plans,
    async prepare() {
      await clearTrail(installation);
      for (const subject of ['a:1', 'a:2', 'a:3']) await note(installation, subject);
      const kept: string[] = [];
      const keyring = await installation.open();
      await sealAll(keyring, (signed) => kept.push(signed));
      return { before: await subjects(), files: [], kept };
    },
    async act({ files }, fault) {
      const struck = await installation.open({ wrap: (database) => fault.wrap(database) });
      const owner = pgDatabase({ connectionString: installation.test.ownerUrl, maxConnections: 1 });
      fault.arm();
      try {
        await struck.audit.archive({ ...options(files), owner: fault.wrap(owner) });
      } finally {
        await owner.close();
      }
    },
    async recover({ before, files, kept }) {
      const next = await installation.open();
      const archives = (): Promise<unknown[]> => installation.sql('select from keyring.audit_archives');
      if ((await archives()).length === 0) {
        // Nothing is gone that is not in a file whose removal was signed.
        expect((await subjects()).slice(0, before.length)).toEqual(before);
        const owner = pgDatabase({ connectionString: installation.test.ownerUrl, maxConnections: 1 });
        await next.audit.archive({ ...options(files), owner }).finally(() => owner.close());
      }
      expect(await archives()).toHaveLength(1);
      const lines = (files.at(-1) ?? '').trimEnd().split('\n');
      const archive = await next.audit.verifyArchive(each(lines));
      expect(archive).toMatchObject({ from: 1, entries: archive.through });
      const archived = lines.slice(1, -1).map((line) => (JSON.parse(line) as { subject: string }).subject);
      const left = await subjects();
      expect([...archived, ...left]).toEqual(expect.arrayContaining([...before]));
      expect(archived.filter((subject) => left.includes(subject))).toEqual([]);
      expect(await next.audit.list({ action: 'audit.archived' })).toHaveLength(1);
      await note(installation, 'a:5');
      await expectSealed(installation, next, kept);
    },
  };
}

async function* each(lines: readonly string[]): AsyncIterable<string> {
  yield* lines;
}
