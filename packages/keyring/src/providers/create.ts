/** Making a root key, where making one is ours. */
import { KeyringError } from '../errors.ts';
import type { OpenRootKeyOptions } from './registry.ts';

export interface CreatedRootKey {
  /** 32 lower-case hex digits, as `status` gives it. */
  readonly fingerprint: string;
  /** Of a file: its absolute path. */
  readonly path?: string;
}

/** How a root key is made where it is not made by us. */
const elsewhere: Readonly<Record<string, string>> = {
  env: 'Make one with `mh-keys root-key create file:./root.key`, put its last line into the variable, and the file into a safe.',
  hashivault: 'Run `vault write -f transit/keys/NAME type=aes256-gcm96` (OpenBao: `bao write …`).',
  awskms: 'Run `aws kms create-key`, and name the ARN that it gives.',
  gcpkms: 'Run `gcloud kms keys create NAME --keyring RING --location PLACE --purpose encryption`.',
  azurekms: 'Make the key as docs/providers/azurekms.md says.',
};

/**
 * Makes the root key that `uri` names: a new file (`file:`), or a key in an HSM that never leaves it (`pkcs11:`).
 * @throws KeyringError `root_key_exists` when there is one already; `invalid_argument` for a service that has tools of its own
 *   for that, naming them; otherwise as the provider's opening.
 */
export async function createRootKey(uri: string, { cwd, env, remote }: OpenRootKeyOptions): Promise<CreatedRootKey> {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(uri)?.[1];
  if (scheme === 'pkcs11') return (await import('./pkcs11.ts')).createPkcs11RootKey(uri, { env, remote });
  const remedy = scheme !== undefined && Object.hasOwn(elsewhere, scheme) ? elsewhere[scheme] : undefined;
  if (scheme !== undefined && remedy !== undefined) {
    throw new KeyringError('invalid_argument', `A root key of ${scheme}: is not made by this command.`, { remedy });
  }
  return (await import('./file.ts')).createRootKeyFile(uri, { cwd });
}
