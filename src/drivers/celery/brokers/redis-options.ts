import * as wire from '../../../../protocols/celery/brokers/redis.ts';
import { ConfigError } from '../../../errors.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../../transports/redis-url.ts';

/** `broker_transport_options` of Celery, in camelCase. Seconds where Celery has seconds. */
export interface RedisBrokerOptions extends RedisTargetOptions {
  /** Seconds after which a claim that is not refreshed is given to another worker. @default 3600 */
  readonly visibilityTimeout?: number;
  /** Prepended unchanged to every key and channel. With a hash tag (`{jobs}:`) all keys are in one slot of a Redis Cluster. */
  readonly globalKeyprefix?: string;
  /** @default [0, 3, 6, 9] */
  readonly prioritySteps?: readonly number[];
  readonly sep?: string;
  readonly unackedKey?: string;
  readonly unackedIndexKey?: string;
  readonly unackedMutexKey?: string;
  /** Seconds. Shorter than kombu's 300: a killed sweeper blocks the others for this time, and two sweepers at once do no harm. @default 30 */
  readonly unackedMutexExpire?: number;
  /** The most claims that are restored in one sweep. @default 1000 */
  readonly unackedRestoreLimit?: number;
  /** Seconds between two sweeps for abandoned claims. @default 10 */
  readonly unackedRestoreInterval?: number;
  /** The order in which the queues are polled. @default 'round_robin' */
  readonly queueOrderStrategy?: 'round_robin' | 'priority' | 'sorted';
  readonly fanoutPrefix?: boolean | string;
  readonly fanoutPatterns?: boolean;
  /**
   * The types of exchanges that are published to and not consumed from. Redis does not store the types. Needed for fanout; a topic exchange
   * is recognized by the patterns in its table. @default direct
   */
  readonly exchangeTypes?: Readonly<Record<string, 'direct' | 'topic' | 'fanout'>>;
  /** Seconds between two polls of empty queues, where the server cannot report a push. @default 0.05 */
  readonly pollingInterval?: number;
  /** Larger messages go to quarantine. @default 32 MiB */
  readonly maxMessageBytes?: number;
  /**
   * A sorted set that keeps revoked ids, so that they stay revoked after a restart of all workers. Only Node workers read it.
   * @default they are kept in memory, and workers send them to each other
   */
  readonly revokedKey?: string;
}

/** The settings that a Redis broker derives from its URL and options. */
export interface RedisBrokerSettings {
  readonly target: RedisTarget;
  readonly keys: wire.Keyspace;
  readonly limits: wire.ClaimLimits;
  /** Seconds. */
  readonly visibilityTimeout: number;
  /** Milliseconds between two refreshes of the claims held here. */
  readonly refreshMs: number;
  /** Milliseconds between two sweeps for abandoned claims. */
  readonly sweepMs: number;
  readonly pollIntervalMs: number;
  /** The key of the revoked ids, with the prefix. */
  readonly revokedKey: string | undefined;
}

/** Throws ConfigError for a URL that cannot be read, and for a cluster whose keys would not share one slot. */
export function redisBrokerSettings(url: string, options: RedisBrokerOptions): RedisBrokerSettings {
  const target = redisTarget(url, options);
  const prefix = options.globalKeyprefix ?? '';
  if (target.cluster !== undefined && !/\{[^}]+\}/.test(prefix)) {
    throw new ConfigError(
      `celery: ${target.maskedUrl} is a cluster: set globalKeyprefix to a hash tag such as '{celery}:' (and global_keyprefix to the same in Python), so that all keys share one slot`,
    );
  }
  const keys = wire.keyspace({
    prefix,
    ...(options.unackedKey === undefined ? {} : { unacked: options.unackedKey }),
    ...(options.unackedIndexKey === undefined ? {} : { unackedIndex: options.unackedIndexKey }),
    ...(options.unackedMutexKey === undefined ? {} : { unackedMutex: options.unackedMutexKey }),
    ...(options.prioritySteps === undefined ? {} : { prioritySteps: options.prioritySteps }),
    ...(options.sep === undefined ? {} : { separator: options.sep }),
  });
  const messageBytes = options.maxMessageBytes ?? 32 * 2 ** 20;
  const visibilityTimeout = options.visibilityTimeout ?? 3600;
  const visibilityMs = visibilityTimeout * 1000;
  const sweepMs = (options.unackedRestoreInterval ?? 10) * 1000;
  return {
    target,
    keys,
    limits: { messageBytes, batchBytes: Math.max(messageBytes, 16 * 2 ** 20) },
    visibilityTimeout,
    // A third of the timeout, so that a sweeper does not take a claim after one missed refresh.
    refreshMs: Math.min(visibilityMs / 3, 60_000),
    sweepMs: Math.min(sweepMs > 0 ? sweepMs : 10_000, Math.max(visibilityMs, 1_000)),
    pollIntervalMs: (options.pollingInterval ?? 0.05) * 1000,
    revokedKey: options.revokedKey === undefined ? undefined : prefix + options.revokedKey,
  };
}
