import type { shapes } from '@meshhook/keyring-http';
import { act, required, requireTyped, unlessWaiting } from '#lib/server/act.ts';
import { show, visitorApi } from '#lib/server/api.ts';
import type { Action, Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async (event) => {
  event.depends('keyring:approvals');
  const api = visitorApi(event);
  return show(async () => {
    const list = (query: Record<string, string | number | null>) =>
      api.get<shapes.ApprovalList>('/api/approvals', query);
    const at = (name: string) => event.url.searchParams.get(name);
    const open = await list({ open: 'true', cursor: at('waiting'), limit: 100 });
    const all = await list({ cursor: at('cursor'), limit: 100 });
    const rule = await api.get<shapes.TwoPersonRule>('/api/two-person-rule');
    return {
      waiting: open.approvals.filter(({ state }) => state === 'pending'),
      nextWaiting: open.next,
      decided: all.approvals.filter(({ state }) => state !== 'pending'),
      nextDecided: all.next,
      ...{ rule, now: new Date().toISOString() },
    };
  });
};

function decide(verb: 'approve' | 'reject', done: string): Action {
  return (event) =>
    act(
      event,
      (sent) => `decide-${sent.text('id')}`,
      async (sent, api) => {
        await api.send('POST', `/api/approvals/${encodeURIComponent(sent.text('id'))}/${verb}`);
        return { done };
      },
    );
}

export const actions: Actions = {
  approve: decide('approve', 'Approved: who asked may do it now, once.'),
  reject: decide('reject', 'Rejected.'),
  rule: (event) =>
    act(event, 'rule', async (sent, api) => {
      const wanted = sent.text('wanted') === 'yes';
      const reason = required(sent, 'reason', 'Say why, for the record.');
      requireTyped(sent, 'two people');
      const answer = await api.send('PUT', '/api/two-person-rule', { wanted, reason });
      return unlessWaiting(answer, {
        done: wanted ? 'Two people are wanted from now on.' : 'One person is enough now.',
      });
    }),
};
