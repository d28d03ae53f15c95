import { ConfigError } from '../../errors.ts';
import { backendFor, brokerFor } from './connect.ts';
import type { CeleryOptions } from './options.ts';
import { CelerySource } from './source.ts';

export { Beat, type BeatOptions } from './beat.ts';
export type { BeatSchedule, BeatScheduleEntry } from './beat-entries.ts';
export type { CeleryBroker, ChordCounter, QueueSpec, ResultBackend } from './broker.ts';
export { canvas, type Canvas } from './canvas.ts';
export type { RedisBrokerOptions } from './broker-redis.ts';
export {
  CeleryControl,
  type CeleryControlOptions,
  type ControlOptions,
  type ControlReplies,
  type TaskInfo,
} from './control-client.ts';
export { CeleryEvents, type CeleryEventsOptions } from './receiver.ts';
export type { HeardEvent } from '../../../protocols/celery/event.ts';
export { type AnyResult, AsyncResult, GroupResult, type RevokeOptions } from './async-result.ts';
export type { WaitOptions } from './await-results.ts';
export { CeleryClient, type CeleryClientOptions } from './client.ts';
export {
  chain,
  chord,
  chunks,
  group,
  immutable,
  link,
  linkError,
  signature,
  type SignatureCall,
  stamp,
  withOptions,
  xmap,
  xstarmap,
} from './signature.ts';
export type { AnySignature, ReceiptOf, ResultOf, Signature, SignatureLike } from './signature-types.ts';
export type { EnqueueOptions, SignatureOptions } from './task-options.ts';
export type { BeatSettings, CeleryAppOptions, CeleryOptions } from './options.ts';
export type { RedisResultsOptions } from './results-redis.ts';
export type { TaskRoute, TaskRouter, TaskRoutes } from './routes.ts';
export { crontab, type CrontabFields, interval, type Schedule } from '../../../protocols/celery/schedule.ts';
export { CelerySource } from './source.ts';
export type { CeleryJob, TaskMessage } from '../../../protocols/celery/message.ts';
export type { FailedRequest } from '../../../protocols/celery/writes.ts';
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
 * A Celery queue, or several, as a source of a worker: `new Worker({ tasks, sources: [celery({ broker: 'redis://localhost' })] })`.
 * Throws ConfigError for options that cannot work. Nothing is opened before the worker starts.
 */
export function celery(options: CeleryOptions): CelerySource {
  if (options.broker === '' || options.broker === undefined)
    throw new ConfigError("celery: broker is missing; pass a URL such as 'redis://localhost:6379/0'");
  return new CelerySource(options, brokerFor(options), backendFor(options));
}
