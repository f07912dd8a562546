import type { ResolvedHandlerOptions } from './options.ts';

/** Tells the host that a rotation wants to be driven. Whatever becomes of that: it is recorded, and a worker finds it. */
export function wake({ onRotationRequested, onError }: ResolvedHandlerOptions, rotationId: string): void {
  try {
    onRotationRequested(rotationId);
  } catch (error) {
    onError(error, rotationId);
  }
}

/** The same for a rotation of the wrapping key. */
export function wakeWrapping(options: ResolvedHandlerOptions, rotationId: string): void {
  const { onWrappingRotationRequested, onError } = options;
  try {
    onWrappingRotationRequested(rotationId);
  } catch (error) {
    onError(error, rotationId);
  }
}
