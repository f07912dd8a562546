import type { shapes } from '@meshhook/keyring-http';
import { figure } from '#lib/format.ts';
import { act } from '#lib/server/act.ts';
import { filtered, show, visitorApi } from '#lib/server/api.ts';
import { projectNames } from '#lib/server/names.ts';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  const api = visitorApi(event);
  const asked = (name: string): string => event.url.searchParams.get(name)?.trim() ?? '';
  const filters = {
    project: asked('project'),
    actor: asked('actor'),
    action: asked('action'),
    outcome: asked('outcome'),
    since: asked('since'),
    until: asked('until'),
  };
  // A day begins at midnight, and the last one is meant with all of it.
  const query = { ...filters, since: dayStart(filters.since, 0), until: dayStart(filters.until, 1) };
  return show(async () => {
    const list = await filtered(
      () => api.get<shapes.AuditList>('/api/audit', { ...query, cursor: asked('cursor'), limit: 50 }),
      { entries: [], next: null },
    );
    const projects = list.entries.map(({ projectId }) => projectId);
    const [last, names] = await Promise.all([
      api.getIfPermitted<shapes.LastAuditCheckpoint>('/api/audit/checkpoint'),
      projectNames(api, projects),
    ]);
    const exported = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
    return {
      ...list,
      names,
      filters,
      exported: exported.size === 0 ? '' : `?${exported.toString()}`,
      checkpoint: last?.checkpoint ?? null,
      unsealed: last?.unsealed ?? null,
      verified: last?.verified ?? null,
      seesChain: last !== undefined,
      now: new Date().toISOString(),
    };
  });
};

function dayStart(day: string, plus: number): string {
  const at = new Date(`${day}T00:00:00Z`);
  if (day === '' || Number.isNaN(at.getTime())) return day;
  at.setUTCDate(at.getUTCDate() + plus);
  return at.toISOString();
}

export const actions: Actions = {
  verify: (event) =>
    act(event, 'verify', async (sent, api) => {
      const checkpoint = sent.exact('checkpoint');
      const { body } = await api.send<shapes.AuditVerification>('POST', '/api/audit/verify', {
        ...(checkpoint.trim() === '' ? {} : { checkpoint }),
      });
      if (!body.intact) return { verification: body };
      const given = body.given === null ? '' : ' The checkpoint that you gave is of this trail.';
      return {
        verification: body,
        done: `Intact: ${figure(body.entries)} entries were hashed again, ${figure(body.checkpoints)} signatures checked.${given}`,
      };
    }),
};
