/** MeshHook Keyring's worker: rotations by any number of processes, through a job queue in the same PostgreSQL. */
export { listWorkers, type WorkerEntry, type WorkerUnit } from './workers.ts';
export { requestDue } from './due.ts';
export { sharing, type SharingOptions } from './sharing.ts';
export { startWorker, type Worker, type WorkerOptions } from './worker.ts';
export type { Log } from './log.ts';
