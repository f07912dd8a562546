import type { shapes } from '@meshhook/keyring-http';
import { act, FieldError, required, requireTyped, unlessWaiting, type Sent } from '#lib/server/act.ts';
import { show, visitorApi } from '#lib/server/api.ts';
import type { Actions, PageServerLoad } from './$types';

const base = (project: string): string => `/api/projects/${encodeURIComponent(project)}`;
const secret = (project: string, name: string): string => `${base(project)}/secrets/${encodeURIComponent(name)}`;

/** Names and ages. No value is in it. */
export const load: PageServerLoad = async (event) => {
  event.depends('keyring:secrets');
  const api = visitorApi(event);
  const { params, url } = event;
  return show(async () => {
    const list = await api.get<shapes.SecretList>(`${base(params.project)}/secrets`, {
      cursor: url.searchParams.get('cursor'),
      limit: 100,
    });
    const project = await api.get<shapes.Project>(base(params.project));
    return { ...list, project, now: new Date().toISOString() };
  });
};

/** As it was typed, but for one line end at its end, which a text area invites. */
function valueOf(sent: Sent): string {
  const value = sent.exact('secret').replace(/\n$/, '');
  if (value === '') throw new FieldError('secret', 'There is no value.');
  return value;
}

const formOf = (what: string) => (sent: Sent) => `${what}-${sent.text('id')}`;

export const actions: Actions = {
  set: (event) =>
    act(
      event,
      'set',
      async (sent, api) => {
        const name = required(sent, 'name', 'It needs a name.');
        // In an address they mean a folder.
        if (name === '.' || name === '..') throw new FieldError('name', 'Dots alone are no name.');
        const { body } = await api.send<shapes.PutSecret>('PUT', secret(event.params.project, name), {
          value: valueOf(sent),
        });
        return { done: body.created ? `${name} is set.` : `${name} has its new value.` };
      },
      { value: 'secret' },
    ),

  replace: (event) =>
    act(
      event,
      formOf('replace'),
      async (sent, api) => {
        const name = sent.text('name');
        await api.send<shapes.PutSecret>('PUT', secret(event.params.project, name), { value: valueOf(sent) });
        return { done: `${name} has its new value.` };
      },
      { value: 'secret' },
    ),

  remove: (event) =>
    act(event, formOf('remove'), async (sent, api) => {
      const name = sent.text('name');
      requireTyped(sent, name);
      return unlessWaiting(await api.send('DELETE', secret(event.params.project, name)), {
        done: `${name} is deleted.`,
      });
    }),

  /** The one answer of this app that holds a value: to the form that asked for it, with a reason, on the record. */
  reveal: (event) =>
    act(event, formOf('reveal'), async (sent, api) => {
      const reason = required(sent, 'reason', 'Say why: it goes on the record.');
      const { body } = await api.send<shapes.RevealedSecret>(
        'POST',
        `${secret(event.params.project, sent.text('name'))}/reveal`,
        { reason },
      );
      return { revealed: { value: body.value, encoding: body.encoding } };
    }),
};
