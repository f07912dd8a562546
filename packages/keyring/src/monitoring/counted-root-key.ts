import { KeyringError } from '../errors.ts';
import type { RootKeyProvider } from '../providers/provider.ts';
import type { Tally } from '../tally.ts';

/**
 * A root key whose unwrapping is counted and timed, under the scheme of its URI and nothing else of it.
 * @throws what opening it throws, counted.
 */
export async function openCounted(
  uri: string,
  tally: Tally,
  open: () => Promise<RootKeyProvider>,
): Promise<RootKeyProvider> {
  const scheme = schemeOf(uri);
  let provider: RootKeyProvider;
  try {
    provider = await open();
  } catch (error) {
    tally.rootKeyFailed(scheme, codeOf(error));
    throw error;
  }
  return {
    uri: provider.uri,
    wrap: (key, context) => provider.wrap(key, context),
    status: () => provider.status(),
    async unwrap(wrapped, context) {
      const began = performance.now();
      try {
        const key = await provider.unwrap(wrapped, context);
        tally.unwrapped(scheme, (performance.now() - began) / 1_000);
        return key;
      } catch (error) {
        tally.rootKeyFailed(scheme, codeOf(error));
        throw error;
      }
    },
  };
}

function schemeOf(uri: string): string {
  return /^[a-z][a-z0-9]{0,30}(?=:)/.exec(uri)?.[0] ?? 'other';
}

function codeOf(error: unknown): string {
  return error instanceof KeyringError ? error.code : 'internal';
}
