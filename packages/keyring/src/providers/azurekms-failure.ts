/** What the matter is when Key Vault, Entra ID or their client libraries say no. */
import type { Failure, FailureKind, Remedies } from './failure.ts';
import { networkFailure, unexpectedAnswer } from './network-failure.ts';

// Key Vault's own codes, of which the innermost says most. What is not here goes by its HTTP status.
const kinds: Readonly<Record<string, FailureKind>> = {
  KeyDisabled: 'disabled',
  KeyExpired: 'disabled',
  KeyNotYetValid: 'disabled',
  KeyNotFound: 'missing',
  KeyOperationForbidden: 'unsuitable',
  Throttled: 'throttled',
};

const kindsOfStatus: Readonly<Record<number, FailureKind>> = {
  400: 'unsuitable',
  401: 'credentials',
  403: 'forbidden',
  404: 'missing',
  408: 'timeout',
  429: 'throttled',
};

const ofCredentials =
  /^(AuthenticationError|AuthenticationRequiredError|CredentialUnavailableError|AggregateAuthenticationError)$/;

/** For `patientCaller`. @param opening whether something is to be opened: what Key Vault cannot take then is the ciphertext. */
export function azureFailure(opening: boolean, error: unknown): Failure {
  if (!(error instanceof Error)) return { kind: 'misunderstood' };
  const { statusCode: status, code, response, details } = error as AzureError;
  if (ofCredentials.test(error.name)) return credentialsFailure(error, status);
  const common = status === undefined ? (networkFailure(error) ?? unexpectedAnswer(error)) : undefined;
  if (common !== undefined) return common;
  if (status === undefined) {
    // Of the library: a request that was not sent, an answer that ended in the middle.
    const isNetwork = code === 'REQUEST_SEND_ERROR' || code === 'PARSE_ERROR';
    return { kind: isNetwork ? 'network' : 'misunderstood', name: code ?? error.name };
  }
  const { code: outer, message, innerError } = details?.error ?? {};
  const name = innerError?.code ?? outer;
  const byStatus = status >= 500 ? 'server' : (kindsOfStatus[status] ?? 'misunderstood');
  const kind = (name === undefined ? undefined : kinds[name]) ?? byStatus;
  return {
    kind: opening && status === 400 ? 'undecryptable' : kind,
    name,
    status,
    requestId: response?.headers?.get('x-ms-request-id'),
    said: kind === 'credentials' ? undefined : message,
    retryAfterMs: seconds(response?.headers?.get('retry-after')),
  };
}

/** Entra ID, or a source of credentials on this machine, said no, or could not be asked. */
function credentialsFailure(error: Error, status: number | undefined): Failure {
  // Some of these errors keep what is behind them only in words.
  const isNetwork = /network_error|ECONN[A-Z]+|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|socket hang up/.test(error.message);
  if (isNetwork && !/CredentialUnavailable|Aggregate/.test(error.name)) return { kind: 'network', name: error.name };
  // AADSTS… is what Entra ID's own documentation is searched by.
  const code = /AADSTS\d+/.exec(error.message)?.[0];
  return { kind: 'credentials', name: code ?? error.name, status };
}

function seconds(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,5}$/.test(header) ? Number(header) * 1000 : undefined;
}

interface AzureError extends Error {
  readonly code?: string;
  readonly statusCode?: number;
  readonly response?: { readonly headers?: { get(name: string): string | undefined } };
  readonly details?: {
    readonly error?: {
      readonly code?: string;
      readonly message?: string;
      readonly innerError?: { readonly code?: string };
    };
  };
}

export const azureRemedies: Remedies = {
  network:
    "Check the vault's name, its firewall or private endpoint, and the route to it and to login.microsoftonline.com, then start again.",
  timeout: 'Check the route to the vault and to where its credentials come from, then start again.',
  server: "Start again in a minute; look at Azure's service health if it stays.",
  throttled: 'Start again in a minute; if it stays, see what else uses this vault: its limits are per vault.',
  credentials:
    'Give this process credentials that are valid now (a managed or workload identity, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET), of the tenant of the vault; check the clock of the machine.',
  forbidden:
    'Give the identity the role "Key Vault Crypto User" on the key (Managed HSM: "Managed HSM Crypto User"), and let its address through the firewall of the vault.',
  disabled: 'Enable the key version that it names, or extend its expiry (az keyvault key set-attributes).',
  missing:
    'Check the names of vault and key. A deleted key can be recovered (az keyvault key recover) until it is purged; a new key of the same name does not open what the old one wrapped.',
  unsuitable:
    'Name an RSA key that may wrapKey, unwrapKey, sign and verify, or, in a Managed HSM, an AES key of 256 bits that may encrypt and decrypt.',
  misunderstood: 'Start again; if it stays, report it with the name and the request id in the details.',
};
