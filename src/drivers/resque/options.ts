import { WireError } from '../../../protocols/errors.ts';
import type { FailureBackend, FailureRecord } from '../../../protocols/resque/failure.ts';
import { type Keyspace, keyspace } from '../../../protocols/resque/keys.ts';
import { queueList, type QueueList } from '../../../protocols/resque/queues.ts';
import type { RubyInspect } from '../../../protocols/resque/retry.ts';
import { ConfigError } from '../../errors.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../transports/redis-url.ts';
import type { ResqueSchedule } from './schedule.ts';

/** Where Resque's Redis is: what workers, schedulers and clients share. */
export interface ResqueAppOptions extends RedisTargetOptions {
  /** As `Resque.redis=` takes it: `redis://host/db`, `rediss://`, `host:port`, `host:port:db`, `host:port/namespace`, `host:port:db/namespace`. */
  readonly url: string;
  /** Before every key, with a colon. Empty for none. What the URL names counts where this is left out. @default 'resque' */
  readonly namespace?: string;
  /** RESQUE_SCHEDULER_MASTER_LOCK_PREFIX, where Ruby's scheduler has one. */
  readonly schedulerLockPrefix?: string;
}

/** Told of a failure before it is recorded elsewhere; at least once. What it throws is logged. */
export type FailureFunction = (failure: FailureRecord) => void | Promise<void>;

/** `redis`: the list `failed`. `redis_multi_queue`: a list a queue. `none`: nowhere. */
export type FailureOption = FailureBackend | 'none' | FailureFunction;

/** How a worker takes part. Names are Resque's in camelCase, units Resque's (seconds). */
export interface ResqueOptions extends ResqueAppOptions {
  /**
   * Names and patterns: strictly the first that has any. `*` is all in the order of the alphabet, `!name` takes away. Queues that
   * appear while it runs are seen. @default ['*']
   */
  readonly queues?: readonly string[];
  /** Jobs at once; each is one worker to Resque. @default 10 */
  readonly concurrency?: number;
  /** Jobs claimed beyond those that run: fewer trips where jobs are short, and a queue that comes first waits for them. @default 0 */
  readonly prefetch?: number;
  /**
   * `push`: Redis tells of a job as it is enqueued. `poll`: a look at every queue each `interval`, as Ruby does. @default 'push'
   */
  readonly fetch?: 'push' | 'poll';
  /**
   * Seconds between two looks at empty queues; with `push`, between two looks for what nobody told of. 0: work what is there, and end when the
   * queues are empty and nothing runs; so does a worker that is paused. @default 5
   */
  readonly interval?: number;
  /** After a job the next look is so far away: MIN_INTERVAL. @default `interval` */
  readonly minInterval?: number;
  /** No look is farther away: MAX_INTERVAL. @default `interval` */
  readonly maxInterval?: number;
  /** So much farther away with every look that finds nothing: BACKOFF_INTERVAL. @default 0.1 */
  readonly backoffInterval?: number;
  /**
   * A job whose class has no handler here. `requeue`: it goes to the back of its queue for other workers, after a pause that grows. `reject`: it fails
   * with a NameError, as in Ruby. `hold`: this worker keeps it until it stops. `{ forward }`: it goes to another queue. `fail` is an old name of
   * `reject`. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy | 'fail';
  /** Milliseconds before a job of an unknown class goes back for the first time. @default 1000 */
  readonly unknownTaskDelayMs?: number;
  /** Where failures go; several: each of them, in this order. @default 'redis' */
  readonly failure?: FailureOption | readonly FailureOption[];
  /**
   * Move delayed jobs and send scheduled ones, as resque-scheduler does: the one that leads, in Ruby or here, does it. Without it
   * a handler may not ask for a retry. @default false
   */
  readonly scheduler?: boolean | SchedulerOptions;
  /** How the Ruby beside us prints hashes, which resque-retry makes its keys of: 3.4 and later, or before. @default '3.3' */
  readonly rubyInspect?: RubyInspect;
  /** Shown as the host of our workers, followed by a part that makes it unique. @default the hostname */
  readonly hostname?: string;
  /** Set the title of this process so that `ps` shows a Resque worker. @default true */
  readonly processTitle?: boolean;
  /** Stands before that title: RESQUE_PROCLINE_PREFIX. @default '' */
  readonly proclinePrefix?: string;
  /** Seconds between two heartbeats. Ruby takes a worker for dead after 300. @default 60 */
  readonly heartbeatInterval?: number;
  /** Seconds between two looks for workers that do not beat any more. False: never. @default 300 */
  readonly pruneInterval?: number | false;
  /** Seconds without a sign of life after which a process of ours is taken for dead, and its jobs given to others. @default 60 */
  readonly deadAfter?: number;
  /** Seconds between two looks for processes of ours that are dead. @default 15 */
  readonly rescueInterval?: number;
  /** A job whose process died so often within 72 hours is set aside. @default 3 */
  readonly poisonLimit?: number;
  /** Larger jobs are set aside. @default 64 MiB */
  readonly maxJobBytes?: number;
  /** Around the life of this worker; see hooks.ts for those of jobs. */
  readonly hooks?: WorkerHooks;
}

/** What resque-scheduler is started with. */
export interface SchedulerOptions {
  /** Cron schedules by name, as in resque-scheduler's YAML. */
  readonly schedule?: Readonly<Record<string, ResqueSchedule>>;
  /** Also those that are kept in Redis, and changed there: DYNAMIC_SCHEDULE. @default true */
  readonly dynamic?: boolean;
  /** Where a cron text names no zone. @default 'UTC' */
  readonly timezone?: string;
  /** Seconds the lead lasts without being renewed: LOCK_TIMEOUT. @default 180 */
  readonly lockTimeout?: number;
  /** Seconds between two tries to lead, and two looks at what is due where nothing is known to be: RESQUE_SCHEDULER_INTERVAL. @default 5 */
  readonly interval?: number;
  /** Schedules with `rails_env` or `env` are followed where this is one of them: RAILS_ENV. @default all are followed */
  readonly env?: string;
  /** False: delayed jobs are moved by somebody else, and retries may be asked for. @default true */
  readonly run?: boolean;
}

/** Resque's hooks of a worker. */
export interface WorkerHooks {
  /** Before the first job of this worker is looked for. */
  readonly beforeFirstFork?: () => void | Promise<void>;
  readonly beforePause?: () => void | Promise<void>;
  readonly afterPause?: () => void | Promise<void>;
  /** Every time its queues were found empty after they were not. */
  readonly queueEmpty?: () => void | Promise<void>;
  /** When the worker takes no more jobs. */
  readonly shutdown?: () => void | Promise<void>;
  /** When the worker is off the list. */
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

/** `host:port[:db][/namespace]` as a URL; a URL as it is: its path is the database, never the namespace. Source: resque.rb redis=. */
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
