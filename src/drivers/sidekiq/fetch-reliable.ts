import { setImmediate as nextTurn } from 'node:timers/promises';
import { queueKey } from '../../../protocols/sidekiq/keys.ts';
import type { Claimed } from '../../../protocols/claims.ts';
import type { Exchange } from '../../../protocols/redis.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { ConnectionError } from '../../errors.ts';
import { pause } from '../../source.ts';
import { ListWaiter, PushWatch } from '../../transports/redis-push.ts';
import type { RedisConnection } from '../../transports/redis.ts';
import type { Fetch, Fetched, FetchHost } from './fetch.ts';
import type { SidekiqContext } from './context.ts';

/** A connection each; of pushes to other queues the watch tells. */
const LISTS_WAITED_AT = 4;
/** Milliseconds between two looks where the server cannot tell of a push. */
const POLLING_MS = 50;

interface Waiting {
  readonly queue: string;
  readonly waiter: ListWaiter;
  pending: Promise<void> | undefined;
}

/**
 * Moves jobs to the claims of this process, many in a trip. Where the queues are empty it waits without taking anything: a pop
 * that blocks would lose its job with the connection it was on the way to.
 */
export class ReliableFetch implements Fetch {
  readonly #context: SidekiqContext;
  readonly #host: FetchHost;
  readonly #queues: readonly string[];
  /** Whether this one has a connection of its own. */
  readonly #own: boolean;
  #redis: RedisConnection | undefined;
  #watch: PushWatch | undefined;
  #watching: Promise<void> | undefined;
  #waiters: Waiting[] = [];
  /** The queues of the waiters that are waiting, or about to. */
  readonly #waitedAt = new Set<string>();
  #arrived: Fetched[] = [];
  /** Whether the next receive begins with a fetch. */
  #poll = true;
  #receiving = false;

  constructor(context: SidekiqContext, host: FetchHost, queues: readonly string[], own: boolean) {
    this.#context = context;
    this.#host = host;
    this.#queues = queues;
    this.#own = own;
  }

  async open(): Promise<void> {
    const { log } = this.#context;
    const redis = this.#own ? this.#context.connection() : this.#context.redis;
    await redis.connect();
    this.#redis = redis;
    this.#watch = new PushWatch(redis, log);
    await this.#watch.open();
    for (const queue of this.#queues.slice(0, LISTS_WAITED_AT)) {
      const waiter = new ListWaiter(queueKey(this.#context.keys, queue), this.#context.app.target, log);
      await waiter.open();
      this.#waiters.push({ queue, waiter, pending: undefined });
      this.#waitedAt.add(queue);
    }
  }

  async receive(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]> {
    this.#receiving = true;
    try {
      const jobs = await this.#receive(max, begin, signal);
      // A waiter was served, and so was the fetch beside it.
      if (jobs.length > max) await this.#giveBack(jobs.splice(max));
      return jobs;
    } finally {
      this.#receiving = false;
    }
  }

  async #receive(max: number, begin: number, signal: AbortSignal): Promise<Fetched[]> {
    const watch = this.#watch as PushWatch;
    for (let waited = false; !signal.aborted && !waited;) {
      if (this.#arrived.length > 0) break;
      const { seen } = watch;
      const fetched = this.#poll ? await this.#fetch(max, begin, signal) : [];
      if (fetched.length > 0) {
        // A waiter was served at the push, before this; its answer may be the next to be read.
        if (this.#waiters.some(({ pending }) => pending !== undefined)) await nextTurn();
        return [...this.#arrived.splice(0), ...fetched];
      }
      // A waiter's answer may have come while this was under way.
      if (this.#arrived.length > 0) break;
      this.#poll = await this.#nextPush(seen, signal);
      // Nothing for a second: whoever asks hears so, and knows that we are alive.
      waited = !this.#poll;
    }
    const arrived = this.#arrived.splice(0);
    if (arrived.length > 0) this.#poll = true;
    return arrived;
  }

  async quiet(): Promise<void> {
    const waiters = this.#waiters.splice(0);
    let waiting = true;
    const answered = Promise.all(waiters.map(({ pending }) => pending ?? Promise.resolve())).then(
      () => (waiting = false),
    );
    while (waiting) {
      // Again and again: a wait that was only being sent was not there to be ended.
      await this.#endWaits(waiters);
      await Promise.race([answered, pause(20)]);
    }
    await Promise.all(waiters.map(({ waiter }) => waiter.close()));
    await this.#giveBack(this.#arrived.splice(0));
  }

  async close(): Promise<void> {
    await Promise.all(this.#waiters.splice(0).map(({ waiter }) => waiter.close()));
    await this.#watch?.close();
    if (this.#own) await this.#redis?.close();
  }

  async #fetch(max: number, begin: number, signal: AbortSignal): Promise<readonly Fetched[]> {
    await (this.#redis as RedisConnection).whenReady(signal);
    await this.#context.claims.recoverLostReplies();
    const queues = this.#host.order();
    if (queues.length === 0) return [];
    return this.#claim(queues, max, begin, (exchange) => (this.#redis as RedisConnection).run(exchange));
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

  /**
   * Until something was pushed, or some time passed. Whether a look is due: while waiters look at every list themselves, once
   * a second, it is not, unless the watch heard of a push to a list that nobody waits at.
   */
  async #nextPush(seen: number, signal: AbortSignal): Promise<boolean> {
    const watch = this.#watch as PushWatch;
    if (watch.seen !== seen) return true;
    this.#watching ??= watch
      .next(seen, watch.active ? 1_000 : POLLING_MS, signal)
      .finally(() => (this.#watching = undefined));
    const pushes: Promise<void>[] = [this.#watching];
    const open = new Set(this.#host.order());
    for (const waiting of this.#waiters) {
      // A list that is paused would answer at once, and give nothing.
      if (waiting.pending !== undefined) pushes.push(waiting.pending);
      else if (open.has(waiting.queue)) pushes.push((waiting.pending = this.#waitAt(waiting)));
    }
    await (pushes.length === 1 ? pushes[0] : Promise.race(pushes));
    // The watch hears of a push that a waiter was served with, too, and often first: its answer is in this very turn.
    if (this.#waiters.length > 0 && this.#arrived.length === 0) await nextTurn();
    return watch.seen !== seen || !watch.active || this.#waitedAt.size < this.#queues.length;
  }

  /** One job, fetched by the server at the moment of the push: no more, since nobody may want more by then. */
  async #waitAt(waiting: Waiting): Promise<void> {
    try {
      const fetched = await this.#claim([waiting.queue], 1, 1, (exchange) => waiting.waiter.wait(1, exchange));
      if (this.#waiters.includes(waiting)) this.#waitedAt.add(waiting.queue);
      this.#arrived.push(...fetched);
      // Nobody asks any more: what would wait here for a free slot may run elsewhere.
      if (!this.#receiving) await this.#giveBack(this.#arrived.splice(0));
    } catch (error) {
      this.#waitedAt.delete(waiting.queue);
      if (error instanceof ConnectionError) {
        // The next wait waits for the connection; the pause is for one that comes back only to refuse.
        if (this.#waiters.includes(waiting)) await pause(100);
      } else {
        // A server without BLMOVE, or a user who may not call it: pushes are heard of all the same, a trip later.
        this.#context.log.debug({ error }, 'this Redis does not let us wait at a list');
        this.#waiters = this.#waiters.filter((one) => one !== waiting);
        await waiting.waiter.close();
      }
    } finally {
      waiting.pending = undefined;
    }
  }

  /** The last one first, so that the first one runs next. One that cannot be given back stays a claim, and is found later. */
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

  /** Where CLIENT is forbidden, a wait ends by itself within a second. */
  async #endWaits(waiters: readonly Waiting[]): Promise<void> {
    // Without its connection a wait has nothing under way, and would only wait for that.
    for (const { waiter } of waiters) if (waiter.id === undefined) await waiter.close();
    const ids = waiters.filter(({ pending }) => pending !== undefined).map(({ waiter }) => waiter.id);
    const commands = ids.filter((id) => id !== undefined).map((id) => ['CLIENT', 'UNBLOCK', id] as const);
    if (this.#redis?.ready !== true) return;
    await this.#redis.run(wire.writes(commands)).catch(() => undefined);
  }
}
