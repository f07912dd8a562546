import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Keyring, RotationDetail, RotationRequest } from '@meshhook/keyring';
import type { Ask, Told } from './rotating-process.ts';
import type { BenchDatabase } from './support.ts';

export interface Timed {
  readonly detail: RotationDetail;
  /** From the last promote to the last row moved. */
  readonly sweepMs: number;
  /** From request to completed. */
  readonly totalMs: number;
}

/** One rotation at full speed, from request to completed. @throws Error when it ends otherwise. */
export async function rotate(keyring: Keyring, projects: RotationRequest['projects']): Promise<Timed> {
  const start = performance.now();
  const { id } = await keyring.rotations.request({ projects, reason: 'bench', pace: 'full' });
  const rotation = await keyring.rotations.run(id);
  const totalMs = performance.now() - start;
  if (rotation.state !== 'completed') throw new Error(`the rotation ended ${rotation.state}`);
  const detail = await keyring.rotations.get(id);
  if (detail === undefined) throw new Error('the rotation is gone');
  return { detail, sweepMs: sweepMsOf(detail), totalMs };
}

function sweepMsOf({ projectDetails }: RotationDetail): number {
  const promoted = projectDetails.map(({ promotedAt }) => promotedAt?.getTime() ?? NaN);
  const swept = projectDetails.map(({ sweptAt }) => sweptAt?.getTime() ?? NaN);
  return Math.max(...swept) - Math.max(...promoted);
}

/** `rotate` by a process that does nothing else: its time, and its peak memory. */
export async function rotateApart(
  keyring: Keyring,
  { serviceUrl, rootKey }: Pick<BenchDatabase, 'serviceUrl' | 'rootKey'>,
): Promise<Timed & { readonly peakBytes: number }> {
  // As `npm start` starts the process that rotates.
  const rotator = fork(path.join(import.meta.dirname, 'rotating-process.ts'), {
    execArgv: ['--max-semi-space-size=16'],
  });
  try {
    const start = performance.now();
    const { id } = await keyring.rotations.request({ projects: 'all', reason: 'bench', pace: 'full' });
    rotator.send({ database: serviceUrl, rootKey, id, pace: 'full' } satisfies Ask);
    const [told] = (await once(rotator, 'message')) as [Told];
    const totalMs = performance.now() - start;
    if (told.state !== 'completed') throw new Error(`the rotation ended ${told.state}`);
    const detail = await keyring.rotations.get(id);
    if (detail === undefined) throw new Error('the rotation is gone');
    return { detail, sweepMs: sweepMsOf(detail), totalMs, peakBytes: told.peakBytes };
  } finally {
    rotator.disconnect();
  }
}
