/** Root keys in the Transit engine of HashiCorp Vault or OpenBao: `hashivault://vault.example:8200/transit/meshhook`. */
import { readFile } from 'node:fs/promises';
import { resourceFingerprint } from '../envelope/remote-wrapped.ts';
import { KeyringError, decryptionFailed } from '../errors.ts';
import { invalidUri, parseServiceUri, type Environment } from './client.ts';
import type { Service } from './failure.ts';
import { classifyVaultError, encodePath, vaultClient, VaultRefusal } from './hashivault-client.ts';
import type { VaultClient, VaultCredentials } from './hashivault-client.ts';
import type { RootKeyProvider } from './provider.ts';
import { remoteRootKey } from './remote-root-key.ts';
import { patientCaller, type RemoteOptions } from './remote.ts';

export type { VaultCredentials } from './hashivault-client.ts';

export interface HashivaultRootKeyOptions {
  /** Where Vault is, such as `https://vault.example:8200`. `http:` sends token and keys in the clear. */
  readonly address: string;
  /** Where Transit is mounted, such as `transit`. */
  readonly mount: string;
  /** The name of the key there. */
  readonly key: string;
  readonly credentials: VaultCredentials;
  readonly namespace?: string | undefined;
  /** Certificates to trust instead of the system's, PEM. */
  readonly ca?: string | undefined;
  readonly remote?: RemoteOptions | undefined;
}

const HOW = 'Write hashivault://host:8200/transit/key-name, with ?tls=off only where nobody listens on the way.';
const DEFAULT_PORT = '8200';

// Authenticated, with associated data, and 256 bits: what wraps a 256-bit key is no weaker than it.
const SUITABLE = new Set(['aes256-gcm96', 'chacha20-poly1305', 'xchacha20-poly1305']);
const TRANSIT_CIPHERTEXT = /^vault:v([1-9]\d{0,9}):([A-Za-z0-9+/]+={0,2})$/;
const VERSION = /^[1-9]\d{0,9}$/;

/**
 * Opens the Transit key that `uri` names. Reads from `env`, each also as `BAO_…`, which wins: `VAULT_TOKEN`, or
 * `VAULT_TOKEN_FILE`, or `VAULT_ROLE_ID` with `VAULT_SECRET_ID`; `VAULT_NAMESPACE`; `VAULT_CACERT`.
 * @throws KeyringError `invalid_argument` for a bad URI, otherwise as `hashivaultRootKey`.
 */
export async function openHashivaultRootKey(
  uri: string,
  { env = {}, remote }: { readonly env?: Environment; readonly remote?: RemoteOptions } = {},
): Promise<RootKeyProvider> {
  const place = parseUri(uri);
  const get = (name: string): string | undefined => env[`BAO_${name}`] || env[`VAULT_${name}`] || undefined;
  const caFile = get('CACERT');
  return hashivaultRootKey({
    ...place,
    namespace: place.namespace ?? get('NAMESPACE'),
    credentials: credentialsFrom(get),
    ca: caFile === undefined ? undefined : await readCa(caFile),
    remote,
  });
}

/**
 * Opens a Transit key.
 * @throws KeyringError `root_key_missing`, `root_key_denied`, `root_key_unreachable`, `root_key_disabled`, or
 *   `wrong_root_key` for a key of a kind that cannot bind what it encrypts, each with its remedy.
 */
export async function hashivaultRootKey(options: HashivaultRootKeyOptions): Promise<RootKeyProvider> {
  const { mount, key, credentials, namespace, ca, remote } = options;
  const address = new URL(options.address);
  const uri = uriOf(address, mount, key, namespace);
  const service = serviceOf(uri, mount, key);
  const call = patientCaller(service, classifyVaultError, remote);
  const client = vaultClient({ address, credentials, namespace, ca });
  const path = (what: string): string => `${encodePath(mount)}/${what}/${encodeURIComponent(key)}`;

  const identify = async (signal: AbortSignal): Promise<string> => {
    const mountId = await mountIdOf(client, mount, signal);
    requireSuitable(await client('GET', path('keys'), undefined, signal));
    return resourceFingerprint('hashivault', mountId, key);
  };
  const fingerprint = await call(identify);

  const provider = remoteRootKey(
    {
      ...{ scheme: 'hashivault', uri, fingerprint },
      async encrypt(bytes, aad, signal) {
        // Transit makes a key that is not there, if it may: what it encrypts with is looked at first.
        if ((await identify(signal)) !== fingerprint) throw replaced(uri);
        const body = { plaintext: base64(bytes), associated_data: base64(aad) };
        const { ciphertext } = await client('POST', path('encrypt'), body, signal);
        const [, version, encoded] = TRANSIT_CIPHERTEXT.exec(typeof ciphertext === 'string' ? ciphertext : '') ?? [];
        if (version === undefined || encoded === undefined) throw new VaultRefusal({ kind: 'misunderstood' });
        return { resource: version, ciphertext: Buffer.from(encoded, 'base64') };
      },
      async decrypt({ resource, ciphertext }, aad, signal) {
        if (!VERSION.test(resource)) throw decryptionFailed();
        const body = { ciphertext: `vault:v${resource}:${base64(ciphertext)}`, associated_data: base64(aad) };
        const { plaintext } = await client('POST', path('decrypt'), body, signal);
        if (typeof plaintext !== 'string') throw new VaultRefusal({ kind: 'misunderstood' });
        return Buffer.from(plaintext, 'base64');
      },
    },
    call,
  );
  return provider;
}

/** The id that Vault gave the mount: it outlives its path, the address, and moves with replication and snapshots. */
async function mountIdOf(client: VaultClient, mount: string, signal: AbortSignal): Promise<string> {
  const { uuid, type } = await client('GET', `sys/internal/ui/mounts/${encodePath(mount)}`, undefined, signal);
  if (type !== undefined && type !== 'transit') {
    throw new VaultRefusal({ kind: 'unsuitable', said: 'there is no transit engine at that mount' });
  }
  if (typeof uuid !== 'string' || uuid === '') throw new VaultRefusal({ kind: 'misunderstood' });
  return uuid;
}

function requireSuitable({ type, derived, soft_deleted: softDeleted }: Readonly<Record<string, unknown>>): void {
  const isSuitable = typeof type === 'string' && SUITABLE.has(type) && derived !== true;
  if (!isSuitable) throw new VaultRefusal({ kind: 'unsuitable', name: typeof type === 'string' ? type : undefined });
  if (softDeleted === true) throw new VaultRefusal({ kind: 'disabled', name: 'soft_deleted' });
}

function replaced(uri: string): KeyringError {
  return new KeyringError('wrong_root_key', `${uri} now is in another mount than when it was opened.`, {
    remedy: 'Bring the former mount back, or restart with the root key that this database is under.',
  });
}

function parseUri(uri: string) {
  const url = parseServiceUri(uri, 'hashivault', HOW);
  const segments = url.pathname.split('/').slice(1).map(decode);
  const key = segments.pop();
  const isNamed = key !== undefined && segments.length > 0 && [...segments, key].every((one) => /^[\w.-]+$/.test(one));
  if (url.hostname === '' || !isNamed || [...segments, key].some((one) => /^\.+$/.test(one))) {
    throw invalidUri('hashivault', 'does not name a host, a mount and a key', HOW);
  }
  const { tls = 'on', namespace, ...others } = Object.fromEntries(url.searchParams);
  if (Object.keys(others).length > 0 || !['on', 'off'].includes(tls) || namespace === '') {
    throw invalidUri(
      'hashivault',
      'has a query that is neither tls=off nor namespace=…',
      `${HOW} A token goes into VAULT_TOKEN.`,
    );
  }
  return {
    address: `${tls === 'off' ? 'http' : 'https'}://${url.hostname}:${url.port || DEFAULT_PORT}`,
    mount: segments.join('/'),
    key,
    namespace,
  };
}

function uriOf(address: URL, mount: string, key: string, namespace: string | undefined): string {
  const query = new URLSearchParams({
    ...(address.protocol === 'http:' ? { tls: 'off' } : {}),
    ...(namespace === undefined ? {} : { namespace }),
  }).toString();
  const port = address.port || (address.protocol === 'http:' ? '80' : '443');
  return `hashivault://${address.hostname}:${port}/${mount}/${key}${query === '' ? '' : `?${query}`}`;
}

function credentialsFrom(get: (name: string) => string | undefined): VaultCredentials {
  const [token, tokenFile, roleId, secretId] = [get('TOKEN'), get('TOKEN_FILE'), get('ROLE_ID'), get('SECRET_ID')];
  if (token !== undefined) return { token };
  if (tokenFile !== undefined) return { tokenFile };
  if (roleId !== undefined && secretId !== undefined) return { roleId, secretId };
  throw new KeyringError('root_key_denied', 'There are no credentials for Vault.', {
    remedy: 'Set VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID and VAULT_SECRET_ID (or the same as BAO_…).',
    details: { service: 'Vault', failure: 'credentials', attempts: 0 },
  });
}

async function readCa(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => {
    throw new KeyringError('invalid_argument', `The certificates of VAULT_CACERT, ${path}, cannot be read.`, {
      remedy:
        'Set VAULT_CACERT to a PEM file that this process may read, or unset it to trust the system’s certificates.',
    });
  });
}

function serviceOf(uri: string, mount: string, key: string): Service {
  const policy = `read on ${mount}/keys/${key}, and update on ${mount}/encrypt/${key} and ${mount}/decrypt/${key}`;
  return {
    name: 'Vault',
    uri,
    remedies: {
      network: 'Check host, port and network; for a certificate of your own, set VAULT_CACERT to its authority.',
      timeout: 'Check that Vault is up and not overloaded, and the network in between; then start again.',
      server: 'Look at `vault status`: unseal it or mend it; then start again.',
      throttled: "Raise Vault's rate limit for this mount, or start fewer processes at once; then start again.",
      credentials:
        'Give credentials that are valid now: VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID and VAULT_SECRET_ID. `vault token lookup` says whether a token is.',
      forbidden: `Give these credentials a policy with ${policy}.`,
      disabled: `Let old versions decrypt again (\`vault write ${mount}/keys/${key}/config min_decryption_version=1\`), or undo the deletion of the key.`,
      missing: `Check host, namespace, mount and key name; \`vault read ${mount}/keys/${key}\` shows the key where there is one. A new one opens nothing of a database that has keys.`,
      unsuitable: `Use a key that authenticates and is not derived: \`vault write ${mount}/keys/NAME type=aes256-gcm96\`.`,
      misunderstood: 'Check that this address is that of a Vault or an OpenBao, and of its Transit engine.',
    },
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
