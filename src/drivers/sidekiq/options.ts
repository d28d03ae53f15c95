import { dialect, type Dialect, type DialectName } from '../../../protocols/sidekiq/dialect.ts';
import { type Keyspace, keyspace } from '../../../protocols/sidekiq/keys.ts';
import { type QueuesOption, readQueues } from '../../../protocols/sidekiq/queues.ts';
import type { Capsule } from '../../../protocols/sidekiq/presence.ts';
import { DEAD_LIMITS, type DeadLimits } from '../../../protocols/sidekiq/redis.ts';
import { WireError } from '../../../protocols/errors.ts';
import { ConfigError } from '../../errors.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../transports/redis-url.ts';

/** The address of Sidekiq's Redis and the dialect used there. Workers and clients share these options. */
export interface SidekiqAppOptions extends RedisTargetOptions {
  /** `redis://`, `rediss://`, `unix://`, `sentinel://h1;sentinel://h2`. */
  readonly url: string;
  /** The prefix of redis-namespace, for Sidekiq up to 6.x. */
  readonly namespace?: string;
  /**
   * The version of Sidekiq whose format is used: `'6.4'`, `'7.3'`, `'8.1'`. `'auto'` reads the versions of the running processes and uses the format
   * that the oldest of them reads. If no process runs, it uses the format that every version reads. @default 'auto'
   */
  readonly dialect?: 'auto' | DialectName;
}

/** One set of queues with its own slots. */
export interface CapsuleOptions {
  /**
   * `['critical', 'default']`: takes from the first queue that has jobs. `{ critical: 5, default: 1 }`: by weight. `{ a: 1, b: 1 }`: at random.
   * @default ['default']
   */
  readonly queues?: QueuesOption;
  /** How many handlers run at once. @default 10 */
  readonly concurrency?: number;
  /**
   * How many jobs are fetched in addition to the running ones, so that short jobs need not wait for a round trip to Redis each. `'auto'`: the number
   * of jobs that finish in 20 milliseconds, so none if jobs are long. A job that waits longer than a second goes back to its queue. @default 'auto'
   */
  readonly prefetch?: 'auto' | number;
}

/** Options of a Sidekiq worker. Names are Sidekiq's in camelCase, units are Sidekiq's (seconds). */
export interface SidekiqOptions extends SidekiqAppOptions, CapsuleOptions {
  /**
   * `reliable`: a fetched job stays in Redis, in a hash of this process, until it is settled. If the process dies, another process of this package
   * gives its jobs back. `basic`: BRPOP, as in Sidekiq itself: a job is lost with its process. @default 'reliable'
   */
  readonly fetch?: 'reliable' | 'basic';
  /**
   * How the worker handles a job whose class has no handler here. `requeue`: the job goes to the back of its queue for other workers, unchanged,
   * after a pause that grows. `reject`: it fails with a NameError and is retried, as in Sidekiq. `hold`: it stays claimed until this worker stops. `{
   * forward: 'queue' }`: it goes to another queue, with the same bytes. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy;
  /** Milliseconds before a job of an unknown class goes back for the first time. @default 1 000 */
  readonly unknownTaskDelayMs?: number;
  /** Retries of jobs whose `retry` is true. @default 25 */
  readonly maxRetries?: number;
  /** The dead set is trimmed to one entry less than this. @default 10000 */
  readonly deadMaxJobs?: number;
  /** Seconds. @default 15552000 */
  readonly deadTimeoutInSeconds?: number;
  /** The average interval, in seconds, between two polls for due jobs; it is multiplied by the number of processes. @default 5 */
  readonly averageScheduledPollInterval?: number;
  /** The average interval, in seconds, between two polls for due jobs, for any number of processes. */
  readonly pollIntervalAverage?: number;
  /** Whether this process moves due jobs to their queues. False: other processes move them. @default true */
  readonly poll?: boolean;
  /** Shown beside the process in the UI. @default 'jobglot' */
  readonly tag?: string;
  /** Shown beside the process in the UI. @default none */
  readonly labels?: readonly string[];
  /** Embedded in another program: the quiet and stop buttons of the UI have no effect on this process. @default false */
  readonly embedded?: boolean;
  /** Count runs and run times for the metrics page. @default true */
  readonly metrics?: boolean;
  /** Seconds between two heartbeats. @default 10, or 5 beside Sidekiq up to 6.5 */
  readonly heartbeatInterval?: number;
  /** Seconds without a heartbeat after which a process counts as dead; its jobs then go to other processes. @default 60 */
  readonly deadAfter?: number;
  /** Seconds between two checks for dead processes. @default 15 */
  readonly rescueInterval?: number;
  /** If the process of a job dies this many times within 72 hours, the job goes to the dead set. @default 3 */
  readonly poisonLimit?: number;
  /** A larger job goes to quarantine, with reliable fetch. Bytes. @default 64 MiB */
  readonly maxJobBytes?: number;
}

export interface ResolvedApp {
  readonly target: RedisTarget;
  readonly keys: Keyspace;
  /** Undefined: the dialect that the peers read. */
  readonly dialect: Dialect | undefined;
}

/** Throws ConfigError for options that contradict each other or cannot be read. Each single option is checked before, in option-checks.ts. */
export function resolveApp(options: SidekiqAppOptions): ResolvedApp {
  const { url, namespace = '', dialect: spoken = 'auto' } = options;
  if (typeof url !== 'string' || url === '')
    throw new ConfigError("sidekiq: url is missing; pass one such as 'redis://localhost:6379/0'");
  const target = redisTarget(url, options);
  if (target.cluster !== undefined)
    throw new ConfigError('sidekiq: Sidekiq does not run on a Redis Cluster; its keys cannot share a slot');
  if (spoken !== 'auto' && !/^\d+\.\d+(?:\.\d+)?$/.test(spoken))
    throw new ConfigError(`sidekiq: dialect must be 'auto' or a version such as '7.3', not '${spoken}'`);
  return { target, keys: keyspace(namespace), dialect: spoken === 'auto' ? undefined : dialect(spoken) };
}

/** Throws ConfigError. */
export function resolveCapsule(name: string, { queues = ['default'], concurrency = 10 }: CapsuleOptions): Capsule {
  try {
    const read = readQueues(queues);
    if (read.weights.length === 0)
      throw new ConfigError("sidekiq: queues is empty; pass at least one, or leave it out for 'default'");
    return { name, concurrency, ...read };
  } catch (error) {
    if (error instanceof WireError) throw new ConfigError(error.message, { cause: error });
    throw error;
  }
}

export interface ResolvedWorker {
  readonly fetch: 'reliable' | 'basic';
  readonly unknownTask: UnknownTaskPolicy;
  readonly unknownTaskDelayMs: number;
  readonly maxRetries: number;
  readonly dead: DeadLimits;
  readonly averagePollSeconds: number;
  readonly fixedPollSeconds: number | undefined;
  readonly poll: boolean;
  readonly tag: string;
  readonly labels: readonly string[];
  readonly embedded: boolean;
  readonly metrics: boolean;
  readonly heartbeatMs: number | undefined;
  readonly deadAfterSeconds: number;
  readonly rescueMs: number;
  readonly poisonLimit: number;
  readonly maxJobBytes: number;
}

/** Throws ConfigError. */
export function resolveWorker(options: SidekiqOptions): ResolvedWorker {
  const deadAfterSeconds = Math.ceil(options.deadAfter ?? 60);
  const heartbeat = options.heartbeatInterval;
  if ((heartbeat ?? 10) * 2 > deadAfterSeconds)
    throw new ConfigError(
      'sidekiq: deadAfter must be at least two heartbeatIntervals, or one late beat looks like death',
    );
  const { fetch = 'reliable', unknownTask = 'requeue' } = options;
  return {
    fetch,
    unknownTask,
    unknownTaskDelayMs: options.unknownTaskDelayMs ?? 1_000,
    maxRetries: options.maxRetries ?? 25,
    dead: {
      deadMaxJobs: options.deadMaxJobs ?? DEAD_LIMITS.deadMaxJobs,
      deadTimeoutInSeconds: options.deadTimeoutInSeconds ?? DEAD_LIMITS.deadTimeoutInSeconds,
    },
    averagePollSeconds: options.averageScheduledPollInterval ?? 5,
    fixedPollSeconds: options.pollIntervalAverage,
    poll: options.poll ?? true,
    tag: options.tag ?? 'jobglot',
    labels: options.labels ?? [],
    embedded: options.embedded ?? false,
    metrics: options.metrics ?? true,
    heartbeatMs: heartbeat === undefined ? undefined : heartbeat * 1000,
    deadAfterSeconds,
    rescueMs: (options.rescueInterval ?? 15) * 1000,
    poisonLimit: options.poisonLimit ?? 3,
    maxJobBytes: options.maxJobBytes ?? 64 * 2 ** 20,
  };
}
