const HEADER_BYTES = 20;
// PostgreSQL's numbers of types (pg_type.dat in its sources).
const BYTEA = 17;
const TEXT = 25;
const TID = 27;
const UUID = 2950;
const JSONB = 3802;

/**
 * Byte strings as the value of a `bytea[]` parameter, in PostgreSQL's binary format (array_recv in its sources): the driver
 * would send them as text in hexadecimal, at twice the bytes.
 */
export function byteaArray(items: readonly Uint8Array[]): Buffer {
  return binaryArray(BYTEA, items);
}

/** Texts as the value of a `text[]` parameter: the driver would escape each. */
export function textArray(items: readonly string[]): Buffer {
  return binaryArray(
    TEXT,
    items.map((item) => Buffer.from(item)),
  );
}

/** JSON texts as the value of a `jsonb[]` parameter: each behind the version of its format (jsonb_recv). */
export function jsonbArray(items: readonly string[]): Buffer {
  return binaryArray(
    JSONB,
    items.map((item) => Buffer.from(`\u0001${item}`)),
  );
}

/** Ids of 16 bytes each, as the value of a `uuid[]` parameter. */
export function uuidArray(items: readonly Uint8Array[]): Buffer {
  return binaryArray(UUID, items);
}

/** Addresses of rows as `tidsend` gives them, as the value of a `tid[]` parameter. */
export function tidArray(items: readonly Uint8Array[]): Buffer {
  return binaryArray(TID, items);
}

function binaryArray(type: number, items: readonly Uint8Array[]): Buffer {
  const length = items.reduce((sum, item) => sum + 4 + item.length, HEADER_BYTES);
  const bytes = Buffer.allocUnsafe(length);
  bytes.writeInt32BE(items.length === 0 ? 0 : 1, 0); // dimensions
  bytes.writeInt32BE(0, 4); // no nulls
  bytes.writeInt32BE(type, 8);
  bytes.writeInt32BE(items.length, 12);
  bytes.writeInt32BE(1, 16); // the first index
  let at = HEADER_BYTES;
  for (const item of items) {
    bytes.writeInt32BE(item.length, at);
    bytes.set(item, at + 4);
    at += 4 + item.length;
  }
  // An empty array has no dimension to tell the size of.
  return items.length === 0 ? bytes.subarray(0, 12) : bytes;
}
