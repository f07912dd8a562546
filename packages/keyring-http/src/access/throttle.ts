import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';

const TRIES = 20;
const MS_PER_TRY = 3_000;
const MOST_SOURCES = 10_000;
const MOST_REMEMBERED = 10_000;

interface Bucket {
  /** Tries that are left, as of `at`. */
  left: number;
  at: number;
}

/** What came of a try. `undecided`: nobody could say, as when the database was away. */
export type Verdict = 'right' | 'wrong' | 'undecided';

/**
 * Slows down who guesses: twenty tries that failed are free, then one every three seconds, for each source. What was right before in this
 * process is looked at however many others fail, so that nobody locks out a neighbour behind the same address; and what was wrong
 * before is no guess, so that a program with an old token, which it sends again and again, locks out nobody either.
 */
export class Throttle {
  readonly #buckets = new Map<string, Bucket>();
  readonly #right = new Set<string>();
  readonly #wrong = new Set<string>();
  /** Credentials that are being looked at, and by how many requests: they are one try. */
  readonly #underWay = new Map<string, number>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /**
   * Takes a try, before anybody looks: of guesses that come all at once no more pass than are left. 0, and then `end` has to follow;
   * or the seconds to wait.
   */
  begin(source: string, credential: string): number {
    const known = digest(credential);
    if (this.#right.has(known)) return 0;
    const others = this.#underWay.get(known) ?? 0;
    if (others === 0) {
      const bucket = this.#bucket(source);
      if (bucket.left < 1) return Math.ceil(((1 - bucket.left) * MS_PER_TRY) / 1_000);
      bucket.left -= 1;
    }
    this.#underWay.set(known, others + 1);
    return 0;
  }

  /** A try that was not wrong is given back. */
  end(source: string, credential: string, verdict: Verdict): void {
    const known = digest(credential);
    const underWay = this.#underWay.get(known);
    if (underWay === undefined) {
      // It was right before, and took none. It is right no more.
      if (verdict === 'wrong' && this.#right.delete(known)) this.#bucket(source).left -= 1;
    } else if (underWay > 1) this.#underWay.set(known, underWay - 1);
    else {
      this.#underWay.delete(known);
      if (verdict !== 'wrong') this.#bucket(source).left += 1;
    }
    if (verdict === 'right') remember(this.#right, known);
  }

  /** Never again to be looked at: for credentials that cannot become right, as random ones. */
  giveUp(credential: string): void {
    remember(this.#wrong, digest(credential));
  }

  isGivenUp(credential: string): boolean {
    return this.#wrong.has(digest(credential));
  }

  #bucket(source: string): Bucket {
    const name = networkOf(source);
    const now = this.#now();
    const known = this.#buckets.get(name);
    const bucket = known ?? { left: TRIES, at: now };
    bucket.left = Math.min(TRIES, bucket.left + (now - bucket.at) / MS_PER_TRY);
    bucket.at = now;
    // The newest last: who is evicted has been quiet the longest.
    this.#buckets.delete(name);
    this.#buckets.set(name, bucket);
    evict(this.#buckets, MOST_SOURCES);
    return bucket;
  }
}

function remember(some: Set<string>, one: string): void {
  some.delete(one);
  some.add(one);
  evict(some, MOST_REMEMBERED);
}

function evict(some: Map<string, unknown> | Set<string>, most: number): void {
  if (some.size <= most) return;
  const [oldest] = some.keys();
  if (oldest !== undefined) some.delete(oldest);
}

function digest(credential: string): string {
  return createHash('sha256').update(credential, 'utf8').digest('base64');
}

/** A subscriber has a whole /64 of IPv6. */
function networkOf(source: string): string {
  if (!isIPv6(source) || source.includes('.')) return source;
  const [head = '', tail] = source.split('::');
  const before = head === '' ? [] : head.split(':');
  if (tail === undefined) return before.slice(0, 4).join(':');
  const after = tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...zeros, ...after].slice(0, 4).join(':');
}
