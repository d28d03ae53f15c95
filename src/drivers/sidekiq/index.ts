import { checkWorker } from './option-checks.ts';
import { resolveApp, resolveWorker, type SidekiqOptions } from './options.ts';
import { SidekiqProcess } from './process.ts';
import { SidekiqSource } from './source.ts';

export {
  type ProcessState,
  type QueueState,
  type SetEntry,
  type SetName,
  SidekiqApi,
  type Stats,
  type WorkState,
} from './api.ts';
export type { CapsuleOptions, SidekiqAppOptions, SidekiqOptions } from './options.ts';
export type {
  EnqueueOptions,
  LaterCall,
  PerformLaterOptions,
  Pushed,
  PushedLater,
  SidekiqClientOptions,
} from './client-options.ts';
export { SidekiqClient } from './client.ts';
export { sidekiqJob } from './current.ts';
export { SidekiqInspector, type SidekiqInspectorOptions } from './inspector.ts';
export { iterable, type Iterable, type IterableOptions } from './iterable.ts';
export { SidekiqSource } from './source.ts';
export type { DialectName } from '../../../protocols/sidekiq/dialect.ts';
export type { JobHash, SidekiqJob } from '../../../protocols/sidekiq/message.ts';
export type { Item, JobOptions, Timing } from '../../../protocols/sidekiq/options.ts';
export type { QueuesOption } from '../../../protocols/sidekiq/queues.ts';
export * from '../../../protocols/formats/active-job/public.ts';

/**
 * Queues of Sidekiq as a source of a worker: `new Worker({ tasks, sources: [sidekiq({ url: 'redis://localhost' })] })`. Throws ConfigError for
 * options that cannot work. Opens nothing before the worker starts.
 */
export function sidekiq(options: SidekiqOptions): SidekiqSource {
  checkWorker(options);
  const process = new SidekiqProcess(resolveApp(options), resolveWorker(options));
  return new SidekiqSource(process, 'default', options, true);
}
