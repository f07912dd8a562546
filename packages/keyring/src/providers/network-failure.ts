/** Failures that are no cloud's own: of the network, in the words of Node and of what wraps it, and answers that make no sense. */
import type { Failure } from './failure.ts';

/** The service says that all is well, and its answer is not to what it was asked. The message holds nothing secret. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer';
}

export function unexpectedAnswer(error: unknown): Failure | undefined {
  return error instanceof UnexpectedAnswer
    ? { kind: 'misunderstood', name: error.name, said: error.message }
    : undefined;
}

const timeouts =
  /^(TimeoutError|ETIMEDOUT|ESOCKETTIMEDOUT|UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT|ERR_SOCKET_CONNECTION_TIMEOUT)$/;
const network =
  /^(ECONN(REFUSED|RESET|ABORTED)|ENOTFOUND|EAI_[A-Z]+|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|EPIPE|EPROTO|UND_ERR_SOCKET|ERR_STREAM_PREMATURE_CLOSE|HPE_[A-Z_]+|CERT_[A-Z_]+|[A-Z_]*_CERT(_[A-Z_]+)?|UNABLE_TO_[A-Z_]+|ERR_(TLS|SSL)_[A-Z0-9_]+)$/;

/** The failure when `error`, or what is behind it, is one of the network's; otherwise undefined. */
export function networkFailure(error: unknown): Failure | undefined {
  // Libraries wrap what Node says, some of them twice.
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = 'code' in at && typeof at.code === 'string' ? at.code : '';
    if (timeouts.test(code) || at.name === 'TimeoutError') return { kind: 'timeout', name: code || at.name };
    if (network.test(code)) return { kind: 'network', name: code };
  }
  return undefined;
}
