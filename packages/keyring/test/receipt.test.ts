import { generateKeyPairSync, sign } from 'node:crypto';
import { verifyReceipt } from '@meshhook/keyring';
import { expect, test } from 'vitest';

test.each(['null', '1', '[]', '{}', 'no JSON', ''])(
  'what is signed and says nothing of a rotation is no receipt: %s',
  (payload) => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const document = {
      payload,
      signature: sign(null, Buffer.from(payload), privateKey).toString('base64'),
      publicKey: Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64'),
      keyId: 'theirs',
    };
    expect(() => verifyReceipt(document)).toThrow(expect.objectContaining({ code: 'receipt_invalid' }));
  },
);
