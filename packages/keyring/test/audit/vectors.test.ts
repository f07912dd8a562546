import { expect, test } from 'vitest';
import { verifyAuditArchive } from '../../src/audit/archive-file.ts';
import { chainNext, chainStart, leafOf } from '../../src/audit/chain.ts';
import { auditOrigin } from '../../src/audit/note.ts';
import { checkpointOf } from '../../src/audit/sealer.ts';
import { KeyringError } from '../../src/errors.ts';
import {
  secondLeaf,
  secondNext,
  secondOpenNote,
  secondStart,
  secondVerifyArchive,
} from '../support/second-audit-verifier.ts';
import { readVectors } from '../support/vectors.ts';
import { makeAuditVectors, type ArchiveVector, type AuditVectorFile } from '../vectors/make-audit-vectors.ts';

const { installation, start, leaves, notes, archives, ...file } = readVectors<AuditVectorFile>('audit.json');
const publicKeys = file.publicKeys.map((key) => Buffer.from(key, 'hex'));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('there are 136 frozen vectors, 109 of them failures', () => {
  expect(new Set(leaves.map(({ leaf }) => leaf)).size).toBe(16);
  expect(new Set(leaves.map(({ head }) => head)).size).toBe(16);
  expect(new Set(notes.map(({ name }) => name)).size).toBe(65);
  expect(notes.filter(({ opens }) => opens === undefined)).toHaveLength(58);
  expect(new Set(archives.map(({ name }) => name)).size).toBe(55);
  expect(archives.filter(({ verdict }) => verdict !== 'intact')).toHaveLength(51);
  expect(new Set(notes.map(({ note }) => note)).size).toBe(65);
  expect(new Set(archives.map(({ lines }) => JSON.stringify(lines))).size).toBe(55);
});

test('the frozen vectors are what their script makes', async () => {
  expect(await makeAuditVectors()).toEqual(readVectors('audit.json'));
});

test('the chain of an installation begins as said', async () => {
  expect(hex(chainStart(installation))).toBe(start);
  expect(hex(await secondStart(installation))).toBe(start);
});

test.each(leaves)('has this leaf, and this head: $name', async ({ entry, leaf, before, place, head }) => {
  expect(hex(leafOf(entry))).toBe(leaf);
  expect(hex(chainNext(Buffer.from(before, 'hex'), place, Buffer.from(leaf, 'hex')))).toBe(head);
  expect(hex(await secondLeaf(entry))).toBe(leaf);
  expect(hex(await secondNext(Buffer.from(before, 'hex'), place, Buffer.from(leaf, 'hex')))).toBe(head);
});

test.each(notes)('is a checkpoint or not, as said: $name', async ({ note, opens }) => {
  const checkpoint = checkpointOf({ note }, auditOrigin(installation), publicKeys);
  expect(checkpoint).toEqual(opens && { ...opens, signedAt: new Date(opens.signedAt), note });
  const second = await secondOpenNote(note, installation, publicKeys);
  expect(second).toEqual(opens && { size: opens.size, hash: opens.hash, floor: BigInt(opens.floor) });
});

test.each(archives)('verifies or not, as said: $name', async ({ lines, verdict }) => {
  expect(await verdictOf(lines)).toEqual(verdict);
  expect(await secondVerifyArchive(lines, publicKeys)).toEqual(verdict);
});

async function verdictOf(lines: readonly string[]): Promise<ArchiveVector['verdict']> {
  try {
    await verifyAuditArchive(each(lines), publicKeys);
    return 'intact';
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    if (error.code === 'invalid_argument') return 'no archive';
    expect(error.code).toBe('audit_broken');
    return { place: Number(error.details?.['place']) };
  }
}

async function* each(lines: readonly string[]): AsyncIterable<string> {
  yield* lines;
}
