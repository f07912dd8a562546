import type { shapes } from '@meshhook/keyring-http';
import { redirect } from '@sveltejs/kit';
import { whyOf } from '#lib/why.ts';
import { act, FieldError, required, requireTyped, type Sent } from '#lib/server/act.ts';
import { show, visitorApi, type Api } from '#lib/server/api.ts';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  const why = whyOf(event.url.searchParams.get('why'));
  const project = event.url.searchParams.get('project') ?? '';
  if (why === undefined || project === '') return { why, project, projectName: project };
  const path = `/api/projects/${encodeURIComponent(project)}`;
  const named = await show(() => visitorApi(event).getIfPermitted<shapes.Project>(path));
  return { why, project, projectName: named?.name ?? project };
};

/** Which projects: `all`, those that are due, or the names, one a line. */
function scopeOf(sent: Sent): Pick<shapes.RotateRequest, 'all' | 'match' | 'projects'> {
  const which = sent.text('which');
  if (which === 'all') return { all: true };
  if (which === 'due') return { match: { due: true } };
  const projects = sent
    .text('projects')
    .split('\n')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (projects.length === 0) throw new FieldError('projects', 'Name at least one project, or choose all.');
  return { projects: [...new Set(projects)] };
}

function paceOf(sent: Sent): Pick<shapes.RotateRequest, 'fullSpeed'> {
  return sent.text('pace') === 'full' ? { fullSpeed: true } : {};
}

const reasonOf = (sent: Sent) => {
  const reason = sent.optional('reason');
  return reason === undefined ? {} : { reason };
};

/** What it would do, how long that would take, and what would be left behind. */
async function preview(sent: Sent, api: Api, scope: ReturnType<typeof scopeOf>) {
  const { body } = await api.send<shapes.RotationPlan>('POST', '/api/keys/rotate', { ...scope, dryRun: true });
  return { plan: body, values: sent.echo() };
}

async function start(api: Api, request: shapes.RotateRequest): Promise<string> {
  const { body } = await api.send<shapes.Rotation>('POST', '/api/keys/rotate', request);
  return `/rotations/${body.id}`;
}

export const actions: Actions = {
  preview: (event) => act(event, 'rotate', (sent, api) => preview(sent, api, scopeOf(sent))),

  previewEmergency: (event) =>
    act(event, 'emergency', (sent, api) =>
      preview(sent, api, { projects: [required(sent, 'project', 'Which project?')] }),
    ),

  previewWrapping: (event) => act(event, 'wrapping', (sent, api) => preview(sent, api, { all: true })),

  rotate: async (event) => {
    let started: string | undefined;
    const state = await act(event, 'rotate', async (sent, api) => {
      started = await start(api, { ...scopeOf(sent), ...paceOf(sent), ...reasonOf(sent) });
      return {};
    });
    if (started !== undefined) redirect(303, started);
    return state;
  },

  emergency: async (event) => {
    let started: string | undefined;
    const state = await act(event, 'emergency', async (sent, api) => {
      const project = required(sent, 'project', 'Which project?');
      const reason = required(sent, 'reason', 'Say what happened, for the record.');
      requireTyped(sent, project);
      started = await start(api, { projects: [project], emergency: true, reason });
      return {};
    });
    if (started !== undefined) redirect(303, started);
    return state;
  },

  wrapping: async (event) => {
    let started: string | undefined;
    const state = await act(event, 'wrapping', async (sent, api) => {
      const reason = required(sent, 'reason', 'Say what happened, for the record.');
      requireTyped(sent, 'wrapping key');
      await api.send('POST', '/api/wrapping-keys/rotate', { reason, leaked: true });
      started =
        sent.text('dump') === 'yes' ? await start(api, { all: true, fullSpeed: true, reason }) : '/settings/keys';
      return {};
    });
    if (started !== undefined) redirect(303, started);
    return state;
  },
};
