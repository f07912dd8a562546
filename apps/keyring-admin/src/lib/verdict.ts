import type { shapes } from '@meshhook/keyring-http';
import { count } from './format.ts';

/** Are we safe? What the first page says, and why. Pure. */

export interface Concern {
  readonly tone: 'bad' | 'warn';
  readonly text: string;
  readonly href: string;
}

export interface Verdict {
  readonly tone: 'good' | 'warn' | 'bad';
  readonly title: string;
  readonly concerns: readonly Concern[];
}

export function verdictOf(overview: shapes.Overview): Verdict {
  const { projects, keys, rotations, quarantined, awaitingApproval, workersAlive, verified } = overview;
  const concerns: Concern[] = [];
  const add = (tone: Concern['tone'], number: number, text: string, href: string): void => {
    if (number > 0) concerns.push({ tone, text, href });
  };
  add(
    'bad',
    keys.compromised,
    `${count(keys.compromised, 'key is', 'keys are')} marked compromised: change what was under ${keys.compromised === 1 ? 'it' : 'them'} at its source`,
    '/keys?status=compromised',
  );
  add(
    'bad',
    rotations.blocked,
    `${count(rotations.blocked, 'rotation is', 'rotations are')} blocked, and waits for you`,
    '/rotations?state=blocked',
  );
  add('bad', quarantined, `${count(quarantined, 'row does', 'rows do')} not open`, '/rotations?state=blocked');
  add('bad', projects.overdue, `${count(projects.overdue, 'key is', 'keys are')} overdue`, '/keys?due=true');
  const due = projects.due - projects.overdue;
  add('warn', due, `${count(due, 'key is', 'keys are')} due`, '/keys?due=true');
  add(
    'warn',
    awaitingApproval ?? 0,
    `${count(awaitingApproval ?? 0, 'act waits', 'acts wait')} for a second person`,
    '/settings/approvals',
  );
  add(
    'warn',
    rotations.paused,
    `${count(rotations.paused, 'rotation is', 'rotations are')} paused`,
    '/rotations?state=paused',
  );
  add(
    'warn',
    keys.suspended,
    `${count(keys.suspended, 'key is', 'keys are')} suspended: their secrets do not open`,
    '/keys?status=suspended',
  );
  if (verified?.whole?.problem) {
    concerns.push({ tone: 'bad', text: 'The audit trail is not as it was written', href: '/audit' });
  }
  if (workersAlive === 0) {
    concerns.push({ tone: 'bad', text: 'No worker is alive: nothing rotates by itself', href: '/settings/machines' });
  }
  const tone = concerns.some((concern) => concern.tone === 'bad') ? 'bad' : concerns.length > 0 ? 'warn' : 'good';
  const titles = {
    good: projects.withKey === 0 ? 'Nothing to protect yet' : 'Safe: every key is as its policy wants it',
    warn: 'Nothing is wrong; something waits',
    bad: 'Something needs you',
  };
  return { tone, title: titles[tone], concerns };
}
