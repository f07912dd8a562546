import { verify, type KeyObject } from 'node:crypto';
import type { Receipt, VerifiedReceipt } from '../api.ts';
import type { Queryable } from '../db/port.ts';
import { KeyringError } from '../errors.ts';
import { ed25519PublicKey, type Signer } from '../keyring/signing-keys.ts';
import { equalBytes } from '../secret-bytes.ts';
import { insertReceipts, type ReceiptFacts } from './receipt-store.ts';

const TYPE = 'meshhook-keyring/rotation-receipt/v1';

/**
 * Writes and signs what a project's rotation proved, in the transaction that finalizes it: so there is a receipt if and only
 * if the project is finalized. `docs/spec/receipt.md`.
 */
export async function recordReceipts(
  tx: Queryable,
  rotationId: string,
  proved: readonly ReceiptFacts[],
  outcome: 'completed' | 'rolled_back',
  signer: Signer,
): Promise<void> {
  const receipts = proved.map(({ projectId, facts }) => {
    const payload = JSON.stringify({ type: TYPE, outcome, ...facts });
    return { projectId, payload, signature: signer.sign(Buffer.from(payload, 'utf8')) };
  });
  await insertReceipts(tx, rotationId, signer.keyId, receipts);
}

/**
 * Checks a receipt document without a database. With `publicKey` (32 bytes, kept from before) it proves who signed it;
 * without, only that the document is whole, since it brings its own key.
 * @throws KeyringError `invalid_argument` when it is no receipt, `receipt_invalid` when the signature does not hold.
 */
export function verifyReceipt(document: unknown, publicKey?: Uint8Array): VerifiedReceipt {
  const receipt = receiptDocument(document);
  const own = Buffer.from(receipt.publicKey, 'base64');
  if (publicKey !== undefined && !equalBytes(own, publicKey)) throw invalid('It was signed with another key.');
  const payload = Buffer.from(receipt.payload, 'utf8');
  let key: KeyObject;
  try {
    key = ed25519PublicKey(own);
  } catch {
    throw invalid('Its public key is none.');
  }
  if (!verify(null, payload, key, Buffer.from(receipt.signature, 'base64'))) {
    throw invalid('The signature does not belong to it: it was changed.');
  }
  const content = parsed(receipt.payload);
  if (content?.['type'] !== TYPE) throw invalid('It is of a type that this program does not know.');
  return { content, keyId: receipt.keyId, trusted: publicKey !== undefined };
}

/** Whoever signs can sign anything. */
function parsed(payload: string): Record<string, unknown> | undefined {
  try {
    const content: unknown = JSON.parse(payload);
    return typeof content === 'object' && content !== null ? (content as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function receiptDocument(document: unknown): Receipt {
  const fields = ['payload', 'signature', 'publicKey', 'keyId'] as const;
  const candidate = document as Partial<Record<string, unknown>> | null;
  if (
    typeof candidate !== 'object' ||
    candidate === null ||
    fields.some((name) => typeof candidate[name] !== 'string')
  ) {
    throw new KeyringError('invalid_argument', 'This is not a receipt.', {
      remedy: 'A receipt is the JSON that `mh-keys rotations receipts ID` prints.',
    });
  }
  return candidate as unknown as Receipt;
}

function invalid(why: string): KeyringError {
  return new KeyringError('receipt_invalid', `The receipt is not valid. ${why}`);
}
