import type { Actor } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInstallation, type Installation } from './support/installation.ts';

const ada: Actor = { name: 'ada', kind: 'user', address: '192.0.2.7' };
let installation: Installation;
beforeAll(async () => {
  installation = await startInstallation();
});
afterAll(() => installation.end());

test('every entry that is written through `as` names that actor, and the original goes on naming its own', async () => {
  const keyring = await installation.open({ actor: 'service' });
  const hers = keyring.as(ada);
  const { id: projectId } = await hers.projects.create({ name: 'hers' });
  await hers.secrets.put(projectId, 'a', 'first');
  await keyring.secrets.put(projectId, 'a', 'second');
  const rotation = await hers.rotations.request({ projects: [projectId], pace: 'full' });
  await hers.as({ name: 'w', kind: 'worker' }).rotations.run(rotation.id);
  await hers.secrets.remove(projectId, 'a');
  await hers.close();

  const entries = (await keyring.audit.list({ projectId })).reverse();
  expect(entries.map(({ action, actor, kind, address }) => [action, actor, kind, address].join(' '))).toEqual([
    'project.created ada user 192.0.2.7',
    'key.created ada user 192.0.2.7',
    'key.promoted ada user 192.0.2.7',
    'secret.written ada user 192.0.2.7',
    'secret.written service service ',
    'rotation.requested ada user 192.0.2.7',
    'key.created w worker ',
    'key.promoted w worker ',
    'rotation.project_swept w worker ',
    'rotation.project_completed w worker ',
    'secret.deleted ada user 192.0.2.7',
  ]);
  expect((await keyring.rotations.get(rotation.id))?.requestedBy).toBe('ada');
  await keyring.close();
});

test('an actor without a name, of an unknown kind or with too long an address is misuse', async () => {
  const keyring = await installation.open();
  try {
    for (const actor of [
      { ...ada, name: '' },
      { ...ada, name: 'x'.repeat(201) },
      { ...ada, kind: 'root' as 'user' },
      { ...ada, address: 'x'.repeat(101) },
    ])
      expect(() => keyring.as(actor)).toThrow(TypeError);
  } finally {
    await keyring.close();
  }
});
