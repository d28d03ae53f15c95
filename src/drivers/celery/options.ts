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

/** What workers and clients share. Names are Celery's settings in camelCase, units Celery's (seconds). */
export interface CeleryAppOptions extends AmqpTopology {
  /** `amqp://`, `amqps://`, `redis://`, `rediss://`, `redis+socket://`, `sentinel://`, `filesystem://`, `memory://`; or a broker of your own. */
  readonly broker: string | CeleryBroker;
  /** `redis://` and kin, `rpc://` with an AMQP broker, `file://`, `memory://`, or `disabled://`. @default results are not stored */
  readonly backend?: string | ResultBackend;
  readonly brokerTransportOptions?: RedisBrokerOptions & AmqpBrokerOptions & FilesystemTransportOptions;
  readonly resultBackendTransportOptions?: RedisResultsOptions;
  /**
   * Content types read, by name or MIME type. `pickle` is read as data: nothing in it is imported or called, and objects of Python's
   * classes are PyObject. @default ['json']
   */
  readonly acceptContent?: readonly string[];
  /** @default 'json' */
  readonly taskSerializer?: string;
  /** @default 'json' */
  readonly resultSerializer?: string;
  readonly taskCompression?: string | null;
  /** Write dates, Decimals, UUIDs and bytes as kombu >= 5.3 does; false for clusters with older workers. @default true */
  readonly typedJson?: boolean;
  /** Seconds the results of a chord's header are waited for, once all have ended. @default 3 */
  readonly resultChordJoinTimeout?: number;
  /** Seconds a result is kept; 0 is for ever. @default 86400 */
  readonly resultExpires?: number;
  /** With `rpc://`: results outlive a restart of the broker. @default false */
  readonly resultPersistent?: boolean;
  readonly taskRoutes?: TaskRoutes;
  /** @default 'celery' */
  readonly taskDefaultQueue?: string;
  /** Limits of a message's body, after decompression. @default 64 MiB, 1000 levels */
  readonly limits?: Partial<ContentLimits>;
  /** Tell of each task that is sent by an event `task-sent`. @default false */
  readonly taskSendSentEvent?: boolean;
  /** Where remote control goes: its exchange is `<controlExchange>.pidbox`. @default 'celery' */
  readonly controlExchange?: string;
  /** @default 'celeryev' */
  readonly eventExchange?: string;
}

/** How often and after how many seconds a client sends again: Celery's `task_publish_retry_policy`. */
export interface PublishRetry {
  readonly maxRetries?: number;
  readonly intervalStart?: number;
  readonly intervalStep?: number;
  readonly intervalMax?: number;
}

/** When a beat sends what. Names are Celery's and RedBeat's settings in camelCase, units theirs (seconds). */
export interface BeatSettings {
  readonly beatSchedule?: BeatSchedule;
  /** The zone that crontabs are read in: an IANA name. @default 'UTC' */
  readonly timezone?: string;
  /**
   * Where last runs are kept. `redis`: several processes may run, one leads. `redbeat`: the same, with the keys of RedBeat, which
   * a RedBeat in Python shares. `file` and `memory`: one process. @default 'redis' where the broker is Redis, else 'file'
   */
  readonly beatScheduler?: 'redis' | 'redbeat' | 'file' | 'memory';
  /** Seconds between two looks at the schedule, at most. @default 300 */
  readonly beatMaxLoopInterval?: number;
  /** Seconds: a run of a crontab that is later than this is left out. @default such a run is made up for, once */
  readonly beatCronStartingDeadline?: number;
  /** For `file`. Not Celery's file, which is a Python database. @default 'celerybeat-schedule.json' */
  readonly beatScheduleFilename?: string;
  /** For `redis`: where the keys are. @default beside the broker's messages */
  readonly beatRedisUrl?: string;
  /** For `redis`: what the keys begin with, after the broker's own prefix. One for each schedule that shares a Redis. @default 'jobglot:beat:' */
  readonly beatKeyPrefix?: string;
  /** For `redis`: seconds after which another process takes over from one that died. @default 15 */
  readonly beatLockTimeout?: number;
  /** For `redbeat`: where the keys are. @default the broker's Redis */
  readonly redbeatRedisUrl?: string;
  /** @default 'redbeat:' */
  readonly redbeatKeyPrefix?: string;
  /** Null: without a lock, for a single process. @default the prefix, then ':lock' */
  readonly redbeatLockKey?: string | null;
  /** Seconds. @default five times the longest pause */
  readonly redbeatLockTimeout?: number;
}

/** How a worker takes part. */
export interface CeleryOptions extends CeleryAppOptions, BeatSettings {
  /** @default ['celery'] */
  readonly queues?: readonly (string | QueueSpec)[];
  /** Consume one queue more that is this worker's alone: `<nodename>.dq2`, on the exchange `C.dq2`. @default false */
  readonly workerDirect?: boolean;
  /** Handlers at once. @default 10 */
  readonly concurrency?: number;
  /** Claimed messages per slot, running ones included. @default 4 */
  readonly prefetchMultiplier?: number;
  /** `celery@host`; `%h`, `%n`, `%d` are the host, its name, its domain. @default 'celery@%h' */
  readonly nodename?: string;
  /** Acknowledge after the run, so that a job whose worker dies runs again. @default false */
  readonly acksLate?: boolean;
  /** With acksLate: acknowledge failures and time-outs too. @default true */
  readonly acksOnFailureOrTimeout?: boolean;
  /** Give a job back, rather than fail it, when this process stops in the middle of it. Needs acksLate. @default true with acksLate */
  readonly rejectOnWorkerLost?: boolean;
  /**
   * With acksLate: a task that comes again is not run again where its result says SUCCESS: its worker died between the result and the
   * acknowledgement. Asks the result backend of each message that was delivered before; a task whose results are ignored is known only
   * to the worker that ran it. An id that is used again counts as the same task, as in Celery. Has no effect without a backend, or with
   * `rpc://`. @default false
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
  /** Your error classes as Python's: `{ OutOfStock: 'shop.errors.OutOfStock' }`. */
  readonly exceptions?: Readonly<Record<string, string>>;
  /**
   * What happens to a task that no handler here knows. `requeue`: it goes to the back of its queue for other workers, after a pause that grows each time it
   * comes back, and nothing is destroyed. `reject`: it fails with NotRegistered, as in Celery. `hold`: this worker keeps it until it stops (RabbitMQ:
   * until `holdLimit`), then gives it back. `{ forward: queue }`: it goes to another queue. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy;
  /** Milliseconds an unknown task is held before it goes back the first time. @default 1000 */
  readonly unknownTaskDelayMs?: number;
  /** Messages held in memory for their ETA or rate limit; beyond that they are parked in the broker. @default 1000 */
  readonly etaLimit?: number;
  /** Listen to `celery inspect`, `celery control`, Flower and other workers. @default true */
  readonly workerEnableRemoteControl?: boolean;
  /** Tell of each task that is received, started and ended (`-E`), from the start; Flower switches it on by itself. @default false */
  readonly workerSendTaskEvents?: boolean;
  /** Seconds between two heartbeats; false sends no events of the worker at all. @default 2 */
  readonly heartbeatInterval?: number | false;
  /** Ask other workers at the start for revoked ids and the logical clock. @default true */
  readonly mingle?: boolean;
  /** Listen to the events of other workers: log those that fall silent, take part in elections. @default false */
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

/** `gen<pid>@<host>`: who published a message. */
export function originOf(pid: number = process.pid, host: string = hostname()): string {
  return `gen${pid}@${host}`;
}
