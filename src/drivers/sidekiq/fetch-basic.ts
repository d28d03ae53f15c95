import * as wire from '../../../protocols/sidekiq/redis.ts';
import { type Logger, silent } from '../../log.ts';
import { pause } from '../../source.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { Fetch, Fetched, FetchHost } from './fetch.ts';
import type { SidekiqContext } from './context.ts';

/** Seconds; the same time as Sidekiq waits. */
const WAIT = 2;

/**
 * BRPOP, as in Sidekiq's own fetch. After the pop the job exists in this process only, and is lost with it. The connection is never closed during a
 * wait, because a reply with a job may be on its way.
 */
export class BasicFetch implements Fetch {
  readonly #context: SidekiqContext;
  readonly #host: FetchHost;
  #redis: RedisConnection | undefined;
  #id: number | undefined;
  #pending: Promise<unknown> | undefined;
  #quiet = false;
  #log: Logger = silent;

  constructor(context: SidekiqContext, host: FetchHost) {
    this.#context = context;
    this.#host = host;
  }

  async open(): Promise<void> {
    this.#log = this.#context.log;
    const redis = this.#context.connection();
    this.#redis = redis;
    redis.onReady(() => void this.#learnId(redis));
    await redis.connect();
    await this.#learnId(redis);
  }

  async receive(_max: number, _begin: number, signal: AbortSignal): Promise<readonly Fetched[]> {
    const queues = this.#host.order();
    if (queues.length === 0) {
      await pause(WAIT * 1000, signal);
      return [];
    }
    await (this.#redis as RedisConnection).whenReady(signal);
    if (this.#quiet || signal.aborted) return [];
    const popping = (this.#redis as RedisConnection).run(wire.brpop(this.#context.keys, queues, WAIT));
    this.#pending = popping;
    try {
      const found = await popping;
      return found === undefined ? [] : [{ ...found, claim: undefined }];
    } finally {
      this.#pending = undefined;
    }
  }

  async quiet(): Promise<void> {
    this.#quiet = true;
    // This repeats: if the BRPOP was still being sent, UNBLOCK found no wait to end. Without CLIENT UNBLOCK the wait ends by its timeout.
    for (let pending = this.#pending; pending !== undefined; pending = this.#pending) {
      if (this.#id !== undefined) {
        await this.#context
          .run(wire.writes([['CLIENT', 'UNBLOCK', this.#id]]))
          .catch((error: unknown) => this.#log.debug({ error }, 'a wait could not be ended early'));
      }
      await Promise.race([pending.catch(() => undefined), pause(20)]);
    }
  }

  async close(): Promise<void> {
    await this.#redis?.close();
  }

  async #learnId(redis: RedisConnection): Promise<void> {
    this.#id = undefined;
    try {
      this.#id = await redis.run({
        commands: [['CLIENT', 'ID']],
        atomic: false,
        read: ([reply]) => reply as number,
      });
    } catch (error) {
      this.#log.debug({ error }, 'this connection has no id to end its waits by');
    }
  }
}
