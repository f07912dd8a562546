/** Telling one endpoint outside what happened, as webhooks signed by the Standard Webhooks scheme. Types only. */

export type NotificationEvent =
  | 'rotation.completed'
  | 'rotation.failed'
  | 'rotation.blocked'
  | 'rotation.overdue'
  | 'key.compromised'
  | 'approval.wanted';

export interface NotificationEndpoint {
  readonly url: string;
  readonly events: readonly NotificationEvent[];
  readonly changedAt: Date;
  readonly changedBy: string;
}

/** One message, and how its delivery went. */
export interface Notification {
  readonly id: string;
  readonly event: NotificationEvent | 'test';
  readonly createdAt: Date;
  readonly state: 'pending' | 'delivered' | 'failed';
  readonly attempts: number;
  readonly lastAttemptAt: Date | undefined;
  /** The answer's HTTP status, if there was one. */
  readonly lastStatus: number | undefined;
  readonly lastError: string | undefined;
}

/** What goes out. `secret` signs it. */
export interface NotificationMessage {
  readonly id: string;
  readonly url: string;
  readonly secret: string;
  readonly body: string;
}

export interface NotificationAttempt {
  readonly delivered: boolean;
  readonly status: number | undefined;
  /** Without anything that the endpoint said. */
  readonly error: string | undefined;
  /** It will not be tried again. */
  readonly last: boolean;
}

export interface Notifications {
  /** Undefined: nobody is told anything. */
  show(): Promise<NotificationEndpoint | undefined>;
  /**
   * Sets the endpoint. Without `secret`, the one there is stays, or one is made; a secret is given back only when it is made. `events`
   * default: all.
   * @throws KeyringError `invalid_argument` for a URL that is none, or holds a user name or a password, and for a secret that is
   *   not `whsec_` and base64 of 24 to 64 bytes.
   */
  set(endpoint: {
    readonly url: string;
    readonly events?: readonly NotificationEvent[];
    readonly secret?: string;
    /** Make a new secret; the old one signs nothing any more. */
    readonly newSecret?: boolean;
  }): Promise<{ readonly endpoint: NotificationEndpoint; readonly secret: string | undefined }>;
  /** @throws KeyringError `illegal_state` when there is none. */
  unset(): Promise<void>;
  /** Puts a message of the event `test` into the queue. @throws KeyringError `illegal_state` without an endpoint. */
  test(): Promise<Notification>;
  /**
   * Newest first; `limit` default 100, at most 1,000; before the message `before`. The newest thousand are kept, and up to 10,000 that are
   * to be delivered.
   */
  log(options?: { readonly limit?: number; readonly before?: string }): Promise<Notification[]>;
  /** For who delivers: ids of messages that are in no queue yet, the oldest first, 100 at most. */
  unqueued(): Promise<string[]>;
  queued(ids: readonly string[]): Promise<void>;
  /** Undefined when it was delivered, or there is no endpoint any more. @throws KeyringError `unknown_secret` when its secret is gone. */
  message(id: string): Promise<NotificationMessage | undefined>;
  attempted(id: string, attempt: NotificationAttempt): Promise<void>;
  /** Forgets all but the newest thousand of those that were delivered or given up, and 10,000 of the others. */
  prune(): Promise<void>;
}
