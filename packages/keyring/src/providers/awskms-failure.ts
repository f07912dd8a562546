/** What the matter is when AWS KMS, STS or the SDK says no: by the names of its errors, which are stable. */
import type { Failure, FailureKind, Remedies } from './failure.ts';
import { networkFailure, unexpectedAnswer } from './network-failure.ts';

const kinds: Readonly<Record<string, FailureKind>> = {
  ThrottlingException: 'throttled',
  Throttling: 'throttled',
  TooManyRequestsException: 'throttled',
  RequestLimitExceeded: 'throttled',
  LimitExceededException: 'throttled',
  DependencyTimeoutException: 'server',
  KeyUnavailableException: 'server',
  KMSInternalException: 'server',
  InternalFailure: 'server',
  ServiceUnavailable: 'server',
  ServiceUnavailableException: 'server',
  ExpiredToken: 'credentials',
  ExpiredTokenException: 'credentials',
  UnrecognizedClientException: 'credentials',
  InvalidClientTokenId: 'credentials',
  InvalidSignatureException: 'credentials',
  SignatureDoesNotMatch: 'credentials',
  IncompleteSignature: 'credentials',
  MissingAuthenticationToken: 'credentials',
  MissingAuthenticationTokenException: 'credentials',
  InvalidIdentityToken: 'credentials',
  RequestExpired: 'credentials',
  CredentialsProviderError: 'credentials',
  TokenProviderError: 'credentials',
  AccessDenied: 'forbidden',
  AccessDeniedException: 'forbidden',
  OptInRequired: 'forbidden',
  DisabledException: 'disabled',
  KMSInvalidStateException: 'disabled',
  NotFoundException: 'missing',
  InvalidArnException: 'missing',
  InvalidKeyUsageException: 'unsuitable',
  UnsupportedOperationException: 'unsuitable',
  InvalidCiphertextException: 'undecryptable',
  IncorrectKeyException: 'undecryptable',
};

/** What KMS would say of a key, were it asked to use it. `name` is that of KMS's error. */
export class AwsKeyRefused extends Error {
  constructor(name: string, message: string) {
    super(message);
    this.name = name;
  }
}

/** For `patientCaller`. */
export function awsFailure(error: unknown): Failure {
  if (!(error instanceof Error)) return { kind: 'misunderstood' };
  const { $fault: fault, $metadata: { httpStatusCode: status, requestId } = {} } = error as AwsError;
  const known = kinds[error.name];
  const isServices = known !== undefined || fault !== undefined;
  const common = isServices ? undefined : (networkFailure(error) ?? unexpectedAnswer(error));
  if (common !== undefined) return common;
  const kind = known ?? kindOfStatus(status);
  // When a signature is wrong, AWS repeats what was to be signed: the session token is in it.
  const isFit = (fault !== undefined || error instanceof AwsKeyRefused) && kind !== 'credentials';
  const said = isFit && error.message !== 'UnknownError' ? error.message : undefined;
  return { kind, name: error.name, status, requestId, said };
}

interface AwsError extends Error {
  /** Only errors that the service named have it. */
  readonly $fault?: 'client' | 'server';
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
}

function kindOfStatus(status: number | undefined): FailureKind {
  if (status === 429) return 'throttled';
  return status !== undefined && status >= 500 ? 'server' : 'misunderstood';
}

/** @param region the region that is asked, when it is known. */
export function awsRemedies(region: string | undefined): Remedies {
  const where = region === undefined ? '' : ` in ${region}`;
  return {
    network: `Check the name and the route to AWS KMS${where} (a VPC endpoint is named with ?endpoint=), then start again.`,
    timeout: `Check the route to AWS KMS${where}, and that the machine's role can be read (metadata service), then start again.`,
    server: 'Start again in a minute; look at the AWS Health Dashboard if it stays.',
    throttled: 'Start again in a minute; if it stays, raise the request quota of KMS in Service Quotas.',
    credentials:
      'Give this process AWS credentials that are valid now (role, AWS_PROFILE or AWS_ACCESS_KEY_ID); check the clock of the machine.',
    forbidden:
      'Allow these credentials kms:Encrypt, kms:Decrypt and kms:DescribeKey on the key, in its key policy or in IAM.',
    disabled:
      'Enable the key, or cancel its deletion (aws kms enable-key, cancel-key-deletion); as long as it is off nothing can start.',
    missing: `Check key, account and region: a key exists in its own region only, and it was looked for${where}. An alias may have been deleted.`,
    unsuitable: 'Name a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).',
    misunderstood: 'Start again; if it stays, report it with the name and the request id in the details.',
  };
}
