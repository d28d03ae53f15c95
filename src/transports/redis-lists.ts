import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Exchange } from '../../protocols/redis.ts';
import { ConnectionError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { pause } from '../source.ts';
import { ListWaiter, PushWatch } from './redis-push.ts';
import type { RedisConnection } from './redis.ts';
import type { RedisTarget } from './redis-url.ts';

/** Sends an exchange on the connection that waits at a list, right behind the wait: the server runs both in one step. */
export type SendBehindWait = <Reply>(exchange: Exchange<Reply>) => Promise<Reply>;

export interface RedisListsOptions<Item> {
  /** The connection that `take` claims with: the server remembers which lists it found empty there, and reports pushes to them. */
  readonly commands: RedisConnection;
  /** Where each connection that waits at a list connects to. */
  readonly target: RedisTarget;
  readonly log: Logger;
  /** Claim one item by an exchange that goes through `send`: at the moment of a push to `list`. */
  readonly takeAt: (list: string, send: SendBehindWait) => Promise<readonly Item[]>;
  /** `all`: `takeAt` claims from every list, so one connection that waits makes a poll superfluous. `one`: only from the list of its push. */
  readonly takesFrom: 'all' | 'one';
  /** The lists to wait at now: a list that is paused would answer at once, and give nothing. @default every list */
  readonly open?: () => ReadonlySet<string>;
  /** Whether `take` is due for a reason of the caller's, such as a lost reply that it must recover. @default never */
  readonly due?: () => boolean;
  /** Called with items that arrive while no `receive` is under way; it may not throw. @default they are kept for the next `receive` */
  readonly unasked?: (items: Item[]) => Promise<void>;
  /** Milliseconds between two polls where the server cannot report a push. @default 50 */
  readonly pollIntervalMs?: number;
}

/** Each of these lists has its own connection. Pushes to other lists are reported by the server (`PushWatch`). */
const LISTS_WAITED_AT = 4;

interface Waiting {
  readonly waiter: ListWaiter;
  pending: Promise<void> | undefined;
}

/**
 * Claims items of some lists. Where the lists are empty it waits without taking anything: a blocking pop would lose its item if the connection ended
 * before the reply arrived. Items arrive in two ways. `take` claims many. A connection that waits at a list claims one item at the moment of a push,
 * in a single round trip.
 */
export class RedisLists<Item> {
  readonly #options: RedisListsOptions<Item>;
  readonly #watch: PushWatch;
  readonly #lists = new Set<string>();
  #watching: Promise<void> | undefined;
  #waiters: Waiting[] = [];
  /** The lists whose connections wait, or are about to. */
  readonly #waitedAt = new Set<string>();
  #arrived: Item[] = [];
  /** Whether the next receive begins with a take. */
  #poll = true;
  #receiving = false;

  constructor(options: RedisListsOptions<Item>) {
    this.#options = options;
    this.#watch = new PushWatch(options.commands, options.log);
  }

  /** The lists that some connection waits at: `take` need not ask the server to report pushes to them. */
  get waitedAt(): ReadonlySet<string> {
    return this.#waitedAt;
  }

  /** Begin with these lists. The first four are waited at. */
  async start(lists: readonly string[]): Promise<void> {
    // In a cluster each node has its own tracking table, so a cluster is polled.
    if (!this.#isCluster) await this.#watch.open();
    for (const list of lists) await this.#add(list);
  }

  /** Adds a list. */
  async add(list: string): Promise<void> {
    await this.#add(list);
    this.poke();
  }

  /** Removes a list. Items that its connection claimed meanwhile are received as before. */
  async remove(list: string): Promise<void> {
    this.#lists.delete(list);
    this.#waitedAt.delete(list);
    const waiters = this.#waiters.filter(({ waiter }) => waiter.list === list);
    this.#waiters = this.#waiters.filter(({ waiter }) => waiter.list !== list);
    await this.#endAll(waiters);
    this.poke();
  }

  /** As if there had been a push: the next step is a take. */
  poke(): void {
    this.#watch.poke();
  }

  /**
   * Resolves with the items of `take` as soon as there are any, and with the items that the waiting connections claimed: each of them may add one
   * item. [] when `signal` aborts, or when no item came for a second. Call it one at a time. Rejects as `take` does.
   */
  async receive(take: () => Promise<readonly Item[]>, signal: AbortSignal): Promise<Item[]> {
    this.#receiving = true;
    try {
      return await this.#receive(take, signal);
    } finally {
      this.#receiving = false;
    }
  }

  async #receive(take: () => Promise<readonly Item[]>, signal: AbortSignal): Promise<Item[]> {
    const { due } = this.#options;
    for (let waited = false; !signal.aborted && !waited;) {
      if (this.#arrived.length > 0) break;
      const { seen } = this.#watch;
      const taken = this.#poll || due?.() === true ? await take() : [];
      if (taken.length > 0) {
        // A waiting connection may have claimed an item at the push, before this take. Its reply may be the next to be read.
        if (this.#waiters.some(({ pending }) => pending !== undefined)) await nextTurn();
        return [...this.#arrived.splice(0), ...taken];
      }
      // The reply of a waiting connection may have come while this take was under way.
      if (this.#arrived.length > 0) break;
      this.#poll = await this.#nextPush(seen, signal);
      // No item for a second: the caller gets an empty list, and knows that this source is alive.
      waited = !this.#poll;
    }
    const arrived = this.#arrived.splice(0);
    if (arrived.length > 0) this.#poll = true;
    return arrived;
  }

  /** Ends all waits. Then resolves to the items that arrived and were not received: the caller gives them back. */
  async quiet(): Promise<Item[]> {
    await this.#endAll(this.#waiters.splice(0));
    return this.#arrived.splice(0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#waiters.splice(0).map(({ waiter }) => waiter.close()));
    await this.#watch.close();
  }

  get #isCluster(): boolean {
    return this.#options.target.cluster !== undefined;
  }

  async #add(list: string): Promise<void> {
    this.#lists.add(list);
    if (this.#isCluster || this.#waiters.length >= LISTS_WAITED_AT) return;
    const waiter = new ListWaiter(list, this.#options.target, this.#options.log);
    await waiter.open();
    this.#waiters.push({ waiter, pending: undefined });
    this.#waitedAt.add(list);
  }

  /**
   * Waits until an item was pushed, or some time passed. Resolves with whether a take is due. While waiting connections poll every list themselves,
   * once a second, a take is due only when the server reported a push to a list that no connection waits at. Two claims at once could swap the order
   * of two messages.
   */
  async #nextPush(seen: number, signal: AbortSignal): Promise<boolean> {
    const watch = this.#watch;
    const { open, takesFrom, pollIntervalMs = 50 } = this.#options;
    if (watch.seen !== seen) return true;
    // A wait for reports continues when another answer came first. At worst it ends this wait a little early.
    this.#watching ??= watch
      .next(seen, watch.active ? 1_000 : pollIntervalMs, signal)
      .finally(() => (this.#watching = undefined));
    const pushes: Promise<void>[] = [this.#watching];
    const lists = open?.();
    for (const waiting of this.#waiters) {
      if (waiting.pending !== undefined) pushes.push(waiting.pending);
      else if (lists === undefined || lists.has(waiting.waiter.list))
        pushes.push((waiting.pending = this.#waitAt(waiting)));
    }
    await (pushes.length === 1 ? pushes[0] : Promise.race(pushes));
    // The server also reports a push whose item a waiting connection claimed, and often sends the report first. Then the reply is read in this same
    // turn.
    if (this.#waiters.length > 0 && this.#arrived.length === 0) await nextTurn();
    const covered = takesFrom === 'all' ? this.#waitedAt.size > 0 : this.#waitedAt.size >= this.#lists.size;
    return watch.seen !== seen || !watch.active || !covered;
  }

  /** Waits at one list. The server claims one item at the moment of the push; only one, because by then perhaps no more are wanted here. */
  async #waitAt(waiting: Waiting): Promise<void> {
    const { waiter } = waiting;
    const { log, takeAt, unasked } = this.#options;
    try {
      const items = await takeAt(waiter.list, (exchange) => waiter.wait(1, exchange));
      if (this.#waiters.includes(waiting)) this.#waitedAt.add(waiter.list);
      this.#arrived.push(...items);
      // No receive is under way: this item would wait here for a free slot, and another worker may have one now.
      if (!this.#receiving && unasked !== undefined) await unasked(this.#arrived.splice(0));
    } catch (error) {
      this.#waitedAt.delete(waiter.list);
      if (error instanceof ConnectionError) {
        // The next wait waits for the connection. The pause is for a server that accepts the connection and refuses each time.
        if (this.#waiters.includes(waiting)) await pause(100);
      } else {
        // The server has no BLMOVE, or this user may not call it. The server still reports pushes, which costs one more round trip.
        log.debug({ error }, 'this Redis does not allow waiting at a list');
        this.#waiters = this.#waiters.filter((one) => one !== waiting);
        await waiter.close();
      }
    } finally {
      waiting.pending = undefined;
    }
  }

  async #endAll(waiters: readonly Waiting[]): Promise<void> {
    let waiting = true;
    const answered = Promise.all(waiters.map(({ pending }) => pending ?? Promise.resolve())).then(
      () => (waiting = false),
    );
    while (waiting) {
      // Repeated, because a wait that was still being sent cannot be ended yet.
      await this.#endWaits(waiters);
      await Promise.race([answered, pause(20)]);
    }
    await Promise.all(waiters.map(({ waiter }) => waiter.close()));
  }

  /** Where CLIENT is forbidden, a wait ends by itself within a second. */
  async #endWaits(waiters: readonly Waiting[]): Promise<void> {
    const { commands: redis } = this.#options;
    // A wait without a connection has no command under way, and would only wait for a connection.
    for (const { waiter } of waiters) if (waiter.id === undefined) await waiter.close();
    const ids = waiters.filter(({ pending }) => pending !== undefined).map(({ waiter }) => waiter.id);
    const commands = ids.filter((id) => id !== undefined).map((id) => ['CLIENT', 'UNBLOCK', id] as const);
    if (!redis.ready) return;
    await redis.run({ commands, atomic: false, read: () => undefined }).catch(() => undefined);
  }
}
