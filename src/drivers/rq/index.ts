import { ConfigError } from '../../errors.ts';
import type { RqOptions } from './options.ts';
import { RqSource } from './source.ts';

export type { WaitOptions } from './await-results.ts';
export type { RqCallback, RqCallbackCall, RqCallbacks, RqFailure, RqStopped, RqSuccess } from './callbacks.ts';
export type { EnqueueOptions } from './envelope.ts';
export { EnqueuedJob, type Prepared, RqClient, type RqClientOptions } from './client.ts';
export { RqCron, type RqCronJob, type RqCronOptions } from './cron.ts';
export { RqInspector, type RqInspectorOptions } from './inspector.ts';
export { JobRecord, RqJob, RqResult } from './job.ts';
export { type CurrentJob, currentJob } from './current.ts';
export type { RqAppOptions, RqOptions } from './options.ts';
export { type Part, type RegistryState, RqQueue, RqRegistry } from './queue.ts';
export { RqSource } from './source.ts';
export type { CancelOptions, DeleteOptions } from '../../../protocols/rq/jobs.ts';
export type {
  CallbackOptions,
  DependencyOptions,
  DependsOn,
  Duration,
  RepeatOptions,
  RetryOptions,
  WebhookOptions,
} from '../../../protocols/rq/options.ts';
export type { Counts, RegistryEntry } from '../../../protocols/rq/queues.ts';
export type { WorkerCommand, WorkerRecord } from '../../../protocols/rq/workers.ts';
export {
  ByteArray,
  FrozenSet,
  PyExtension,
  PyGlobal,
  PyObject,
  TimeDelta,
  Tuple,
  ZonedDateTime,
} from '../../../protocols/formats/pickle/index.ts';
export { DateTime, Decimal, float, Numeral, PlainDate, PlainTime, Uuid } from '../../../protocols/formats/values.ts';

/**
 * RQ queues as a source of a worker: `new Worker({ tasks, sources: [rq({ url: 'redis://localhost', queues: ['high', 'default'] })] })`. Throws
 * ConfigError for options that cannot work. Opens nothing before the worker starts.
 */
export function rq(options: RqOptions): RqSource {
  if (options.url === '' || options.url === undefined)
    throw new ConfigError("rq: url is missing; pass one such as 'redis://localhost:6379/0'");
  return new RqSource(options);
}
