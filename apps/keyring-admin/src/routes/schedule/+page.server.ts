import type { shapes } from '@meshhook/keyring-http';
import { ageOf, type Weekday } from '#lib/schedule.ts';
import { act, FieldError, required, type Sent } from '#lib/server/act.ts';
import { filtered, show, visitorApi } from '#lib/server/api.ts';
import type { Actions, PageServerLoad } from './$types';

const address = (project: string): string =>
  project === '' ? '/api/policies/default' : `/api/projects/${encodeURIComponent(project)}/policy`;

export const load: PageServerLoad = async (event) => {
  const api = visitorApi(event);
  const asked = event.url.searchParams.get('project') ?? '';
  return show(async () => {
    const { wrong, project } = await filtered(
      async () => ({
        project: asked === '' ? undefined : await api.get<shapes.Project>(`/api/projects/${encodeURIComponent(asked)}`),
      }),
      { project: undefined },
    );
    const dates = await api.get<shapes.PolicyDates>(address(project?.id ?? ''));
    const { policies, next } = await api.get<shapes.PolicyList>('/api/policies', {
      cursor: event.url.searchParams.get('own'),
      limit: 50,
    });
    const overdue = await api.get<shapes.OverdueList>('/api/policies/overdue', {
      cursor: event.url.searchParams.get('overdue'),
      limit: 20,
    });
    const overrides = policies.flatMap(({ projectId: id, projectName: name, inWords }) =>
      id === null ? [] : [{ id, name, inWords }],
    );
    return { dates, project, asked, wrong, overrides, next, overdue, now: new Date().toISOString() };
  });
};

function termsOf(sent: Sent): shapes.PolicyTerms {
  const rotateAfterMs = ageOf(sent.text('every'), sent.text('unit'));
  if (rotateAfterMs === undefined) throw new FieldError('every', 'A number above 0.');
  const retentionMs = ageOf(sent.text('retention'), 'days');
  if (retentionMs === undefined) throw new FieldError('retention', 'A number of days above 0.');
  const enabled = sent.text('enabled') !== 'off';
  const reason = enabled ? sent.optional('reason') : required(sent, 'reason', 'Say why it is off.');
  const quietHours = quietOf(sent);
  return {
    enabled,
    rotateAfterMs,
    retentionMs,
    destroyAfterRetention: sent.text('destroy') === 'yes',
    ...(quietHours === undefined ? {} : { quietHours }),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Undefined leaves them as they are. */
function quietOf(sent: Sent): shapes.QuietHours | null | undefined {
  const zone = sent.optional('zone') ?? 'UTC';
  switch (sent.text('when')) {
    case 'windows': {
      const days = sent.all('days') as Weekday[];
      if (days.length === 0) throw new FieldError('days', 'Choose at least one day.');
      const from = required(sent, 'from', 'From when?');
      return { zone, windows: [{ days, from, to: required(sent, 'to', 'Until when?') }] };
    }
    case 'cron': {
      const cron = required(sent, 'cron', 'Five fields: minute, hour, day, month, weekday.');
      const openForMinutes = Number(sent.text('openFor'));
      if (!Number.isInteger(openForMinutes)) throw new FieldError('openFor', 'A whole number of minutes.');
      return { zone, cron, openForMinutes };
    }
    case 'kept':
      return undefined;
    default:
      return null;
  }
}

/** What the API calls it, and what the form does. */
const names = {
  rotateAfterMs: 'every',
  retentionMs: 'retention',
  'quietHours.zone': 'zone',
  'quietHours.windows.0.from': 'from',
  'quietHours.windows.0.to': 'to',
  'quietHours.windows.0.days': 'days',
  'quietHours.cron': 'cron',
  'quietHours.openForMinutes': 'openFor',
};

export const actions: Actions = {
  preview: (event) =>
    act(
      event,
      'schedule',
      async (sent, api) => {
        const project = sent.optional('project');
        const { body } = await api.send<shapes.PolicyDates>('POST', '/api/policies/preview', {
          ...termsOf(sent),
          ...(project === undefined ? {} : { project }),
        });
        return { preview: body, values: sent.echo() };
      },
      names,
    ),

  save: (event) =>
    act(
      event,
      'schedule',
      async (sent, api) => {
        const { body } = await api.send<shapes.PolicyDates>('PUT', address(sent.text('project')), {
          revision: Number(sent.text('revision')),
          ...termsOf(sent),
        });
        return { done: `Saved: ${body.policy.inWords}.` };
      },
      names,
    ),

  unset: (event) =>
    act(event, 'unset', async (sent, api) => {
      const path = `${address(required(sent, 'project', 'Which project?'))}?revision=${Number(sent.text('revision'))}`;
      await api.send('DELETE', path);
      return { done: 'It goes by the default again.' };
    }),
};
