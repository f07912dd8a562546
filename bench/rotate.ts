import { performance } from 'node:perf_hooks';
import type { Keyring, RotationDetail, RotationRequest } from '@meshhook/keyring';

export interface Timed {
  readonly detail: RotationDetail;
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
  return { detail, totalMs };
}
