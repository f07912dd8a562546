import type { shapes } from '@meshhook/keyring-http';
import { act, FieldError, required, requireTyped, unlessWaiting, type Sent } from '#lib/server/act.ts';
import { show, visitorApi } from '#lib/server/api.ts';
import type { Action, Actions, PageServerLoad } from './$types';

const QUARANTINE_SHOWN = 100;

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:rotation');
  const api = visitorApi(event);
  const path = `/api/rotations/${encodeURIComponent(event.params.id)}`;
  return show(async () => {
    const rotation = await api.get<shapes.RotationDetail>(path);
    const { quarantine } = await api.get<shapes.QuarantineList>('/api/quarantine', {
      rotation: rotation.id,
      limit: QUARANTINE_SHOWN,
    });
    return { rotation, quarantine, now: new Date().toISOString() };
  });
};

const path = (id: string, what: string): string => `/api/rotations/${encodeURIComponent(id)}/${what}`;

/** What one click does, and another undoes. */
function simply(what: 'pause' | 'resume' | 'cancel', done: string): Action {
  return (event) =>
    act(event, what, async (_, api) => unlessWaiting(await api.send('POST', path(event.params.id, what)), { done }));
}

const formOf = (sent: Sent): string => `discard-${sent.text('rowId')}`;

export const actions: Actions = {
  pause: simply('pause', 'Paused. Reads and writes go on; nothing moves.'),
  resume: simply('resume', 'It goes on.'),
  cancel: simply('cancel', 'Canceled.'),

  rollback: (event) =>
    act(event, 'rollback', async (sent, api) => {
      requireTyped(sent, 'roll back');
      const answer = await api.send('POST', path(event.params.id, 'rollback'));
      return unlessWaiting(answer, { done: 'On its way back to the old keys.' });
    }),

  pace: (event) =>
    act(event, 'pace', async (sent, api) => {
      const maxRate = sent.text('maxRate');
      if (maxRate !== '' && !/^\d{1,7}$/.test(maxRate)) throw new FieldError('maxRate', 'A whole number, or nothing.');
      const body = {
        fullSpeed: sent.text('pace') === 'full',
        maxRate: maxRate === '' ? null : Number(maxRate),
      };
      await api.send('POST', path(event.params.id, 'pace'), body);
      return { done: body.fullSpeed ? 'At full speed from now on.' : 'Politely from now on.' };
    }),

  retry: (event) =>
    act(event, 'retry', async (_, api) => {
      const { body } = await api.send<shapes.QuarantineRetried>('POST', '/api/quarantine/retry', {
        rotation: event.params.id,
      });
      const left = body.unreadableRows;
      return {
        done:
          left === 0
            ? `All open now (${body.opened} of ${body.tried}): the rotation goes on.`
            : `${body.opened} of ${body.tried} open now; ${left} still do not.`,
      };
    }),

  discard: (event) =>
    act(event, formOf, async (sent, api) => {
      const reason = required(sent, 'reason', 'Say why, for the record.');
      requireTyped(sent, sent.text('name'));
      const row = { projectId: sent.text('projectId'), label: sent.text('label'), rowId: sent.text('rowId') };
      const answer = await api.send('POST', '/api/quarantine/discard', { ...row, reason });
      return unlessWaiting(answer, { done: 'The row is gone.' });
    }),
};
