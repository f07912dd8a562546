import type { shapes } from '@meshhook/keyring-http';
import { act, FieldError, required, requireTyped } from '#lib/server/act.ts';
import { Refusal, show, visitorApi } from '#lib/server/api.ts';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:notifications');
  const api = visitorApi(event);
  return show(async () => {
    const { endpoint } = await api.get<shapes.NotificationSettings>('/api/notifications');
    const { notifications, next } = await api.get<shapes.NotificationLog>('/api/notifications/log', {
      cursor: event.url.searchParams.get('cursor'),
      limit: 50,
    });
    return { endpoint, notifications, next, now: new Date().toISOString() };
  });
};

export const actions: Actions = {
  /** The one answer with a secret in it: to who set the endpoint, when one was made. */
  set: (event) =>
    act(event, 'set', async (sent, api) => {
      const url = required(sent, 'url', 'Where to?');
      const events = sent.all('events');
      if (events.length === 0) throw new FieldError('events', 'Choose at least one.');
      const newSecret = sent.text('newSecret') === 'yes';
      try {
        const { body } = await api.send<shapes.NotificationSet>('PUT', '/api/notifications', {
          ...{ url, events },
          ...(newSecret ? { newSecret } : {}),
        });
        return { done: 'The endpoint is set.', ...(body.secret === null ? {} : { secret: body.secret }) };
      } catch (thrown) {
        // The keyring looks at the address itself, and does not know of fields.
        if (!(thrown instanceof Refusal) || thrown.problem.code !== 'invalid_argument') throw thrown;
        const { detail, remedy, fields = [] } = thrown.problem;
        throw fields.length > 0 ? thrown : new FieldError('url', [detail, remedy].join(' ').trim());
      }
    }),

  test: (event) =>
    act(event, 'test', async (_sent, api) => {
      await api.send('POST', '/api/notifications/test');
      return { done: 'A message is in the queue. What becomes of it is below.' };
    }),

  unset: (event) =>
    act(event, 'unset', async (sent, api) => {
      requireTyped(sent, sent.text('host'));
      await api.send('DELETE', '/api/notifications');
      return { done: 'Nobody is told anything any more.' };
    }),
};
