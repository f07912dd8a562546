import type { Rotation } from '@meshhook/keyring';
import type { Terminal } from './terminal.ts';
import { count, duration, plural } from './text.ts';

const BAR_CELLS = 24;
// Off a terminal a line is kept for ever: one when something changes, and one now and then as a sign of life.
const QUIET_MS = 5_000;
// Before that, a rate is more noise than news.
const SETTLED_MS = 1_000;

/** What the rotation as a whole is doing: the earliest phase that one of its projects is in. */
export function phaseOf({ state, projects }: Rotation): string {
  if (state !== 'running') return state.replace('_', ' ');
  const phases = ['sweeping', 'verifying', 'staged', 'requested'] as const;
  const phase = phases.find((name) => (projects[name] ?? 0) > 0);
  return phase === 'staged' ? 'promoting' : phase === 'requested' ? 'staging' : (phase ?? 'finishing');
}

export interface Pace {
  /** Rows moved since this phase began, as far as we saw it. */
  readonly moved: number;
  readonly ms: number;
}

/** `sweeping  ████████░░░░  62,000/100,000 rows  1/3 projects  71,200/s  1 s left`. */
export function progressLine(rotation: Rotation, { moved, ms }: Pace, cells = BAR_CELLS): string {
  const { rows, projects } = rotation;
  const share = rows.total === 0 ? 0 : Math.min(rows.moved / rows.total, 1);
  const full = Math.floor(share * cells);
  const ended = projects.total - unfinished(rotation);
  const parts = [
    phaseOf(rotation).padEnd(9),
    '█'.repeat(full) + '░'.repeat(cells - full),
    `${count(rows.moved)}/${plural(rows.total, 'row')}`,
  ];
  if (projects.total > 1) parts.push(`${count(ended)}/${count(projects.total)} projects`);
  const perSecond = ms < SETTLED_MS ? 0 : (moved * 1_000) / ms;
  if (perSecond >= 1) {
    const left = Math.max(rows.total - rows.moved, 0);
    parts.push(`${count(Math.round(perSecond))}/s`, `${duration((left / perSecond) * 1_000)} left`);
  }
  return parts.join('  ');
}

function unfinished({ projects }: Rotation): number {
  const open = ['requested', 'staged', 'sweeping', 'verifying', 'rolling_back'] as const;
  return open.reduce((sum, state) => sum + (projects[state] ?? 0), 0);
}

/** Shows a rotation's progress: a bar at a terminal, lines elsewhere, nothing with `--json`. */
export function rotationProgress(terminal: Terminal, clock: () => number = () => performance.now()) {
  let began = { phase: '', at: 0, moved: 0 };
  let said = { text: '', phase: '', at: -Infinity };
  return (rotation: Rotation): void => {
    const now = clock();
    const phase = phaseOf(rotation);
    if (phase !== began.phase) began = { phase, at: now, moved: rotation.rows.moved };
    const pace = { moved: rotation.rows.moved - began.moved, ms: now - began.at };
    if (terminal.isAnimated) {
      terminal.status(progressLine(rotation, pace));
      return;
    }
    const { rows, projects } = rotation;
    const of =
      projects.total > 1 ? `, ${count(projects.total - unfinished(rotation))}/${count(projects.total)} projects` : '';
    // Before they are counted there is nothing to say of rows.
    const done = rows.total === 0 ? '' : `: ${count(rows.moved)}/${plural(rows.total, 'row')}`;
    const text = `${phase}${done}${of}`;
    if (text === said.text || (phase === said.phase && now - said.at < QUIET_MS)) return;
    said = { text, phase, at: now };
    terminal.say(text);
  };
}
