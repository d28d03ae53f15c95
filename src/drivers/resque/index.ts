import { ResqueSource } from './source.ts';
import type { ResqueOptions } from './options.ts';

export { ResqueClient } from './client.ts';
export type { EnqueueOptions, PerformLaterOptions, ResqueClientOptions } from './client-options.ts';
export { type FailuresOptions, type ListedFailure, ResqueApi, type ResqueInfo, type WorkerInfo } from './api.ts';
export { ResqueInspector, type ResqueInspectorOptions } from './inspector.ts';
export { ResqueScheduler, type ResqueSchedulerOptions } from './scheduler.ts';
export { type ClientHooks, DontPerform, enqueueHooks, jobTitle, performHooks, type PerformHooks } from './hooks.ts';
export { ResqueSource } from './source.ts';
export type {
  FailureFunction,
  FailureOption,
  ResqueAppOptions,
  ResqueOptions,
  SchedulerOptions,
  WorkerHooks,
} from './options.ts';
export type { ResqueSchedule } from './schedule.ts';
export type { FailureBackend, FailureRecord, StoredFailure } from '../../../protocols/resque/failure.ts';
export type { ResqueJob } from '../../../protocols/resque/active-job.ts';
export * from '../../../protocols/formats/active-job/public.ts';

/**
 * Resque's queues as a source of a worker: `new Worker({ tasks, sources: [resque({ url: 'redis://localhost', queues: ['*'] })] })`. Throws
 * ConfigError for options that cannot work. Opens nothing before the worker starts.
 */
export function resque(options: ResqueOptions): ResqueSource {
  return new ResqueSource(options);
}
