import type { Database, Keyring } from '@meshhook/keyring';
import { KeyringError } from '@meshhook/keyring';
import type { PgBoss } from 'pg-boss';
import { bossOver, SCHEMA } from '../boss.ts';
import { deliver, type DeliveryOptions } from './deliver.ts';

const QUEUE = 'notifications';
const AT_ONCE = 5;
// A courier that claimed a job and fell silent: far longer than a delivery takes.
const LOST_AFTER_S = 120;
const GONE = 410;

/**
 * Takes messages from the outbox into pg-boss's queue, and from there to the endpoint. A try that fails is pg-boss's to repeat, with
 * back-off. A message may arrive twice (its id says so), and is not lost: it leaves the outbox once it is in the queue, under its own id.
 */
export class Courier {
  readonly #database: Database;
  readonly #notifications: Keyring['notifications'];
  readonly #options: DeliveryOptions;
  readonly #boss: PgBoss;

  constructor(database: Database, keyring: Pick<Keyring, 'notifications'>, options: DeliveryOptions) {
    this.#database = database;
    this.#notifications = keyring.notifications;
    this.#options = options;
    this.#boss = bossOver(database, () => undefined);
  }

  open(): Promise<unknown> {
    return this.#boss.start();
  }

  async close(): Promise<void> {
    await this.#boss.stop({ graceful: false, close: false });
  }

  /** Rounds, until nothing is left that can be tried now. */
  async rounds(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && (await this.round(signal)) === AT_ONCE);
  }

  /** One round. Gives the number of messages that were tried. `signal` ends the tries, which then do not count. */
  async round(signal?: AbortSignal): Promise<number> {
    const ids = await this.#notifications.unqueued();
    if (ids.length > 0) {
      await this.#boss.insert(
        QUEUE,
        ids.map((id) => ({ id, data: { id } })),
      );
      await this.#notifications.queued(ids);
    }
    await this.#database.query({
      text: `update ${SCHEMA}.job_common set state = 'retry', start_after = now()
             where name = $1 and state = 'active' and started_on < now() - make_interval(secs => $2)`,
      values: [QUEUE, LOST_AFTER_S],
    });
    const jobs = await this.#boss.fetch<{ id: string }>(QUEUE, { batchSize: AT_ONCE, includeMetadata: true });
    await Promise.all(
      jobs.map(async ({ id, data, retryCount, retryLimit }) => {
        const over = await this.#try(data.id, retryCount >= retryLimit, signal);
        await (over ? this.#boss.complete(QUEUE, id) : this.#boss.fail(QUEUE, id));
      }),
    );
    return jobs.length;
  }

  async tidy(): Promise<void> {
    await this.#notifications.prune();
    await this.#database.query({
      text: `delete from ${SCHEMA}.job_common where name = $1 and completed_on < now() - interval '10 minutes'`,
      values: [QUEUE],
    });
  }

  /** Is it over, one way or the other? Otherwise it is tried again. */
  async #try(id: string, last: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const message = await this.#notifications.message(id);
      if (message === undefined) {
        // Of one that another courier delivered, the log keeps that.
        const error = 'There is no endpoint any more.';
        await this.#notifications.attempted(id, { delivered: false, status: undefined, error, last: true });
        return true;
      }
      const attempt = await deliver(message, { ...this.#options, ...(signal === undefined ? {} : { signal }) });
      if (!attempt.delivered && signal?.aborted === true) return false;
      // The scheme's way of a receiver to say that it wants no more of it.
      const gone = attempt.status === GONE;
      await this.#notifications.attempted(id, { ...attempt, last: last || gone });
      return attempt.delivered || gone;
    } catch (error) {
      if (!(error instanceof KeyringError) || error.code === 'database_unreachable') throw error;
      await this.#notifications.attempted(id, { delivered: false, status: undefined, error: error.message, last });
      return false;
    }
  }
}
