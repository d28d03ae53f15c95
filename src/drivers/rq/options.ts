import type { SerializerLimits, SerializerName } from '../../../protocols/rq/serializers.ts';
import { checkQueueName } from '../../../protocols/rq/keys.ts';
import { ConfigError, WireError } from '../../errors.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../transports/redis-url.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import type { RqCallbacks } from './callbacks.ts';

/** What workers and clients share. */
export interface RqAppOptions {
  /** `redis://`, `rediss://`, `unix://`, `sentinel://`. */
  readonly url: string;
  readonly redis?: RedisTargetOptions;
  /** How new jobs are written. What is read says by its first byte which it is. @default 'pickle' */
  readonly serializer?: SerializerName;
  /** Limits of one value, once inflated. @default 64 MiB, 1000 levels */
  readonly limits?: Partial<SerializerLimits>;
}

/** How a worker takes part. Names are those of `rq worker` in camelCase, units RQ's (seconds). */
export interface RqOptions extends RqAppOptions {
  /** The first is asked first. @default ['default'] */
  readonly queues?: readonly string[];
  /** Handlers at once. RQ's own worker runs one. @default 10 */
  readonly concurrency?: number;
  /** How RQ shows this worker. @default 32 hex digits */
  readonly name?: string;
  /** Seconds a result is kept where the job does not say; -1 is for ever. @default 500 */
  readonly resultsTtl?: number;
  /** Seconds a failed job is kept where it does not say. @default 31536000 */
  readonly failureTtl?: number;
  /**
   * Write what a job came to into its hash, too (`result`, `exc_info`), beside the stream of its results. For programs with RQ 1.10
   * or 1.11, which look nowhere else: without it, such a program sees a job of jobglot as finished with None.
   * @default true where a worker of such an RQ is registered when this one starts, else false
   */
  readonly resultsInHash?: boolean;
  /** Seconds between two signs of life. A worker without one for 60 seconds more counts as dead, and its jobs as abandoned. @default 30 */
  readonly jobMonitoringInterval?: number;
  /**
   * Seconds after which an idle worker without a sign of life counts as gone, and 60 more as in RQ. While it runs jobs
   * `jobMonitoringInterval` decides. RQ's is 420, since its idle workers are silent for that long.
   * @default jobMonitoringInterval
   */
  readonly workerTtl?: number;
  /** Seconds between two cleanings of the registries. @default 600 */
  readonly maintenanceInterval?: number;
  /** Put scheduled jobs and delayed retries into their queues when they are due. One worker at a time does it for a queue. @default true */
  readonly withScheduler?: boolean;
  /** `default`: strictly in the order of `queues`. @default 'default' */
  readonly dequeueStrategy?: 'default' | 'round_robin' | 'random';
  /** Stop when the queues are empty. @default false */
  readonly burst?: boolean;
  /** Stop after so many jobs. */
  readonly maxJobs?: number;
  /** Stop after so many seconds without a job. */
  readonly maxIdleTime?: number;
  /**
   * A function without a handler here, a method of a Python object, or a job with a rate limit. `requeue` puts it back for other workers after a pause
   * that grows, and destroys nothing; `reject` fails it, as RQ does; `hold` keeps it until this worker stops; `{ forward: queue }` moves it to another
   * queue. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy;
  /** Milliseconds before an unknown job goes back for the first time. @default 1000 */
  readonly unknownTaskDelayMs?: number;
  /** Functions that jobs name in `on_success`, `on_failure` and `on_stopped`, by their dotted names. */
  readonly callbacks?: RqCallbacks;
  /**
   * A job that names a callback which is not among `callbacks`: `leave` treats it as an unknown function, so that a Python worker runs
   * the job and its callback; `skip` runs the job without it; `fail` fails the job. @default 'leave'
   */
  readonly unknownCallback?: 'leave' | 'skip' | 'fail';
  /** What becomes of a job whose worker died: `fail` as RQ does, unless it has retries left; `requeue` runs it again. @default 'fail' */
  readonly abandonedJobs?: 'fail' | 'requeue';
  /** Seconds between two looks for jobs whose worker died. @default 5 */
  readonly abandonedInterval?: number;
}

/** Where RQ's keys are. Throws ConfigError for a URL that is none, and for a Redis Cluster, over which RQ's keys would be spread. */
export function targetOf({ url, redis }: RqAppOptions, clientName?: string): RedisTarget {
  const target = redisTarget(url, { ...redis, ...(clientName === undefined ? {} : { clientName }) });
  if (target.cluster === undefined) return target;
  throw new ConfigError(`rq: ${target.maskedUrl} is a Redis Cluster, and RQ's keys share no slot; RQ cannot be on one`);
}

/** Throws ConfigError unless `value` is a whole number of at least `least`. */
export function wholeNumber(name: string, value: number, least: number): number {
  if (Number.isInteger(value) && value >= least) return value;
  throw new ConfigError(`rq: ${name} must be a whole number of at least ${least}, not ${value}`);
}

/** Throws ConfigError for no queues, one twice, or a name that RQ cannot have. */
export function queueNames(queues: readonly string[] = ['default']): readonly string[] {
  if (queues.length === 0) throw new ConfigError("rq: queues is empty; name at least one, such as 'default'");
  for (const [at, queue] of queues.entries()) {
    if (queues.indexOf(queue) !== at) throw new ConfigError(`rq: the queue '${queue}' is named twice`);
    try {
      checkQueueName(queue);
    } catch (error) {
      throw error instanceof WireError ? new ConfigError(error.message, { cause: error }) : error;
    }
  }
  return queues;
}
