import { randomUUID } from 'node:crypto';
import { openRootKey } from '@meshhook/keyring';
import { startInstallation } from '../../../packages/keyring/test/engine/support/installation.ts';
import type { ServiceModel } from '../../../packages/keyring/test/engine/support/service-model.ts';
import type { Site } from './site.ts';

type Empty = Pick<Site, 'test' | 'rootKey' | 'models' | 'service'>;

/** What there is when the storm begins: all names of the large project, and every other one of the small projects. */
export async function fill(site: Empty): Promise<void> {
  const [large, ...small] = site.models as [ServiceModel, ...ServiceModel[]];
  await Promise.all(small.map((model, index) => fillSmall(site, model, index)));
  await fillLarge(site, large);
}

async function fillSmall({ service }: Empty, { known }: ServiceModel, index: number): Promise<void> {
  for (const name of known.all.filter((_, at) => at % 2 === 0)) {
    await service[index % service.length]?.secrets.put(known.projectId, name, firstValue(name));
    known.history(name).settle(firstValue(name));
  }
}

/** In one statement: thousands of puts take a busy machine as long as a short storm does. */
async function fillLarge({ test, rootKey, service }: Empty, { known }: ServiceModel): Promise<void> {
  const { projectId, all } = known;
  // Makes its first version.
  await service[0]?.secrets.put(projectId, 'SOME', 'value');
  await service[0]?.secrets.remove(projectId, 'SOME');
  const names = new Map(all.map((name) => [randomUUID(), name]));
  const values = new Map([...names].map(([rowId, name]) => [rowId as string, firstValue(name)]));
  const installation = await startInstallation({ test, rootKey: await openRootKey(rootKey, { cwd: '.' }) });
  const sealed = [...(await installation.sealAll({ projectId, label: 'secrets.value' }, values)).values()];
  await installation.sql(
    `insert into public.secrets (id, project_id, key, value_encrypted, encryption_key_id)
     select r.id, $1, r.key, r.envelope, r.key_id from unnest($2::uuid[], $3::text[], $4::bytea[], $5::uuid[])
       as r (id, key, envelope, key_id)`,
    [
      projectId,
      [...names.keys()],
      [...names.values()],
      sealed.map((one) => one.envelope),
      sealed.map((one) => one.keyId),
    ],
  );
  await installation.end();
  for (const name of all) known.history(name).settle(firstValue(name));
}

function firstValue(name: string): string {
  return `as filled: ${name}`;
}
