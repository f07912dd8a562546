/** Checks of a request's signature as AWS makes them (Signature Version 4), written from its public description. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { ReceivedRequest } from './local-server.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** What is wrong with the signature, by the name of AWS's error; undefined when nothing is. */
export function signatureProblem(
  request: ReceivedRequest,
  credentials: AwsCredentials,
  { region, service }: { region: string; service: string },
): 'MissingAuthenticationTokenException' | 'UnrecognizedClientException' | 'InvalidSignatureException' | undefined {
  const header = request.headers['authorization'];
  if (header === undefined) return 'MissingAuthenticationTokenException';
  const parts = /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(header);
  if (parts === null) return 'InvalidSignatureException';
  const [, credential = '', signedHeaders = '', signature = ''] = parts;
  const [accessKeyId, ...scope] = credential.split('/');
  if (accessKeyId !== credentials.accessKeyId) return 'UnrecognizedClientException';
  if (request.headers['x-amz-security-token'] !== credentials.sessionToken) return 'UnrecognizedClientException';

  const timestamp = request.headers['x-amz-date'] ?? '';
  const day = timestamp.slice(0, 8);
  if (scope.join('/') !== [day, region, service, 'aws4_request'].join('/')) return 'InvalidSignatureException';
  const names = signedHeaders.split(';');
  const mustBeSigned = ['host', 'x-amz-date', 'x-amz-target'];
  if (credentials.sessionToken !== undefined) mustBeSigned.push('x-amz-security-token');
  if (mustBeSigned.some((name) => !names.includes(name))) return 'InvalidSignatureException';

  const canonical = [
    request.method,
    request.url.pathname,
    request.url.search.slice(1),
    ...names.map((name) => `${name}:${(request.headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders,
    sha256(request.body),
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', timestamp, scope.join('/'), sha256(Buffer.from(canonical))].join('\n');
  const key = [day, region, service, 'aws4_request'].reduce<Buffer>(
    (secret, part) => hmac(secret, part),
    Buffer.from(`AWS4${credentials.secretAccessKey}`),
  );
  const expected = hmac(key, toSign);
  return timingSafeEqual(expected, Buffer.from(signature, 'hex')) ? undefined : 'InvalidSignatureException';
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
