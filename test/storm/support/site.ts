import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  createRootKeyFile,
  openKeyring,
  pgDatabase,
  type Database,
  type Keyring,
  type KeyringOptions,
} from '@meshhook/keyring';
import type { ScratchCluster } from '@meshhook/keyring-embedded/scratch';
import { inject } from 'vitest';
import { startOwnCluster } from '../../../packages/keyring/test/engine/support/own-cluster.ts';
import { pick, type Random } from '../../../packages/keyring/test/engine/support/random.ts';
import { ServiceModel } from '../../../packages/keyring/test/engine/support/service-model.ts';
import type { TestDatabase } from '../../support/database.ts';
import { fill } from './fill.ts';
import type { Storm } from './storm.ts';

const SMALL_PROJECTS = 44;
const NAMES_OF_SMALL = 12;
/** Enough that its rows are swept by blocks of the table. */
const NAMES_OF_LARGE = 3_000;
const SERVICE_PROCESSES = 4;

/** Where the storm is: PostgreSQL, the projects in it, what is known of them, and the processes of the service. */
export interface Site {
  readonly cluster: ScratchCluster;
  readonly test: TestDatabase;
  readonly rootKey: string;
  /** The first project is large, the others small. */
  readonly models: readonly ServiceModel[];
  /** As processes of the service: caches and connections of their own, and no reason to read a pointer again but a refusal. */
  readonly service: readonly Keyring[];
  readonly operator: Keyring;
  /** As superuser. */
  readonly admin: Database;
  sql<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
  /** Closes what this process has open; PostgreSQL goes on. */
  disconnect(): Promise<void>;
  end(): Promise<void>;
}

export async function startSite(storm: Storm): Promise<Site> {
  const folder = await mkdtemp(path.join(tmpdir(), 'meshhook-storm-'));
  const rootKey = `file:${path.join(folder, 'root.key')}`;
  await createRootKeyFile(rootKey);
  const { cluster, test } = await startOwnCluster({
    binDirectory: inject('cluster').binDirectory,
    settings: { max_connections: '200' },
  });
  const end = async (): Promise<void> => {
    await cluster.stop();
    await rm(folder, { recursive: true });
  };
  try {
    return { cluster, test, rootKey, end, ...(await connect(storm, test, rootKey)) };
  } catch (error) {
    await end();
    throw error;
  }
}

type Connected = Pick<Site, 'models' | 'service' | 'operator' | 'admin' | 'sql' | 'disconnect'>;

async function connect(storm: Storm, test: TestDatabase, rootKey: string): Promise<Connected> {
  const admin = pgDatabase({ connectionString: test.adminUrl });
  const sql = async <Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> =>
    (await admin.query<Row>({ text, values })).rows;
  const open = (options: Partial<KeyringOptions>): Promise<Keyring> =>
    openKeyring({ database: test.serviceUrl, rootKey, ...options });

  const operator = await open({ actor: 'operator', lockPatienceMs: 2_000 });
  const service: Keyring[] = [];
  for (let index = 0; index < SERVICE_PROCESSES; index++) service.push(await open({ keyCacheMs: 86_400_000 }));
  // Old versions may go as soon as a rotation is finished: the guard alone stands between them and a value.
  await sql(`update keyring.rotation_policies set retention = '0'`);
  const models: ServiceModel[] = [];
  for (let index = 0; index <= SMALL_PROJECTS; index++) {
    const { id } = await operator.projects.create({ name: index === 0 ? 'large' : `small ${String(index)}` });
    const length = index === 0 ? NAMES_OF_LARGE : NAMES_OF_SMALL;
    const names = Array.from({ length }, (_, at) => `NAME_${String(at)}`);
    models.push(new ServiceModel({ sql }, id, names, storm.dice('model', index), storm.failed));
  }
  await fill({ test, rootKey, models, service });
  const disconnect = async (): Promise<void> => {
    for (const keyring of [...service, operator]) await keyring.close();
    await admin.close();
  };
  return { models, service, operator, admin, sql, disconnect };
}

/** A third of what happens, happens in the large project. */
export function somewhere({ models }: Pick<Site, 'models'>, random: Random): ServiceModel {
  return random(3) === 0 ? (models[0] as ServiceModel) : pick(models, random);
}
