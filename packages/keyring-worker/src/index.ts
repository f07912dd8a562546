/** MeshHook Keyring's worker: rotations by any number of processes, through a job queue in the same PostgreSQL. */
export { checkpointKeeper, readCheckpointFile, Sealing, type KeepCheckpoint } from './sealing.ts';
export { listWorkers, type WorkerEntry, type WorkerUnit } from './workers.ts';
export { keepSchedule, type Kept } from './due.ts';
export { allowedBy, deliver, type Delivered, type DeliveryOptions } from './notifications/deliver.ts';
export { sharing, type SharingOptions } from './sharing.ts';
export { startWorker, type Worker, type WorkerOptions } from './worker.ts';
export { eventLog, logFormats, logLevels, type EventLogOptions } from './event-log.ts';
export { inWords, type Facts, type Log } from './log.ts';
