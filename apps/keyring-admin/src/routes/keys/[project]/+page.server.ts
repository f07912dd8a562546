import type { shapes } from '@meshhook/keyring-http';
import { act, required, requireTyped, unlessWaiting, type Sent } from '#lib/server/act.ts';
import { show, visitorApi, type Api } from '#lib/server/api.ts';
import type { Action, Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:keys');
  const { project } = event.params;
  const timeline = await show(() =>
    visitorApi(event).get<shapes.KeyTimeline>(`/api/projects/${encodeURIComponent(project)}/timeline`, {
      cursor: event.url.searchParams.get('cursor'),
      limit: 50,
    }),
  );
  return { ...timeline, now: new Date().toISOString() };
};

/** What all of them ask: which key, why, and the project's name typed back. */
async function prepare(sent: Sent, api: Api): Promise<{ key: shapes.Key; path: string; reason: string }> {
  const path = `/api/keys/${encodeURIComponent(sent.text('key'))}`;
  const key = await api.get<shapes.Key>(path);
  const reason = required(sent, 'reason', 'Say why, for the record.');
  requireTyped(sent, key.projectName);
  return { key, path, reason };
}

function change(what: 'suspend' | 'restore' | 'destroy', done: (version: number) => string): Action {
  return (event) =>
    act(event, formOf(what), async (sent, api) => {
      const { key, path, reason } = await prepare(sent, api);
      const early = sent.text('early') === 'yes' ? { early: true } : {};
      return unlessWaiting(await api.send('POST', `${path}/${what}`, { reason, ...early }), {
        done: done(key.version),
      });
    });
}

/** Every version has forms of its own. */
const formOf = (what: string) => (sent: Sent) => `${what}-${sent.text('key')}`;

export const actions: Actions = {
  compromise: (event) =>
    act(event, formOf('compromise'), async (sent, api) => {
      const { key, path, reason } = await prepare(sent, api);
      const answer = await api.send<shapes.Compromise>('POST', `${path}/compromise`, { reason });
      const { rotation } = answer.body;
      return unlessWaiting(answer, {
        done: `Version ${key.version} is marked compromised, and everything is leaving it.`,
        ...(rotation ? { link: { href: `/rotations/${rotation.id}`, text: 'Watch the emergency rotation' } } : {}),
      });
    }),
  suspend: change('suspend', (version) => `Version ${version} is suspended: nothing opens under it.`),
  restore: change('restore', (version) => `Version ${version} opens again.`),
  destroy: change('destroy', (version) => `Version ${version} is destroyed.`),
};
