/** From what a service answered to the error that names the remedy. What a client library threw is never passed on. */
import { KeyringError, decryptionFailed, type ErrorCode } from '../errors.ts';

/**
 * What can be the matter with a remote root key. A provider tells which it is; code, message and whether to try again
 * follow from that.
 */
export type FailureKind =
  /** The service cannot be reached: name, address, TLS. */
  | 'network'
  /** No answer in time. */
  | 'timeout'
  /** It answered with a failure of its own, or is sealed or starting. */
  | 'server'
  | 'throttled'
  /** No credentials, expired ones, or ones it does not know. */
  | 'credentials'
  /** Credentials that may not do this. */
  | 'forbidden'
  /** The key is disabled, about to be destroyed, or destroyed. */
  | 'disabled'
  /** No such key, or not in this region, project, mount or token. */
  | 'missing'
  /** The key is of a kind that cannot do this. */
  | 'unsuitable'
  /** These bytes, this key and this context do not belong together. */
  | 'undecryptable'
  /** Anything else. */
  | 'misunderstood';

/** What is known of a failure, and may be shown. Nothing here may hold a credential, a key or a request's headers. */
export interface Failure {
  readonly kind: FailureKind;
  /** The service's own name for it, such as `AccessDeniedException`. */
  readonly name?: string | undefined;
  /** HTTP's or gRPC's. */
  readonly status?: number | undefined;
  /** By which the service's own people find the call. */
  readonly requestId?: string | undefined;
  /** What the service says in words, where its messages are known to hold no credential. Cut to one line of 300 characters. */
  readonly said?: string | undefined;
  /** How long the service asks to be left alone, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/** What to do about each, for this service and this key: one sentence for a person. */
export type Remedies = Readonly<Record<Exclude<FailureKind, 'undecryptable'>, string>>;

/** A service, as messages speak of it. */
export interface Service {
  /** Such as `AWS KMS`. */
  readonly name: string;
  /** The root key's URI, without credentials. */
  readonly uri: string;
  readonly remedies: Remedies;
}

const codes: Readonly<Record<Exclude<FailureKind, 'undecryptable'>, ErrorCode>> = {
  network: 'root_key_unreachable',
  timeout: 'root_key_unreachable',
  server: 'root_key_unreachable',
  throttled: 'root_key_unreachable',
  misunderstood: 'root_key_unreachable',
  credentials: 'root_key_denied',
  forbidden: 'root_key_denied',
  disabled: 'root_key_disabled',
  missing: 'root_key_missing',
  unsuitable: 'wrong_root_key',
};

const messages: Readonly<Record<Exclude<FailureKind, 'undecryptable'>, (service: string, uri: string) => string>> = {
  network: (service, uri) => `${service} cannot be reached for the root key ${uri}.`,
  timeout: (service, uri) => `${service} gave no answer in time for the root key ${uri}.`,
  server: (service, uri) => `${service} has trouble of its own with the root key ${uri}.`,
  throttled: (service, uri) => `${service} turns away requests for the root key ${uri}: there are too many.`,
  misunderstood: (service, uri) => `${service} answered what this release does not understand for the root key ${uri}.`,
  credentials: (service, uri) => `${service} does not accept the credentials at hand for the root key ${uri}.`,
  forbidden: (service, uri) => `${service} does not allow these credentials to use the root key ${uri}.`,
  disabled: (service, uri) => `${service} has the root key ${uri} disabled, or is destroying it.`,
  missing: (service, uri) => `${service} knows no root key ${uri}.`,
  unsuitable: (service, uri) => `${service} has a key ${uri} that is of no use as a root key.`,
};

/** Whether another attempt may end better. A refusal is not tried again: it would only be refused, and HSMs lock. */
export function isWorthRetrying({ kind }: Failure): boolean {
  return kind === 'network' || kind === 'timeout' || kind === 'server' || kind === 'throttled';
}

/** The error for a failure after `attempts`. It has no `cause`: what client libraries throw holds requests with headers. */
export function failureError(service: Service, failure: Failure, attempts: number): KeyringError {
  if (failure.kind === 'undecryptable') return decryptionFailed();
  const { kind, name, status, requestId } = failure;
  const said = failure.said === undefined ? '' : ` It says: ${oneLine(failure.said)}`;
  const tried = attempts > 1 ? ` Tried ${String(attempts)} times.` : '';
  return new KeyringError(codes[kind], `${messages[kind](service.name, service.uri)}${tried}${said}`, {
    remedy: service.remedies[kind],
    details: {
      service: service.name,
      failure: kind,
      attempts,
      ...(status === undefined ? {} : { status }),
      ...(name === undefined ? {} : { name: oneLine(name) }),
      ...(requestId === undefined ? {} : { requestId: oneLine(requestId) }),
    },
  });
}

function oneLine(text: string): string {
  return text
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim()
    .slice(0, 300);
}
