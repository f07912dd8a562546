import { createHash } from 'node:crypto';
import type { Rotation } from '@meshhook/keyring';
import type { z } from '@hono/zod-openapi';
import { EventStream } from './event-stream.ts';
import { Seats } from './seats.ts';
import type { rotationEvent } from './schemas/rotations.ts';
import { wireRotation } from './wire/rotations.ts';

export interface RotationEventsOptions {
  /** How often the database is asked about a rotation that somebody listens to; less often when the answer takes long. */
  readonly pollMs: number;
  readonly heartbeatMs: number;
  /** A stream ends after that, and its listener comes back. */
  readonly lifetimeMs: number;
  /** At once, over all rotations. */
  readonly maxStreams: number;
  /** Of these, for one person. */
  readonly maxStreamsEach: number;
}

export const rotationEventsDefaults: RotationEventsOptions = {
  pollMs: 500,
  heartbeatMs: 15_000,
  lifetimeMs: 600_000,
  maxStreams: 200,
  maxStreamsEach: 50,
};

/** With whose eyes a rotation is looked at. */
export interface RotationSight {
  /** Whose are the same have the same name; undefined is everybody's who sees the whole instance. */
  readonly name: string | undefined;
  readonly standing: (rotationId: string) => Promise<Rotation | undefined>;
}

/** Times a read of any secret, as services have it. Undefined when there is none. */
export type ProbeRead = () => Promise<number | undefined>;

// Asking takes at most a tenth of the time.
const RESTS = 9;
const RETRY_MS = 2_000;
// Reads that are timed at each look: enough for a middle one, and done in a few milliseconds.
const READS = 5;
const moving: ReadonlySet<string> = new Set(['running', 'rolling_back']);
const ended: ReadonlySet<string> = new Set(['completed', 'rolled_back', 'canceled', 'failed']);

/** Somebody who listens. */
export interface Audience {
  /** Whose streams are counted together. */
  readonly person: string;
  /** The id of the last event that they have. */
  readonly known: string | undefined;
  readonly sight: RotationSight;
  /** May they listen, as of now? Asked before anything is told, so that whoever may no more is told nothing. */
  readonly may: () => Promise<boolean>;
}

/**
 * Tells listeners how rotations stand, by one poll of the database for all who listen to the same one with the same eyes. An event tells everything,
 * and its id is derived from that: so any process can go on where another one stopped, and nobody is told what they know.
 */
export class RotationEvents {
  readonly #followed = new Map<string, FollowedRotation>();
  readonly #options: RotationEventsOptions;
  readonly #probeRead: ProbeRead;
  readonly #seats: Seats;

  constructor(options: RotationEventsOptions, probeRead: ProbeRead) {
    this.#options = options;
    this.#probeRead = probeRead;
    this.#seats = new Seats({ most: options.maxStreams, mostEach: options.maxStreamsEach });
  }

  /** Undefined when there are too many streams. */
  listen(rotation: Rotation, audience: Audience): ReadableStream<Uint8Array> | undefined {
    const leave = this.#seats.take(audience.person);
    if (leave === undefined) return undefined;
    const { id } = rotation;
    const { sight } = audience;
    const key = `${id} ${sight.name ?? ''}`;
    const followed =
      this.#followed.get(key) ??
      new FollowedRotation(id, sight, this.#options, this.#probeRead, () => this.#followed.delete(key));
    this.#followed.set(key, followed);
    return followed.add(rotation, audience, leave);
  }
}

/** Is it over, and does the listener know? */
export function knowsTheEnd(rotation: Rotation, known: string | undefined): boolean {
  return ended.has(rotation.state) && known === eventId(rotation);
}

interface Listener {
  readonly stream: EventStream;
  readonly may: () => Promise<boolean>;
  known: string | undefined;
}

/** One rotation as somebody sees it, for as long as they listen. */
class FollowedRotation {
  readonly #id: string;
  readonly #sight: RotationSight;
  readonly #options: RotationEventsOptions;
  readonly #probeRead: ProbeRead;
  readonly #onDeserted: () => void;
  readonly #listeners = new Set<Listener>();
  readonly #rate = new Rate();
  #reads: z.infer<typeof rotationEvent>['reads'] = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    id: string,
    sight: RotationSight,
    options: RotationEventsOptions,
    probeRead: ProbeRead,
    onDeserted: () => void,
  ) {
    this.#id = id;
    this.#sight = sight;
    this.#options = options;
    this.#probeRead = probeRead;
    this.#onDeserted = onDeserted;
    this.#rest(0);
  }

  add(rotation: Rotation, { known, may }: Audience, onClosed: () => void): ReadableStream<Uint8Array> {
    const { heartbeatMs, lifetimeMs } = this.#options;
    const stream = new EventStream({
      retryMs: RETRY_MS,
      onClosed: () => {
        clearInterval(beats);
        clearTimeout(end);
        this.#listeners.delete(listener);
        if (this.#listeners.size === 0) this.#desert();
        onClosed();
      },
    });
    const beats = setInterval(() => {
      void this.#isStillAllowed(listener).then(() => {
        stream.beat();
      });
    }, heartbeatMs).unref();
    const end = setTimeout(() => {
      stream.close();
    }, lifetimeMs).unref();
    const listener: Listener = { stream, may, known };
    this.#listeners.add(listener);
    this.#rate.note(rotation);
    this.#tell(rotation, listener);
    return stream.body;
  }

  /** Whoever may listen no more hears the end. */
  async #isStillAllowed({ stream, may }: Listener): Promise<boolean> {
    const isAllowed = await may().catch(() => false);
    if (!isAllowed) stream.close();
    return isAllowed;
  }

  #rest(tookMs: number): void {
    this.#timer = setTimeout(() => void this.#look(), Math.max(this.#options.pollMs, tookMs * RESTS)).unref();
  }

  async #look(): Promise<void> {
    const began = performance.now();
    // When the database is away, listeners come back and are told so by the status of the answer.
    const rotation = await this.#sight.standing(this.#id).catch(() => undefined);
    if (rotation !== undefined) this.#rate.note(rotation);
    this.#reads = rotation !== undefined && moving.has(rotation.state) ? await this.#probe() : null;
    for (const listener of [...this.#listeners]) {
      if (rotation === undefined) listener.stream.close();
      else if (!this.#isNews(rotation, listener) || (await this.#isStillAllowed(listener)))
        this.#tell(rotation, listener);
    }
    if (this.#listeners.size > 0) this.#rest(performance.now() - began);
  }

  #isNews(rotation: Rotation, { stream, known }: Listener): boolean {
    return stream.isReady && eventId(rotation) !== known;
  }

  async #probe(): Promise<z.infer<typeof rotationEvent>['reads']> {
    const took: number[] = [];
    for (let read = 0; read < READS; read += 1) {
      const ms = await this.#probeRead();
      if (ms !== undefined) took.push(ms);
    }
    took.sort((a, b) => a - b);
    const [medianMs, slowestMs] = [took[took.length >> 1], took.at(-1)];
    return medianMs === undefined || slowestMs === undefined ? null : { medianMs, slowestMs };
  }

  #tell(rotation: Rotation, listener: Listener): void {
    const { stream, known } = listener;
    const id = eventId(rotation);
    if (!stream.isReady) return;
    const isOver = ended.has(rotation.state);
    if (id !== known) {
      const event = isOver ? 'finished' : known?.startsWith(`${rotation.state}.`) === true ? 'progress' : 'state';
      listener.known = id;
      stream.send({ id, event, data: this.#standing(rotation) });
    }
    if (isOver) stream.close();
  }

  #standing(rotation: Rotation): z.infer<typeof rotationEvent> {
    const { total, moved, quarantined } = rotation.rows;
    const remaining = Math.max(total - moved - quarantined, 0);
    const rate = this.#rate.perSecond;
    const secondsLeft = rate === undefined || rate === 0 ? null : remaining / rate;
    return { rotation: wireRotation(rotation), remaining, rate: rate ?? null, secondsLeft, reads: this.#reads };
  }

  #desert(): void {
    clearTimeout(this.#timer);
    this.#onDeserted();
  }
}

/** The state in front, so that it shows what an event changed. Not what only passes by: who drives it, and for how long. */
function eventId({ state, projects, rows, pace, maxRate }: Rotation): string {
  const counts = Object.entries(projects).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const told = JSON.stringify([state, counts, rows.total, rows.moved, rows.verified, rows.quarantined, pace, maxRate]);
  return `${state}.${createHash('sha256').update(told).digest('base64url').slice(0, 22)}`;
}

/** Rows moved a second, of late. By the clock of the database, which says how long the rotation has been running. */
class Rate {
  static readonly #weight = 0.3;
  #last: { readonly moved: number; readonly durationMs: number } | undefined;
  #perSecond: number | undefined;

  get perSecond(): number | undefined {
    return this.#perSecond;
  }

  note({ rows: { moved }, durationMs }: Rotation): void {
    if (durationMs === undefined) return;
    const since = this.#last ?? { moved: 0, durationMs: 0 };
    const ms = durationMs - since.durationMs;
    if (ms < 1) return;
    const rate = (Math.max(moved - since.moved, 0) / ms) * 1000;
    this.#perSecond = this.#perSecond === undefined ? rate : this.#perSecond + Rate.#weight * (rate - this.#perSecond);
    this.#last = { moved, durationMs };
  }
}
