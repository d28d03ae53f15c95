import { hostname } from 'node:os';
import { type ContentLimits, defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import { ConfigError } from '../../errors.ts';
import type { BeatSchedule } from './beat/beat-entries.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import type { CeleryBroker, QueueSpec, ResultBackend } from './brokers/broker.ts';
import type { AmqpBrokerOptions, AmqpTopology } from './brokers/amqp.ts';
import type { FilesystemTransportOptions } from './brokers/filesystem.ts';
import type { RedisBrokerOptions } from './brokers/redis-options.ts';
import type { RedisResultsOptions } from './results/redis.ts';
import type { TaskRoutes } from './client/routes.ts';

/** Options that workers and clients share. The names are Celery's settings in camelCase. The units are Celery's (seconds). */
export interface CeleryAppOptions extends AmqpTopology {
  /** `amqp://`, `amqps://`, `redis://`, `rediss://`, `redis+socket://`, `sentinel://`, `filesystem://`, `memory://`; or a `CeleryBroker` object. */
  readonly broker: string | CeleryBroker;
  /** `redis://` and its variants, `rpc://` with an AMQP broker, `file://`, `memory://`, or `disabled://`. @default results are not stored */
  readonly backend?: string | ResultBackend;
  readonly brokerTransportOptions?: RedisBrokerOptions & AmqpBrokerOptions & FilesystemTransportOptions;
  readonly resultBackendTransportOptions?: RedisResultsOptions;
  /**
   * Content types that are accepted, by name or MIME type. `pickle` is read as data: nothing in it is imported or called. Objects of
   * Python classes become PyObject. @default ['json']
   */
  readonly acceptContent?: readonly string[];
  /** @default 'json' */
  readonly taskSerializer?: string;
  /** @default 'json' */
  readonly resultSerializer?: string;
  readonly taskCompression?: string | null;
  /** Write dates, Decimals, UUIDs and bytes as kombu >= 5.3 does. Set false if the cluster has older workers. @default true */
  readonly typedJson?: boolean;
  /** Seconds a worker waits for the results of a chord's header after all its members have ended. @default 3 */
  readonly resultChordJoinTimeout?: number;
  /** Seconds a result is kept. 0 keeps it for ever. @default 86400 */
  readonly resultExpires?: number;
  /** With `rpc://`: results survive a restart of the broker. @default false */
  readonly resultPersistent?: boolean;
  readonly taskRoutes?: TaskRoutes;
  /** @default 'celery' */
  readonly taskDefaultQueue?: string;
  /** Limits for a message's body after decompression. @default 64 MiB, 1000 levels */
  readonly limits?: Partial<ContentLimits>;
  /** Send a `task-sent` event for each task that is sent. @default false */
  readonly taskSendSentEvent?: boolean;
  /** The prefix of the remote control exchange, `<controlExchange>.pidbox`. @default 'celery' */
  readonly controlExchange?: string;
  /** @default 'celeryev' */
  readonly eventExchange?: string;
}

/** How often a client retries a publish, and the seconds between the tries: Celery's `task_publish_retry_policy`. */
export interface PublishRetry {
  readonly maxRetries?: number;
  readonly intervalStart?: number;
  readonly intervalStep?: number;
  readonly intervalMax?: number;
}

/** Settings of beat, the scheduler. The names are Celery's and RedBeat's settings in camelCase. Their units are kept (seconds). */
export interface BeatSettings {
  readonly beatSchedule?: BeatSchedule;
  /** The time zone of crontabs: an IANA name. @default 'UTC' */
  readonly timezone?: string;
  /**
   * Where the times of the last runs are kept. `redis`: several processes may run, and one of them leads. `redbeat`: the same, with the keys of
   * RedBeat, so that a RedBeat in Python can share them. `file` and `memory`: one process only. @default 'redis' if the broker is Redis, else 'file'
   */
  readonly beatScheduler?: 'redis' | 'redbeat' | 'file' | 'memory';
  /** The longest time between two checks of the schedule, in seconds. @default 300 */
  readonly beatMaxLoopInterval?: number;
  /** Seconds. A crontab run that is later than this is skipped. @default late runs are made up by one run */
  readonly beatCronStartingDeadline?: number;
  /** For `file`: the name of the file. It is not Celery's file, which is a Python database. @default 'celerybeat-schedule.json' */
  readonly beatScheduleFilename?: string;
  /** For `redis`: the Redis that holds the keys. @default the broker's Redis */
  readonly beatRedisUrl?: string;
  /** For `redis`: the prefix of the keys, after the broker's own prefix. Each schedule on one Redis needs its own. @default 'jobglot:beat:' */
  readonly beatKeyPrefix?: string;
  /** For `redis`: seconds after which another process takes over from one that died. @default 15 */
  readonly beatLockTimeout?: number;
  /** For `redbeat`: the Redis that holds the keys. @default the broker's Redis */
  readonly redbeatRedisUrl?: string;
  /** @default 'redbeat:' */
  readonly redbeatKeyPrefix?: string;
  /** Null: no lock, for a single process. @default the prefix, then ':lock' */
  readonly redbeatLockKey?: string | null;
  /** Seconds. @default five times the longest pause */
  readonly redbeatLockTimeout?: number;
}

/** The options of a worker. */
export interface CeleryOptions extends CeleryAppOptions, BeatSettings {
  /** @default ['celery'] */
  readonly queues?: readonly (string | QueueSpec)[];
  /** Also consume a queue that only this worker consumes: `<nodename>.dq2`, on the exchange `C.dq2`. @default false */
  readonly workerDirect?: boolean;
  /** The number of handlers that run at the same time. @default 10 */
  readonly concurrency?: number;
  /** Claimed messages per slot, including the running ones. @default 4 */
  readonly prefetchMultiplier?: number;
  /** For example `celery@host`. `%h` is the host, `%n` its name, `%d` its domain. @default 'celery@%h' */
  readonly nodename?: string;
  /** Acknowledge after the run. If the worker dies, the job runs again. @default false */
  readonly acksLate?: boolean;
  /** With acksLate: also acknowledge jobs that fail or time out. @default true */
  readonly acksOnFailureOrTimeout?: boolean;
  /** If this process stops while a job runs, give the job back and do not fail it. Needs acksLate. @default true with acksLate */
  readonly rejectOnWorkerLost?: boolean;
  /**
   * With acksLate: do not run a redelivered task again if its stored result is SUCCESS. This happens when its worker died after it stored the
   * result and before it acknowledged the message. The worker asks the result backend for each redelivered message. If a task's results are
   * ignored, only the worker that ran it knows of its success. An id that is used again counts as the same task, as in Celery. Has no effect
   * without a backend, or with `rpc://`. @default false
   */
  readonly workerDeduplicateSuccessfulTasks?: boolean;
  readonly ignoreResult?: boolean;
  readonly storeErrorsEvenIfIgnored?: boolean;
  readonly trackStarted?: boolean;
  readonly resultExtended?: boolean;
  /** Seconds. */
  readonly taskTimeLimit?: number;
  /** Seconds. */
  readonly taskSoftTimeLimit?: number;
  readonly taskDefaultRateLimit?: number | string;
  readonly taskInheritParentPriority?: boolean;
  /** Your error classes, mapped to Python classes: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
  readonly exceptions?: Readonly<Record<string, string>>;
  /**
   * What the worker does with a task that has no handler here. `requeue`: it goes to the back of its queue for other workers, after a pause that grows each time it
   * comes back, and nothing is destroyed. `reject`: it fails with NotRegistered, as in Celery. `hold`: this worker keeps it until it stops (RabbitMQ:
   * until `holdLimit`), then gives it back. `{ forward: queue }`: it goes to another queue. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy;
  /** Milliseconds an unknown task is held before it goes back the first time. @default 1000 */
  readonly unknownTaskDelayMs?: number;
  /** Messages held in memory for their ETA or rate limit. More than these are parked in the broker. @default 1000 */
  readonly etaLimit?: number;
  /** Answer `celery inspect`, `celery control`, Flower and other workers. @default true */
  readonly workerEnableRemoteControl?: boolean;
  /** Send events for each task that is received, started or ended (`-E`), from the start. Flower switches them on by itself. @default false */
  readonly workerSendTaskEvents?: boolean;
  /** Seconds between two heartbeats. With false, the worker sends no events about itself at all. @default 2 */
  readonly heartbeatInterval?: number | false;
  /** At the start, ask other workers for revoked ids and for the logical clock. @default true */
  readonly mingle?: boolean;
  /** Receive the events of other workers: log the workers whose heartbeats stop, and take part in elections. @default false */
  readonly gossip?: boolean;
}

export interface ResolvedApp {
  readonly accept: readonly string[];
  readonly taskSerializer: string;
  readonly resultSerializer: string;
  readonly taskCompression: string | null;
  readonly typedJson: boolean;
  readonly taskRoutes: TaskRoutes;
  readonly taskDefaultQueue: string;
  readonly limits: ContentLimits;
}

export function resolveApp(options: CeleryAppOptions): ResolvedApp {
  return {
    accept: options.acceptContent ?? ['json'],
    taskSerializer: options.taskSerializer ?? 'json',
    resultSerializer: options.resultSerializer ?? 'json',
    taskCompression: options.taskCompression ?? null,
    typedJson: options.typedJson ?? true,
    taskRoutes: options.taskRoutes ?? [],
    taskDefaultQueue: options.taskDefaultQueue ?? 'celery',
    limits: { ...defaultLimits, ...options.limits },
  };
}

/** Throws ConfigError unless `value` is a whole number of at least `least`. */
export function wholeNumber(name: string, value: number, least: number): number {
  if (Number.isInteger(value) && value >= least) return value;
  throw new ConfigError(`celery: ${name} must be a whole number of at least ${least}, not ${value}`);
}

/** `celery@%h` with the host filled in. Source: celery/utils/nodenames.py. */
export function nodename(pattern = 'celery@%h', host: string = hostname()): string {
  const [name = host, ...domain] = host.split('.');
  const filled = pattern.replace(/%([hnd%])/g, (_, letter: string) =>
    letter === 'h' ? host : letter === 'n' ? name : letter === 'd' ? domain.join('.') : '%',
  );
  return filled.includes('@') ? filled : `${filled}@${host}`;
}

/** `gen<pid>@<host>`: the process that published a message. */
export function originOf(pid: number = process.pid, host: string = hostname()): string {
  return `gen${pid}@${host}`;
}
