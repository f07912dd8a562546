/**
 * `awskms:` root keys: a symmetric key of AWS KMS, which never leaves it. Configuration, permissions and failures are in
 * `docs/providers/awskms.md`.
 */
import type { KeyMetadata } from '@aws-sdk/client-kms';
import { createHash } from 'node:crypto';
import { resourceFingerprint } from '../envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { AwsKeyRefused, awsFailure, awsRemedies } from './awskms-failure.ts';
import { invalidUri, loadClient } from './client.ts';
import { endpointOf, parseCloudUri, type CloudUriForm } from './cloud-uri.ts';
import { UnexpectedAnswer } from './network-failure.ts';
import type { RootKeyProvider } from './provider.ts';
import type { OpenRootKeyOptions } from './registry.ts';
import { remoteRootKey } from './remote-root-key.ts';
import { patientCaller } from './remote.ts';

const form = {
  scheme: 'awskms',
  parameters: ['region', 'endpoint'],
  remedy:
    'Write awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID, awskms:///alias/NAME?region=REGION, and ?endpoint=https://HOST for a VPC endpoint. Credentials come from where the AWS SDK looks for them.',
} satisfies CloudUriForm;

const ARN = /^arn:(aws[a-z-]*):kms:([a-z0-9-]+):([0-9]{12}):(key\/.+|alias\/.+)$/;
const KEY = /^key\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/;
const ALIAS = /^alias\/[A-Za-z0-9/_-]{1,250}$/;
const REGION = /^[a-z0-9-]{1,40}$/;

interface AwsKeyUri {
  /** What KMS is asked for: a key's ARN, an alias's ARN, or an alias. */
  readonly keyId: string;
  /** Undefined: the SDK's configuration says. */
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
}

/**
 * The key that an `awskms:` URI names. The region of an ARN is the key's region, whatever else says.
 * @throws KeyringError `invalid_argument`, which shows nothing of the URI.
 */
export function parseAwskmsUri(uri: string): AwsKeyUri {
  const { authority, path, parameters } = parseCloudUri(uri, form);
  const wrong = (why: string): KeyringError => invalidUri(form.scheme, why, form.remedy);
  if (authority !== '') throw wrong('has something between its second and third slash');
  const region = parameters.get('region');
  if (region !== undefined && !REGION.test(region)) throw wrong('has a region that cannot be one');
  const [, , regionOfArn, , resource = path] = ARN.exec(path) ?? [];
  const isKey = KEY.test(resource) && regionOfArn !== undefined;
  if (!isKey && !ALIAS.test(resource)) throw wrong("names neither a key's ARN nor an alias");
  return { keyId: path, region: regionOfArn ?? region, endpoint: endpointOf(form, parameters)?.origin };
}

/**
 * Opens a key of AWS KMS, and asks KMS for it once. That resolves an alias, for good: whoever moves it later changes nothing for
 * this process, and the provider's `uri` names the key itself.
 * @throws KeyringError `invalid_argument`, `unsupported_root_key` (the SDK is not installed), `root_key_*` and
 *   `wrong_root_key` (a key of another kind).
 */
export async function openAwskmsRootKey(uri: string, options: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const { keyId, region, endpoint } = parseAwskmsUri(uri);
  const sdk = await loadClient('@aws-sdk/client-kms', () => import('@aws-sdk/client-kms'));
  const client = new sdk.KMSClient({
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    // Attempts are counted in one place.
    maxAttempts: 1,
  });
  const askedRegion = region ?? (await configuredRegion(client.config.region));
  const service = { name: 'AWS KMS', remedies: awsRemedies(askedRegion) };
  const arn = await patientCaller(
    { ...service, uri },
    awsFailure,
    options.remote,
  )(async (abortSignal) => {
    const { KeyMetadata } = await client.send(new sdk.DescribeKeyCommand({ KeyId: keyId }), { abortSignal });
    return usableArn(KeyMetadata);
  });
  const isAlias = keyId !== arn;
  const keyUri = isAlias ? `awskms:///${arn}${endpoint === undefined ? '' : `?endpoint=${endpoint}`}` : uri;
  return remoteRootKey(
    {
      scheme: 'awskms',
      uri: keyUri,
      fingerprint: resourceFingerprint('awskms', canonicalArn(arn)),
      async encrypt(key, aad, abortSignal) {
        const command = new sdk.EncryptCommand({
          KeyId: arn,
          Plaintext: key,
          EncryptionContext: encryptionContext(aad),
        });
        const { CiphertextBlob: ciphertext, KeyId } = await client.send(command, { abortSignal });
        if (ciphertext === undefined || KeyId !== arn) throw new UnexpectedAnswer('Encrypt answered for another key.');
        return { resource: '', ciphertext };
      },
      async decrypt({ resource, ciphertext }, aad, abortSignal) {
        if (resource !== '') throw decryptionFailed();
        const command = new sdk.DecryptCommand({
          // KMS would find the key by itself, any that these credentials may use: only this one will do.
          KeyId: arn,
          CiphertextBlob: ciphertext,
          EncryptionContext: encryptionContext(aad),
        });
        const { Plaintext: key, KeyId } = await client.send(command, { abortSignal });
        if (key === undefined || KeyId !== arn) throw new UnexpectedAnswer('Decrypt answered for another key.');
        return key;
      },
    },
    patientCaller({ ...service, uri: keyUri }, awsFailure, options.remote),
  );
}

/** The ARN of a key that can be used now. Throws what KMS would, were it asked to use the key. */
function usableArn(key: KeyMetadata | undefined): string {
  const arn = key?.Arn ?? '';
  if (!KEY.test(ARN.exec(arn)?.[4] ?? '')) throw new UnexpectedAnswer('DescribeKey answered without the ARN of a key.');
  const isSuitable = key?.KeyUsage === 'ENCRYPT_DECRYPT' && key.KeySpec === 'SYMMETRIC_DEFAULT';
  if (!isSuitable) throw new AwsKeyRefused('InvalidKeyUsageException', `${arn} is no symmetric encryption key.`);
  if (key.KeyState === 'Unavailable') throw new AwsKeyRefused('KeyUnavailableException', `${arn} is unavailable.`);
  if (key.KeyState === 'Enabled' || key.KeyState === 'Updating') return arn;
  throw new AwsKeyRefused('KMSInvalidStateException', `${arn} is in the state ${key.KeyState ?? 'unknown'}.`);
}

/**
 * Related multi-Region keys are one key in several regions: same account, same id, same material, and each opens what
 * another wrapped. So a standby region starts from the same database.
 */
function canonicalArn(arn: string): string {
  const [, partition = '', , account = '', resource = ''] = ARN.exec(arn) ?? [];
  return resource.startsWith('key/mrk-') ? `arn:${partition}:kms::${account}:${resource}` : arn;
}

/** Authenticated, and in the clear in CloudTrail: a digest tells an auditor which calls belong together, and no more. */
function encryptionContext(aad: Uint8Array): Record<string, string> {
  return { 'meshhook-keyring': createHash('sha256').update(aad).digest('hex') };
}

async function configuredRegion(region: () => Promise<string>): Promise<string> {
  try {
    return await region();
  } catch {
    throw new KeyringError('invalid_argument', 'No AWS region is configured for an alias of AWS KMS.', {
      remedy: 'Write it into the URI (awskms:///alias/NAME?region=REGION), or set AWS_REGION.',
    });
  }
}
