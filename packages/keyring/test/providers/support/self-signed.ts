/** A TLS certificate that signs itself (X.509 v3, P-256), made anew by each run: no key of the tests lies in the repository. */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

/** Valid from yesterday to tomorrow, for these names; `*.` is allowed as in every certificate. PEM. */
export function selfSigned(names: readonly string[]): { readonly key: string; readonly cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const day = 86_400_000;
  // A name of its own: a client looks its authorities up by name.
  const name = sequence(
    tagged(
      0x31,
      sequence(objectId(0x55, 4, 3), tagged(0x0c, Buffer.from(`test only ${randomBytes(8).toString('hex')}`))),
    ),
  );
  const ecdsaWithSha256 = sequence(objectId(0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2));
  const alternatives = sequence(...names.map((one) => tagged(0x82, Buffer.from(one))));
  const extensions = sequence(
    sequence(objectId(0x55, 0x1d, 0x11), tagged(0x04, alternatives)),
    // Basic constraints, critical: it is its own authority.
    sequence(
      objectId(0x55, 0x1d, 0x13),
      tagged(0x01, Buffer.of(0xff)),
      tagged(0x04, sequence(tagged(0x01, Buffer.of(0xff)))),
    ),
  );
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.of(2))),
    tagged(0x02, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    ecdsaWithSha256,
    name,
    sequence(utcTime(new Date(Date.now() - day)), utcTime(new Date(Date.now() + day))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, extensions),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = sequence(body, ecdsaWithSha256, tagged(0x03, Buffer.concat([Buffer.of(0), signature])));
  const lines = certificate.toString('base64').replace(/.{1,64}/g, '$&\n');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines}-----END CERTIFICATE-----\n`,
  };
}

/** DER (X.690): tag, length, value. */
function tagged(tag: number, value: Buffer): Buffer {
  const { length } = value;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...head), value]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

/** Its bytes as they are encoded. */
function objectId(...bytes: readonly number[]): Buffer {
  return tagged(0x06, Buffer.from(bytes));
}

function utcTime(at: Date): Buffer {
  return tagged(0x17, Buffer.from(`${at.toISOString().slice(2, 19).replace(/[-T:]/g, '')}Z`));
}
