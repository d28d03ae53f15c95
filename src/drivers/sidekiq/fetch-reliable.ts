import type { Claimed } from '../../../protocols/claims.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import { queueKey } from '../../../protocols/sidekiq/keys.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { RedisLists } from '../../transports/redis-lists.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { SidekiqContext } from './context.ts';
import type { Fetch, Fetched, FetchHost } from './fetch.ts';

/**
 * Moves jobs to the claims of this process, many in a round trip. If the queues are empty, it waits without taking a job: a blocking pop would lose
 * its job if the connection broke while the reply was on its way.
 */
export class ReliableFetch implements Fetch {
  readonly #context: SidekiqContext;
  readonly #host: FetchHost;
  readonly #queues: readonly string[];
  /** Whether this fetch has a separate connection. */
  readonly #own: boolean;
  #redis: RedisConnection | undefined;
  #lists: RedisLists<Fetched> | undefined;

  constructor(context: SidekiqContext, host: FetchHost, queues: readonly string[], own: boolean) {
    this.#context = context;
    this.#host = host;
    this.#queues = queues;
    this.#own = own;
  }

  async open(): Promise<void> {
    const { log, app } = this.#context;
    const redis = this.#own ? this.#context.connection() : this.#context.redis;
    await redis.connect();
    this.#redis = redis;
    this.#lists = new RedisLists({
      commands: redis,
      target: app.target,
      log,
      takesFrom: 'one',
      takeAt: (list, send) => this.#claim([this.#queueOf(list)], 1, 1, send),
      open: () => new Set(this.#host.order().map((queue) => this.#listOf(queue))),
      // No receive call is waiting any more. The job would wait here for a free slot, but another process may run it now.
      unasked: (jobs) => this.#giveBack(jobs),
    });
    await this.#lists.start(this.#queues.map((queue) => this.#listOf(queue)));
  }

  async receive(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]> {
    const jobs = (await this.#lists?.receive(() => this.#fetch(max, begin, signal), signal)) ?? [];
    // The waiting connection and the fetch beside it may both have returned jobs.
    if (jobs.length > max) await this.#giveBack(jobs.splice(max));
    return jobs;
  }

  async quiet(): Promise<void> {
    await this.#giveBack((await this.#lists?.quiet()) ?? []);
  }

  async close(): Promise<void> {
    await this.#lists?.close();
    if (this.#own) await this.#redis?.close();
  }

  async #fetch(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]> {
    const redis = this.#redis as RedisConnection;
    await redis.whenReady(signal);
    await this.#context.claims.recoverLostReplies();
    const queues = this.#host.order();
    if (queues.length === 0) return [];
    return this.#claim(queues, max, begin, (exchange) => redis.run(exchange));
  }

  async #claim(
    queues: readonly string[],
    max: number,
    begin: number,
    run: (exchange: Exchange<Claimed>) => Promise<Claimed>,
  ): Promise<readonly Fetched[]> {
    const { claims, keys, identity, limits } = this.#context;
    const build = (most: number, last: number, first: number): Exchange<Claimed> =>
      wire.claim(keys, identity, queues, { max: most, last, begin: first, limits });
    const { claimed, aside } = await claims.take(max, begin, build, run);
    for (const job of aside) this.#host.aside(job);
    return claimed;
  }

  /** The last job goes back first, so that the first one runs next. A job that cannot be given back stays a claim, and is found later. */
  async #giveBack(jobs: readonly Fetched[]): Promise<void> {
    const { keys, claims, log } = this.#context;
    await Promise.all(
      jobs.toReversed().map(async ({ claim, queue, bytes }) => {
        try {
          await claims.exchange(claim as string, wire.requeue(keys, queue, bytes, 'front'));
        } catch (error) {
          claims.forget(claim as string);
          log.warn({ queue, error }, 'a job could not be given back yet; it will be');
        }
      }),
    );
  }

  #listOf(queue: string): string {
    return queueKey(this.#context.keys, queue);
  }
  #queueOf(list: string): string {
    return list.slice(queueKey(this.#context.keys, '').length);
  }
}
