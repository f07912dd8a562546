/** Google's client library of Cloud KMS, made to keep quiet and to recover. */
import type { KeyManagementServiceClient } from '@google-cloud/kms';
import { loadClient } from './client.ts';

/**
 * Loads the library. What this returns makes a client that has found its credentials, anew each time: a client remembers for
 * ever that it found none.
 * @param timeoutMs how long one request may take; the calls that fetch a token hear of no signal.
 * @throws KeyringError `unsupported_root_key` when the library is not installed.
 */
export async function gcpConnector(
  endpoint: URL | undefined,
  timeoutMs: number,
): Promise<() => Promise<KeyManagementServiceClient>> {
  const { KeyManagementServiceClient: Client } = await loadClient(
    '@google-cloud/kms',
    async () => import('@google-cloud/kms'),
  );
  return async () => {
    const client = new Client({
      // HTTP/1.1 and JSON instead of gRPC: a process asks a handful of times, and this passes through every proxy.
      fallback: true,
      clientOptions: { transporterOptions: { timeout: timeoutMs } },
      ...(endpoint === undefined ? {} : addressOf(endpoint)),
    });
    // With GOOGLE_SDK_NODE_LOGGING it logs requests and answers whole: the wrapping key.
    Object.defineProperty(client, '_log', { value: { info: () => undefined } });
    // Its calls do this by themselves, but leave a rejection to nobody, which ends the process.
    await client.initialize();
    return client;
  };
}

function addressOf({ hostname, port, protocol }: URL): { apiEndpoint: string; port: number; protocol: string } {
  const usual = protocol === 'http:' ? 80 : 443;
  return { apiEndpoint: hostname, port: port === '' ? usual : Number(port), protocol: protocol.slice(0, -1) };
}
