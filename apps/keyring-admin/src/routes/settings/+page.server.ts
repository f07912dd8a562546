import type { shapes } from '@meshhook/keyring-http';
import { redirect, type RequestEvent } from '@sveltejs/kit';
import { act, FieldError, required, requireTyped, unlessWaiting, type Sent } from '#lib/server/act.ts';
import { show, visitorApi } from '#lib/server/api.ts';
import { projectNames } from '#lib/server/names.ts';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:access');
  // Who only looks begins with what there is to see.
  const permissions = event.locals.you?.permissions;
  if (permissions?.['access:manage'] === undefined && permissions?.['instance:read'] === 'all') {
    redirect(303, '/settings/machines');
  }
  const api = visitorApi(event);
  return show(async () => {
    const tokens = await api.get<shapes.AccessTokenList>('/api/tokens', {
      cursor: event.url.searchParams.get('cursor'),
      limit: 50,
    });
    const { grants, next: nextGrants } = await api.get<shapes.GrantList>('/api/grants', {
      cursor: event.url.searchParams.get('grants'),
      limit: 50,
    });
    // Of who manages some projects and not the instance, those that can be chosen.
    const own = permissions?.['access:manage'];
    const names = await projectNames(api, [
      ...(own === 'all' ? [] : (own ?? [])),
      ...grants.map(({ projectId }) => projectId),
      ...tokens.tokens.flatMap(({ projects }) => (projects === 'all' || projects.length > 1 ? [] : projects)),
    ]);
    return { tokens: tokens.tokens, next: tokens.next, grants, nextGrants, names, own, now: new Date().toISOString() };
  });
};

/** Who manages some projects only names them. */
function requireProjects(event: RequestEvent, field: string, named: boolean): void {
  if (named || !Array.isArray(event.locals.you?.permissions['access:manage'])) return;
  throw new FieldError(field, 'Name one of your projects.');
}

const named = (sent: Sent, what: string): string[] =>
  sent
    .text(what)
    .split('\n')
    .map((name) => name.trim())
    .filter((name) => name !== '');

export const actions: Actions = {
  /** The one answer with a token in it: to who made it, once. */
  token: (event) =>
    act(event, 'token', async (sent, api) => {
      const days = sent.text('expiresInDays');
      if (!/^\d{1,4}$/.test(days)) throw new FieldError('expiresInDays', 'A whole number of days.');
      const projects = named(sent, 'projects');
      requireProjects(event, 'projects', projects.length > 0);
      const { body } = await api.send<shapes.MadeToken>('POST', '/api/tokens', {
        name: required(sent, 'name', 'It needs a name: what is it for?'),
        role: sent.text('role'),
        expiresInDays: Number(days),
        ...(projects.length === 0 ? {} : { projects }),
      });
      return { made: { token: body.token, name: body.entry.name } };
    }),

  revoke: (event) =>
    act(
      event,
      (sent) => `revoke-${sent.text('id')}`,
      async (sent, api) => {
        requireTyped(sent, sent.text('name'));
        await api.send('DELETE', `/api/tokens/${encodeURIComponent(sent.text('id'))}`);
        return { done: `The token ${sent.text('name')} is revoked: nobody gets in with it.` };
      },
    ),

  grant: (event) =>
    act(event, 'grant', async (sent, api) => {
      const person = required(sent, 'person', 'Who?');
      const project = sent.optional('project');
      requireProjects(event, 'project', project !== undefined);
      const reason = sent.optional('reason');
      const answer = await api.send('POST', '/api/grants', {
        person,
        role: sent.text('role'),
        ...(project === undefined ? {} : { project }),
        ...(reason === undefined ? {} : { reason }),
      });
      return unlessWaiting(answer, { done: `${person} has the role.` });
    }),

  ungrant: (event) =>
    act(
      event,
      (sent) => `ungrant-${sent.text('id')}`,
      async (sent, api) => {
        requireTyped(sent, sent.text('person'));
        const answer = await api.send('DELETE', `/api/grants/${encodeURIComponent(sent.text('id'))}`);
        return unlessWaiting(answer, { done: `${sent.text('person')} has the role no more.` });
      },
    ),
};
