import { dialect, type Dialect, type DialectName } from '../../../protocols/sidekiq/dialect.ts';
import { type Keyspace, keyspace } from '../../../protocols/sidekiq/keys.ts';
import { type QueuesOption, readQueues } from '../../../protocols/sidekiq/queues.ts';
import type { Capsule } from '../../../protocols/sidekiq/presence.ts';
import { DEAD_LIMITS, type DeadLimits } from '../../../protocols/sidekiq/redis.ts';
import { WireError } from '../../../protocols/errors.ts';
import { ConfigError } from '../../errors.ts';
import type { UnknownTaskPolicy } from '../../source.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../transports/redis-url.ts';

/** Where Sidekiq's Redis is, and what is spoken there: what workers and clients share. */
export interface SidekiqAppOptions extends RedisTargetOptions {
  /** `redis://`, `rediss://`, `unix://`, `sentinel://h1;sentinel://h2`. */
  readonly url: string;
  /** A redis-namespace, for Sidekiq up to 6.x. */
  readonly namespace?: string;
  /**
   * Which Sidekiq is spoken: `'6.4'`, `'7.3'`, `'8.1'`. `'auto'` looks at the processes that run and speaks what the oldest of
   * them reads; where none runs, what every version reads. @default 'auto'
   */
  readonly dialect?: 'auto' | DialectName;
}

/** One set of queues with slots of its own. */
export interface CapsuleOptions {
  /**
   * `['critical', 'default']`: the first that has any. `{ critical: 5, default: 1 }`: by weight. `{ a: 1, b: 1 }`: at random.
   * @default ['default']
   */
  readonly queues?: QueuesOption;
  /** Handlers at once. @default 10 */
  readonly concurrency?: number;
  /**
   * Jobs fetched beyond those that run, so that short ones need not wait for a trip to Redis each. `'auto'`: as many as are done
   * in 20 milliseconds, so none where jobs are long. Any that waits a second goes back. @default 'auto'
   */
  readonly prefetch?: 'auto' | number;
}

/** How a worker takes part. Names are Sidekiq's in camelCase, units Sidekiq's (seconds). */
export interface SidekiqOptions extends SidekiqAppOptions, CapsuleOptions {
  /**
   * `reliable`: a job that was fetched stays in Redis, in a hash of this process, until it is settled; another process of ours gives
   * back those of a dead one. `basic`: BRPOP, as Sidekiq itself: a job is lost with its process. @default 'reliable'
   */
  readonly fetch?: 'reliable' | 'basic';
  /**
   * What happens to a job whose class has no handler here. `requeue`: it goes to the back of its queue for other workers, after a pause that grows, and
   * nothing is written into it. `reject`: it fails with a NameError and is retried, as Sidekiq does. `hold`: it stays claimed until this worker stops.
   * `{ forward: 'queue' }`: it goes to another queue, with the same bytes. @default 'requeue'
   */
  readonly unknownTask?: UnknownTaskPolicy;
  /** Milliseconds before a job of an unknown class goes back for the first time. @default 1 000 */
  readonly unknownTaskDelayMs?: number;
  /** Retries of jobs whose `retry` is true. @default 25 */
  readonly maxRetries?: number;
  /** The dead set is trimmed to one less. @default 10000 */
  readonly deadMaxJobs?: number;
  /** Seconds. @default 15552000 */
  readonly deadTimeoutInSeconds?: number;
  /** Seconds between two looks at what is due, on average, times the number of processes. @default 5 */
  readonly averageScheduledPollInterval?: number;
  /** Seconds between two looks at what is due, whatever the number of processes. */
  readonly pollIntervalAverage?: number;
  /** False: others move what is due. @default true */
  readonly poll?: boolean;
  /** Shown beside the process in the UI. @default 'jobglot' */
  readonly tag?: string;
  /** Shown beside the process in the UI. @default none */
  readonly labels?: readonly string[];
  /** Quiet and stop buttons of the UI do nothing here. @default false */
  readonly embedded?: boolean;
  /** Count runs and run times for the metrics page. @default true */
  readonly metrics?: boolean;
  /** Seconds between two beats. @default 10, or 5 beside Sidekiq up to 6.5 */
  readonly heartbeatInterval?: number;
  /** Seconds without a beat after which a process is taken for dead, and its jobs given to others. @default 60 */
  readonly deadAfter?: number;
  /** Seconds between two looks for dead processes. @default 15 */
  readonly rescueInterval?: number;
  /** A job whose process died so often within 72 hours goes to the dead set. @default 3 */
  readonly poisonLimit?: number;
  /** Larger jobs are set aside, with reliable fetch. @default 64 MiB */
  readonly maxJobBytes?: number;
}

export interface ResolvedApp {
  readonly target: RedisTarget;
  readonly keys: Keyspace;
  /** Undefined: what its peers read. */
  readonly dialect: Dialect | undefined;
}

/** Throws ConfigError for what cannot be together, or cannot be read. The options are checked one by one before: option-checks.ts. */
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
