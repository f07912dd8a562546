import type { shapes } from '@meshhook/keyring-http';
import { poll } from './poll.ts';
import { isFinished, type Sample } from './rotation.ts';

/**
 * A rotation as it goes: by server-sent events, which the browser takes up again by itself after an outage; where they do not
 * come through (a proxy that holds them back), by asking. What was seen survives a reload, in the tab's own storage.
 */

const KEPT_SAMPLES = 600;
const SAME_MS = 250;
const POLL_MS = 2_000;
/** An event stream that says nothing for that long is taken for one that does not come through. */
const SILENCE_MS = 20_000;

export class LiveRotation {
  readonly id: string;
  /** The newest that is known; undefined until something came. */
  latest: shapes.Rotation | undefined = $state();
  samples: Sample[];
  by: 'events' | 'asking' = $state('events');

  constructor(id: string) {
    this.id = id;
    this.samples = $state.raw(kept(keyOf(id)));
  }

  /** @param onChange told when more than numbers changed: a project's phase, a state. Gives the function that stops it. */
  start(onChange: () => Promise<void>): () => void {
    let isStopped = false;
    let stopAsking: (() => void) | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;
    const source = new EventSource(`/api/rotations/${this.id}/events`);
    const ask = (): void => {
      this.by = 'asking';
      stopAsking ??= poll(onChange, POLL_MS);
    };
    // Heartbeats are comments, which no listener hears: where nothing changes for long, asking does no harm.
    const heard = (): void => {
      clearTimeout(silence);
      silence = setTimeout(ask, SILENCE_MS);
    };
    const take = (event: MessageEvent<string>): void => {
      heard();
      this.by = 'events';
      stopAsking?.();
      stopAsking = undefined;
      const before = this.latest;
      const { rotation: now, reads } = JSON.parse(event.data) as shapes.RotationEvent;
      this.note(now, reads);
      if (before === undefined || phaseOf(before) !== phaseOf(now)) void onChange().catch(() => undefined);
      if (isFinished(now.state)) stop();
    };
    const stop = (): void => {
      if (isStopped) return;
      isStopped = true;
      source.close();
      clearTimeout(silence);
      stopAsking?.();
    };
    for (const name of ['state', 'progress', 'finished'] as const) source.addEventListener(name, take);
    source.addEventListener('error', () => {
      // Closed for good: refused, too many listen, or it is finished. Otherwise the browser tries again by itself.
      if (source.readyState === EventSource.CLOSED && !isStopped) ask();
    });
    heard();
    return stop;
  }

  /** Also of what was asked for: the chart goes on. */
  note(rotation: shapes.Rotation, reads: Sample['reads'] = null): void {
    this.latest = rotation;
    const last = this.samples.at(-1);
    const sample = { at: Date.now(), moved: rotation.rows.moved, verified: rotation.rows.verified, reads };
    if (last !== undefined && isFinished(rotation.state)) return;
    // What the page was loaded with and the event that told of the same are one sample.
    const isSame = last !== undefined && sample.at - last.at < SAME_MS;
    if (isSame && (reads === null || last.reads !== null)) return;
    const before = isSame ? this.samples.slice(0, -1) : this.samples;
    this.samples = [...before, isSame ? { ...last, reads } : sample].slice(-KEPT_SAMPLES);
    this.#keep();
  }

  #keep(): void {
    try {
      sessionStorage.setItem(keyOf(this.id), JSON.stringify(this.samples));
    } catch {
      // Full, or forbidden: the chart begins anew after a reload.
    }
  }
}

const keyOf = (id: string): string => `rotation:${id}`;

function kept(key: string): Sample[] {
  try {
    const samples: unknown = JSON.parse(sessionStorage.getItem(key) ?? '[]');
    return Array.isArray(samples) ? (samples as Sample[]) : [];
  } catch {
    return [];
  }
}

function phaseOf(rotation: shapes.Rotation): string {
  return JSON.stringify([
    rotation.state,
    rotation.pace,
    rotation.maxRate,
    rotation.projects,
    rotation.rows.quarantined,
  ]);
}
