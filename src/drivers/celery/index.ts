import { backendFor, brokerFor } from './connect.ts';
import { checkPart, WORKER_CHECKS } from './option-checks.ts';
import type { CeleryOptions } from './options.ts';
import { CelerySource } from './consumer/source.ts';

export { Beat, type BeatOptions } from './beat/beat.ts';
export type { BeatSchedule, BeatScheduleEntry } from './beat/beat-entries.ts';
export type { CeleryBroker, ChordCounter, QueueSpec, ResultBackend } from './brokers/broker.ts';
export { canvas, type Canvas } from './canvas/canvas.ts';
export type { RedisBrokerOptions } from './brokers/redis-options.ts';
export {
  CeleryControl,
  type CeleryControlOptions,
  type ControlOptions,
  type ControlReplies,
  type TaskInfo,
} from './control/control-client.ts';
export { CeleryInspector, type CeleryInspectorOptions } from './inspector.ts';
export { CeleryEvents, type CeleryEventsOptions } from './control/receiver.ts';
export type { HeardEvent } from '../../../protocols/celery/control/event.ts';
export { type AnyResult, AsyncResult, GroupResult, type RevokeOptions } from './client/async-result.ts';
export type { WaitOptions } from './results/await-results.ts';
export { CeleryClient, type CeleryClientOptions } from './client/client.ts';
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
} from './canvas/signature.ts';
export type { AnySignature, ReceiptOf, ResultOf, Signature, SignatureLike } from './canvas/signature-types.ts';
export type { EnqueueOptions, SignatureOptions } from './client/task-options.ts';
export type { BeatSettings, CeleryAppOptions, CeleryOptions } from './options.ts';
export type { RedisResultsOptions } from './results/redis.ts';
export type { TaskRoute, TaskRouter, TaskRoutes } from './client/routes.ts';
export { crontab, type CrontabFields, interval, type Schedule } from '../../../protocols/celery/schedule/schedule.ts';
export { CelerySource } from './consumer/source.ts';
export type { CeleryJob, TaskMessage } from '../../../protocols/celery/message/message.ts';
export type { FailedRequest } from '../../../protocols/celery/outcome/writes.ts';
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
 * One or more Celery queues, as a source of a worker: `new Worker({ tasks, sources: [celery({ broker: 'redis://localhost' })] })`.
 * Throws ConfigError for invalid options. Opens no connection before the worker starts.
 */
export function celery(options: CeleryOptions): CelerySource {
  checkPart('celery', options, WORKER_CHECKS);
  return new CelerySource(options, brokerFor(options), backendFor(options));
}
