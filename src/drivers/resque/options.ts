import { WireError } from '../../../protocols/errors.ts';
import type { FailureBackend, FailureRecord } from '../../../protocols/resque/failure.ts';
import { type Keyspace, keyspace } from '../../../protocols/resque/keys.ts';
import { queueList, type QueueList } from '../../../protocols/resque/queues.ts';
import type { RubyInspect } from '../../../protocols/resque/retry.ts';
import { ConfigError } from '../../errors.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../transports/redis-url.ts';
import type { ResqueSchedule } from './schedule.ts';

/** The address of Resque's Redis. Workers, schedulers and clients share these options. */
export interface ResqueAppOptions extends RedisTargetOptions {
  /**
   * The forms that `Resque.redis=` accepts: `redis://host/db`, `rediss://`, `host:port`, `host:port:db`, `host:port/namespace`,
   * `host:port:db/namespace`.
   */
  readonly url: string;
  /** The prefix of every key, joined with a colon. Empty for no prefix. If it is left out, the namespace in the URL counts. @default 'resque' */
  readonly namespace?: string;
  /** RESQUE_SCHEDULER_MASTER_LOCK_PREFIX, if Ruby's scheduler has one. */
  readonly schedulerLockPrefix?: string;
}

/** Called with a failure before it is recorded elsewhere; it may be called more than once for one failure. Errors that it throws are logged. */
export type FailureFunction = (failure: FailureRecord) => void | Promise<void>;

/** `redis`: the list `failed`. `redis_multi_queue`: one list for each queue. `none`: failures are not recorded. */
export type FailureOption = FailureBackend | 'none' | FailureFunction;

/** Options of a Resque worker. Names are Resque's in camelCase, units are Resque's (seconds). */
export interface ResqueOptions extends ResqueAppOptions {
  /**
   * Names and patterns, in strict order: the first queue that has jobs. `*` is all queues in alphabetical order; `!name` excludes a queue. Queues
   * that appear later are included. @default ['*']
   */
  readonly queues?: readonly string[];
  /** How many jobs run at once. Resque sees each slot as one worker. @default 10 */
  readonly concurrency?: number;
  /**
   * How many jobs are claimed in addition to the running ones. With more, short jobs need fewer round trips, but jobs of a queue with higher priority
   * wait behind the claimed ones. @default 0
   */
  readonly prefetch?: number;
  /** `push`: Redis notifies this worker when a job is enqueued. `poll`: the worker polls every queue each `interval`, as in Ruby. @default 'push' */
  readonly fetch?: 'push' | 'poll';
  /**
   * Seconds between two polls of empty queues; with `push`, between two polls for jobs whose notification was missed. 0: run the jobs that are there,
   * and stop when the queues are empty and nothing runs; a paused worker stops too. @default 5
   */
  readonly interval?: number;
  /** Seconds until the next poll after a job was found: MIN_INTERVAL. @default `interval` */
  readonly minInterval?: number;
  /** The longest time between two polls, in seconds: MAX_INTERVAL. @default `interval` */
  readonly maxInterval?: number;
  /** Seconds added to the poll interval after each poll that finds nothing: BACKOFF_INTERVAL. @default 0.1 */
  readonly backoffInterval?: number;
  /**
   * How the worker handles a job whose class has no handler here. `requeue`: the job goes to the back of its queue for other workers, after a pause
   * that grows. `reject`: it fails with a NameError, as in Ruby. `hold`: it stays claimed until this worker stops. `{ forward }`: it goes to another
   * queue. `fail` is an old name of `reject`. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy | 'fail';
  /** Milliseconds before a job of an unknown class goes back for the first time. @default 1000 */
  readonly unknownTaskDelayMs?: number;
  /** The failure backends. With several, a failure goes to each of them, in this order. @default 'redis' */
  readonly failure?: FailureOption | readonly FailureOption[];
  /**
   * Move delayed jobs and send scheduled ones, as resque-scheduler does. Of all schedulers, in Ruby or here, only the leader does this. Without a
   * scheduler, a handler must not ask for a retry. @default false
   */
  readonly scheduler?: boolean | SchedulerOptions;
  /** The format in which the Ruby workers print hashes: Ruby 3.4 and later, or before. resque-retry makes its keys from it. @default '3.3' */
  readonly rubyInspect?: RubyInspect;
  /** The host name shown for these workers; a part that makes it unique is added. @default the hostname */
  readonly hostname?: string;
  /** Set the title of this process so that `ps` shows a Resque worker. @default true */
  readonly processTitle?: boolean;
  /** A prefix of that title: RESQUE_PROCLINE_PREFIX. @default '' */
  readonly proclinePrefix?: string;
  /** Seconds between two heartbeats. Ruby considers a worker dead after 300. @default 60 */
  readonly heartbeatInterval?: number;
  /** Seconds between two checks for workers without a heartbeat. False: never. @default 300 */
  readonly pruneInterval?: number | false;
  /** Seconds without a sign of life after which a process of this package counts as dead; its jobs then go to other processes. @default 60 */
  readonly deadAfter?: number;
  /** Seconds between two checks for dead processes of this package. @default 15 */
  readonly rescueInterval?: number;
  /** If the process of a job dies this many times within 72 hours, the job goes to quarantine. @default 3 */
  readonly poisonLimit?: number;
  /** A larger job goes to quarantine. Bytes. @default 64 MiB */
  readonly maxJobBytes?: number;
  /** Hooks around the life of this worker; see hooks.ts for the hooks of jobs. */
  readonly hooks?: WorkerHooks;
}

/** The settings of resque-scheduler. */
export interface SchedulerOptions {
  /** Cron schedules by name, as in resque-scheduler's YAML. */
  readonly schedule?: Readonly<Record<string, ResqueSchedule>>;
  /** Whether to include the schedules that are stored in Redis and changed there: DYNAMIC_SCHEDULE. @default true */
  readonly dynamic?: boolean;
  /** The time zone for a cron text that names none. @default 'UTC' */
  readonly timezone?: string;
  /** Seconds after which the lead ends if it is not renewed: LOCK_TIMEOUT. @default 180 */
  readonly lockTimeout?: number;
  /** Seconds between two attempts to become the leader, and between two polls when no due time is known: RESQUE_SCHEDULER_INTERVAL. @default 5 */
  readonly interval?: number;
  /** If set, a schedule with `rails_env` or `env` is used only when this value is in its list: RAILS_ENV. @default all schedules are used */
  readonly env?: string;
  /** False: another process moves delayed jobs, and handlers may ask for retries. @default true */
  readonly run?: boolean;
}

/** Resque's hooks of a worker. */
export interface WorkerHooks {
  /** Before this worker polls for its first job. */
  readonly beforeFirstFork?: () => void | Promise<void>;
  readonly beforePause?: () => void | Promise<void>;
  readonly afterPause?: () => void | Promise<void>;
  /** Each time the queues become empty. */
  readonly queueEmpty?: () => void | Promise<void>;
  /** When the worker stops taking jobs. */
  readonly shutdown?: () => void | Promise<void>;
  /** When the worker has been removed from the list. */
  readonly workerExit?: () => void | Promise<void>;
}

export interface ResolvedApp {
  readonly target: RedisTarget;
  readonly keys: Keyspace;
}

/** Throws ConfigError. */
export function resolveApp(options: ResqueAppOptions): ResolvedApp {
  const { url, namespace, schedulerLockPrefix } = options;
  if (typeof url !== 'string' || url === '')
    throw new ConfigError("resque: url is missing; pass one such as 'redis://localhost:6379/0'");
  const read = readUrl(url);
  const target = redisTarget(read.url, options);
  const name = namespace ?? read.namespace ?? 'resque';
  if (target.cluster !== undefined && !/^\{[^}]+\}/.test(name))
    throw new ConfigError(
      `resque: ${target.maskedUrl} is a cluster: the namespace must be a hash tag such as '{resque}', so that all keys share one slot`,
    );
  return { target, keys: keyspace(name, schedulerLockPrefix) };
}

/** Turns `host:port[:db][/namespace]` into a URL. A URL stays as it is: its path is the database, never the namespace. Source: resque.rb redis=. */
export function readUrl(text: string): { readonly url: string; readonly namespace: string | undefined } {
  if (text.includes('://')) return { url: text, namespace: undefined };
  const slash = text.indexOf('/');
  const server = slash < 0 ? text : text.slice(0, slash);
  const namespace = slash < 0 ? undefined : text.slice(slash + 1);
  const match = /^([^:\s]+)(?::(\d+))?(?::(\d+))?$/.exec(server);
  if (match === null || namespace === '')
    throw new ConfigError(
      `resque: '${text}' is no address of Redis; expected redis://host:6379/0, or host:port:db/namespace`,
    );
  const [, host, port = '6379', db = '0'] = match;
  return { url: `redis://${host}:${port}/${db}`, namespace };
}

export interface ResolvedWorker {
  readonly queues: QueueList;
  readonly concurrency: number;
  readonly prefetch: number;
  readonly push: boolean;
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs: number;
  readonly failures: readonly FailureBackend[];
  readonly failureFunctions: readonly FailureFunction[];
  readonly scheduler: SchedulerOptions | undefined;
  readonly rubyInspect: RubyInspect;
  readonly hostname: string | undefined;
  readonly processTitle: boolean;
  readonly proclinePrefix: string;
  readonly heartbeatMs: number;
  readonly pruneMs: number | undefined;
  readonly deadAfterSeconds: number;
  readonly rescueMs: number;
  readonly poisonLimit: number;
  readonly maxJobBytes: number;
  readonly hooks: WorkerHooks;
}

/** Throws ConfigError. */
export function resolveWorker(options: ResqueOptions): ResolvedWorker {
  const {
    fetch = 'push',
    unknownTask = 'requeue',
    failure = 'redis',
    pruneInterval = 300,
    scheduler = false,
  } = options;
  oneOf('fetch', fetch, ['push', 'poll']);
  const failures = (Array.isArray(failure) ? failure : [failure]) as readonly FailureOption[];
  for (const one of failures)
    if (typeof one !== 'function') oneOf('failure', one, ['redis', 'redis_multi_queue', 'none']);
  const heartbeatMs = positive('heartbeatInterval', options.heartbeatInterval ?? 60) * 1000;
  if (heartbeatMs > 150_000)
    throw new ConfigError('resque: heartbeatInterval must be at most 150: Ruby takes who is silent for 300 for dead');
  return {
    queues: resolveQueues(options.queues ?? ['*']),
    concurrency: whole('concurrency', options.concurrency ?? 10, 1),
    prefetch: whole('prefetch', options.prefetch ?? 0, 0),
    push: fetch === 'push',
    unknownTask: unknownTask === 'fail' ? 'reject' : unknownTask,
    unknownTaskDelayMs: options.unknownTaskDelayMs ?? 1_000,
    failures: failures.filter((one): one is FailureBackend => one === 'redis' || one === 'redis_multi_queue'),
    failureFunctions: failures.filter((one) => typeof one === 'function'),
    scheduler: scheduler === true ? {} : scheduler === false ? undefined : scheduler,
    rubyInspect: options.rubyInspect ?? '3.3',
    hostname: options.hostname,
    processTitle: options.processTitle ?? true,
    proclinePrefix: options.proclinePrefix ?? '',
    heartbeatMs,
    pruneMs: pruneInterval === false ? undefined : positive('pruneInterval', pruneInterval) * 1000,
    deadAfterSeconds: Math.ceil(positive('deadAfter', options.deadAfter ?? 60)),
    rescueMs: positive('rescueInterval', options.rescueInterval ?? 15) * 1000,
    poisonLimit: whole('poisonLimit', options.poisonLimit ?? 3, 1),
    maxJobBytes: whole('maxJobBytes', options.maxJobBytes ?? 64 * 2 ** 20, 1),
    hooks: options.hooks ?? {},
  };
}

function resolveQueues(names: readonly string[]): QueueList {
  for (const name of names)
    if (typeof name !== 'string' || name.includes(','))
      throw new ConfigError(
        `resque: queues is a list of names; '${String(name)}' holds a comma, which Resque's ids cannot`,
      );
  try {
    const list = queueList(names);
    if (list.shown === '')
      throw new ConfigError("resque: queues names none to take from; pass at least one, or leave it out for '*'");
    return list;
  } catch (error) {
    if (error instanceof WireError) throw new ConfigError(error.message, { cause: error });
    throw error;
  }
}

export function whole(name: string, value: number, least: number): number {
  if (Number.isInteger(value) && value >= least) return value;
  throw new ConfigError(`resque: ${name} must be a whole number of at least ${least}, not ${value}`);
}

export function positive(name: string, value: number): number {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw new ConfigError(`resque: ${name} must be a number above 0, not ${value}`);
}

function oneOf(name: string, value: unknown, accepted: readonly string[]): void {
  if (typeof value === 'string' && accepted.includes(value)) return;
  const names = accepted.map((one) => `'${one}'`).join(', ');
  throw new ConfigError(`resque: ${name} must be one of ${names}, not '${String(value)}'`);
}
