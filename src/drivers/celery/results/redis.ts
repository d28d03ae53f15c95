import { groupResultKey, resultKey } from '../../../../protocols/celery/brokers/keys.ts';
import { storeResults } from '../../../../protocols/celery/brokers/redis.ts';
import type { Command } from '../../../../protocols/redis.ts';
import { ConfigError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { RedisConnection } from '../../../transports/redis.ts';
import { redisTarget, type RedisTarget, type RedisTargetOptions } from '../../../transports/redis-url.ts';
import type { ResultBackend } from '../brokers/broker.ts';
import { RedisChords } from './chords-redis.ts';

/** `result_backend_transport_options` of Celery, in camelCase, and `result_expires`. */
export interface RedisResultsOptions extends RedisTargetOptions {
  /** Seconds; 0 keeps results for ever. @default 86400 */
  readonly resultExpires?: number;
  /** Unlike with the broker's prefix, Celery adds a `_` unless it ends in one of `:_-.` */
  readonly globalKeyprefix?: string;
  /** Pass a chord's results to its body in the order of its header. All workers of a cluster must agree. @default true */
  readonly resultChordOrdered?: boolean;
}

interface Result {
  readonly key: string;
  readonly meta: string | Uint8Array;
}

export class RedisResults implements ResultBackend {
  readonly kind = 'redis';
  readonly address: string;
  readonly chords: RedisChords;
  readonly #target: RedisTarget;
  readonly #expires: number;
  readonly #prefix: string;
  readonly #listeners = new Map<string, Set<(meta: Buffer) => void>>();
  #log: Logger = silent;
  #redis: RedisConnection | undefined;
  #subscriber: RedisConnection | undefined;
  #opening: Promise<void> | undefined;
  #listening: Promise<void> | undefined;
  #store: ((result: Result) => Promise<void>) | undefined;

  constructor(url: string, options: RedisResultsOptions = {}) {
    this.#target = redisTarget(url, options);
    this.address = this.#target.maskedUrl;
    this.#expires = Math.trunc(options.resultExpires ?? 86_400);
    const prefix = options.globalKeyprefix ?? '';
    this.#prefix = prefix === '' || /[:_\-.]$/.test(prefix) ? prefix : `${prefix}_`;
    this.chords = new RedisChords(() => this.#connection().redis, {
      prefix: this.#prefix,
      expires: this.#expires,
      ordered: options.resultChordOrdered ?? true,
    });
    if (this.#target.cluster !== undefined && !/\{[^}]+\}/.test(prefix)) {
      throw new ConfigError(
        `celery: ${this.address} is a cluster: set globalKeyprefix of resultBackendTransportOptions to a hash tag such as '{celery}:' (and global_keyprefix of result_backend_transport_options to the same in Python), so that all keys share one slot`,
      );
    }
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    return (this.#opening ??= this.#open());
  }

  store(id: string, meta: Uint8Array | string): Promise<void> {
    return this.#connection().store({ key: resultKey(this.#prefix, id), meta });
  }

  async fetch(id: string): Promise<Buffer | undefined> {
    return (await this.fetchMany([id]))[0];
  }

  fetchMany(ids: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    return this.#read(ids.map((id) => resultKey(this.#prefix, id)));
  }

  async watch(id: string, listener: (meta: Buffer) => void): Promise<() => void> {
    const channel = resultKey(this.#prefix, id);
    await (this.#listening ??= this.#listen());
    const subscriber = this.#subscriber as RedisConnection;
    let listeners = this.#listeners.get(channel);
    if (listeners === undefined) {
      this.#listeners.set(channel, (listeners = new Set<(meta: Buffer) => void>()));
      listeners.add(listener);
      await subscriber.subscribe(channel);
    } else {
      listeners.add(listener);
    }
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#listeners.get(channel) !== listeners) return;
      this.#listeners.delete(channel);
      void subscriber.unsubscribe(channel).catch(() => undefined);
    };
  }

  async forget(id: string): Promise<void> {
    await this.#connection().redis.run({
      commands: [['DEL', resultKey(this.#prefix, id)]],
      atomic: false,
      read: () => undefined,
    });
  }

  async storeGroup(groupId: string, meta: string): Promise<void> {
    const key = groupResultKey(this.#prefix, groupId);
    const set: Command = this.#expires > 0 ? ['SETEX', key, this.#expires, meta] : ['SET', key, meta];
    await this.#connection().redis.run({
      commands: [set, ['PUBLISH', key, meta]],
      atomic: true,
      read: () => undefined,
    });
  }

  async fetchGroup(groupId: string): Promise<Buffer | undefined> {
    return (await this.#read([groupResultKey(this.#prefix, groupId)]))[0];
  }

  /** Redis expires results by itself. */
  async cleanup(): Promise<void> {}

  async close(): Promise<void> {
    await this.#subscriber?.close();
    await this.#redis?.close();
    this.#redis = this.#subscriber = this.#opening = this.#listening = undefined;
  }

  async #open(): Promise<void> {
    const redis = new RedisConnection(this.#target, { log: this.#log });
    try {
      await redis.connect();
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
    this.#redis = redis;
    // A key written twice in one turn (STARTED, then SUCCESS) keeps its order: the script writes them one after the other.
    this.#store = redis.batchPerTick((results: readonly Result[]) => storeResults(results, this.#expires));
  }

  async #listen(): Promise<void> {
    const subscriber = new RedisConnection(this.#target, { log: this.#log });
    subscriber.onMessage((channel, message) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(message as Buffer);
    });
    let first = true;
    subscriber.onReady(() => {
      if (first || this.#listeners.size === 0) {
        first = false;
        return;
      }
      void this.#catchUp(subscriber).catch(() => undefined);
    });
    await subscriber.connect();
    this.#subscriber = subscriber;
  }

  /** After a lost connection: subscribes again, then reads the results that were published in between. */
  async #catchUp(subscriber: RedisConnection): Promise<void> {
    const channels = [...this.#listeners.keys()];
    await subscriber.subscribe(...channels);
    const metas = await this.#read(channels);
    for (const [index, channel] of channels.entries()) {
      const meta = metas[index];
      if (meta !== undefined) for (const listener of this.#listeners.get(channel) ?? []) listener(meta);
    }
  }

  #connection(): { readonly redis: RedisConnection; readonly store: (result: Result) => Promise<void> } {
    if (this.#redis === undefined || this.#store === undefined)
      throw new ConfigError('celery: the result backend is not open');
    return { redis: this.#redis, store: this.#store };
  }

  async #read(keys: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    if (keys.length === 0) return [];
    return this.#connection().redis.run({
      commands: [['MGET', ...keys]],
      atomic: false,
      read: ([values]) => (values as readonly (Buffer | null)[]).map((value) => value ?? undefined),
    });
  }
}
