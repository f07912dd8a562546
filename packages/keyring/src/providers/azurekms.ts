/**
 * `azurekms:` root keys: a key of Azure Key Vault (RSA) or of a Managed HSM (AES), which never leaves it. Configuration, roles
 * and failures are in `docs/providers/azurekms.md`.
 */
import type { CryptographyClient } from '@azure/keyvault-keys';
import { resourceFingerprint } from '../envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { azureCipherFor, azureCipherNamed, type AzureCipher } from './azurekms-ciphers.ts';
import { azureFailure, azureRemedies } from './azurekms-failure.ts';
import { invalidUri, loadClient } from './client.ts';
import { parseCloudUri, type CloudUriForm } from './cloud-uri.ts';
import type { Failure } from './failure.ts';
import { UnexpectedAnswer } from './network-failure.ts';
import type { RootKeyProvider } from './provider.ts';
import type { OpenRootKeyOptions } from './registry.ts';
import { remoteRootKey, type RemoteKey } from './remote-root-key.ts';
import { patientCaller } from './remote.ts';

const form = {
  scheme: 'azurekms',
  parameters: [],
  remedy:
    'Write azurekms://VAULT.vault.azure.net/KEY or azurekms://HSM.managedhsm.azure.net/KEY, with /VERSION to pin one. Credentials come from where DefaultAzureCredential looks for them.',
} satisfies CloudUriForm;

// All of Azure's clouds. No port, and no other host: the bearer token goes there.
const HOST =
  /^[a-z](?:[a-z0-9-]{1,22}[a-z0-9])\.(?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net|microsoftazure\.de)$/;
const NAME = /^[A-Za-z0-9-]{1,127}$/;
const VERSION = /^[0-9a-f]{32}$/;
const RESOURCE = /^([A-Z0-9+-]{1,40})\/([0-9a-f]{32})$/;

/** The key that an `azurekms:` URI names. @throws KeyringError `invalid_argument`, which shows nothing of the URI. */
export function parseAzurekmsUri(uri: string): { host: string; name: string; version: string | undefined } {
  const { authority, path } = parseCloudUri(uri, form);
  const [name = '', version, ...rest] = path.split('/');
  if (!HOST.test(authority)) throw invalidUri(form.scheme, 'names no vault of Azure, in lower case', form.remedy);
  const isKey = NAME.test(name) && (version === undefined || VERSION.test(version)) && rest.length === 0;
  if (!isKey) throw invalidUri(form.scheme, 'names no key', form.remedy);
  return { host: authority, name, version };
}

/**
 * Opens a key of Azure, and asks for its description once.
 * @throws KeyringError `invalid_argument`, `unsupported_root_key` (the client libraries are not installed), `root_key_*` and
 *   `wrong_root_key` (a key of another kind).
 */
export async function openAzurekmsRootKey(uri: string, options: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const { host, name, version: pinned } = parseAzurekmsUri(uri);
  const { KeyClient, CryptographyClient: Client } = await loadClient(
    '@azure/keyvault-keys',
    async () => import('@azure/keyvault-keys'),
  );
  const { DefaultAzureCredential } = await loadClient('@azure/identity', async () => import('@azure/identity'));
  // Attempts are counted in one place.
  const once = {
    retryOptions: { maxRetries: 0 },
    additionalPolicies: [{ policy: quiet, position: 'perCall' as const }],
  };
  const vaultUrl = `https://${host}`;
  const credential = new DefaultAzureCredential(once);
  const keys = new KeyClient(vaultUrl, credential, { ...once });
  const clients = new Map<string, CryptographyClient>();
  /** Versions that the vault itself has told of. */
  const seen = new Set<string>();

  /** For one version. Made from what is known already, so that the library asks for no description of it first. */
  function clientOf(version: string): CryptographyClient {
    const known = clients.get(version);
    if (known !== undefined) return known;
    const id = `${vaultUrl}/keys/${name}/${version}`;
    const client = new Client({ id, name, properties: { id, name, vaultUrl, version } }, credential, { ...once });
    clients.set(version, client);
    return client;
  }

  /** The version to wrap under, and how: the pinned one, or the one that is current now. */
  async function current(abortSignal: AbortSignal): Promise<{ cipher: AzureCipher; version: string }> {
    const found = await keys.getKey(name, { abortSignal, ...(pinned === undefined ? {} : { version: pinned }) });
    const { version = '' } = found.properties;
    if (!VERSION.test(version)) throw new UnexpectedAnswer('The key has no version.');
    const cipher = azureCipherFor(found.keyType);
    if (cipher === undefined) {
      throw new Refused({ kind: 'unsuitable', said: `its type is ${String(found.keyType)}.` });
    }
    seen.add(version);
    return { cipher, version };
  }

  const key: RemoteKey = {
    scheme: 'azurekms',
    uri,
    // Names of keys are the same in either case.
    fingerprint: resourceFingerprint('azurekms', host, name.toLowerCase()),
    async encrypt(bytes, aad, signal) {
      const { cipher, version } = await current(signal);
      const ciphertext = await cipher.wrap(clientOf(version), bytes, aad, signal);
      return { resource: `${cipher.name}/${version}`, ciphertext };
    },
    async decrypt({ resource, ciphertext }, aad, signal) {
      // Of this key, whatever the resource says: it names a version and no more.
      const [, cipherName = '', version = ''] = RESOURCE.exec(resource) ?? [];
      const cipher = azureCipherNamed(cipherName);
      if (cipher === undefined) throw decryptionFailed();
      const isKnown = seen.has(version);
      // "Not found" says of a key that is gone what it says of a version that never was.
      if (!isKnown) await keys.getKey(name, { abortSignal: signal });
      try {
        return await cipher.unwrap(clientOf(version), ciphertext, aad, signal);
      } catch (error) {
        if (error instanceof KeyringError) throw error;
        const failure = azureFailure(true, error);
        throw new Refused(failure.kind === 'missing' && !isKnown ? { kind: 'undecryptable' } : failure);
      }
    },
  };
  const call = patientCaller({ name: 'Azure Key Vault', uri, remedies: azureRemedies }, classify, options.remote);
  // Disabled or not: what other versions wrapped still opens.
  await call(current);
  return remoteRootKey(key, call);
}

/**
 * Behind a proxy a request has an agent, whose sockets have the header of the request before: with AZURE_LOG_LEVEL the
 * library prints all that, bearer token included. What cannot be enumerated is not printed.
 */
const quiet = {
  name: 'meshhookKeyringQuiet',
  async sendRequest<Request extends { agent?: unknown }, Response>(
    request: Request,
    next: (request: Request) => Promise<Response>,
  ): Promise<Response> {
    const { agent: value } = request;
    if (value !== undefined) Object.defineProperty(request, 'agent', { value, enumerable: false, writable: true });
    return await next(request);
  },
};

/** What is known of a failure already. */
class Refused extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.kind);
    this.failure = failure;
  }
}

function classify(error: unknown): Failure {
  return error instanceof Refused ? error.failure : azureFailure(false, error);
}
