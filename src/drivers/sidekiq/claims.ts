import type { Command } from '../../../protocols/redis.ts';
import type { Keyspace } from '../../../protocols/sidekiq/keys.ts';
import * as wire from '../../../protocols/sidekiq/redis.ts';
import { ConfigError } from '../../errors.ts';
import { type Logger, silent } from '../../log.ts';
import type { RedisConnection } from '../../transports/redis.ts';

/** Who holds a claim. */
export interface Holder {
  /** The claim was taken away. */
  lose(): void;
  /** Whose look it was fetched after, and which; undefined once it was started. */
  readonly waitsSince: { readonly of: object; readonly look: number } | undefined;
  release(): Promise<void>;
}

type ClaimExchange = ReturnType<typeof wire.claim>;

/**
 * What this process has fetched and not settled: each job is a field of a hash in Redis under this process's name, which another
 * process empties when this one is dead. Here is known which of them somebody still holds.
 */
export class Claims {
  readonly #keys: Keyspace;
  readonly #limits: wire.ClaimLimits;
  readonly #held = new Map<string, Holder | undefined>();
  /** Ranges of claims whose answer is under way: nobody's to give back yet. */
  readonly #underWay = new Set<{ readonly from: number; readonly to: number }>();
  #identity = '';
  #redis: RedisConnection | undefined;
  #done: ((claim: string) => Promise<void>) | undefined;
  #log: Logger = silent;
  #last = 0;
  #uncertain = false;
  #lookAgainAt = Number.POSITIVE_INFINITY;

  constructor(keys: Keyspace, limits: wire.ClaimLimits) {
    this.#keys = keys;
    this.#limits = limits;
  }

  open(redis: RedisConnection, identity: string, log: Logger): void {
    this.#redis = redis;
    this.#identity = identity;
    this.#log = log;
    this.#done = redis.fold((claims: readonly string[]) => wire.acknowledge(this.#keys, identity, claims));
  }

  get size(): number {
    return this.#held.size;
  }

  /** Fetch up to `max` jobs; `run` says by which connection. */
  async fetch(
    queues: readonly string[],
    max: number,
    run: (exchange: ClaimExchange) => Promise<wire.Claimed>,
  ): Promise<wire.Claimed> {
    const range = { from: this.#last + 1, to: this.#last + Math.max(max, 1) };
    const exchange = wire.claim(this.#keys, this.#identity, queues, { max, last: this.#last, limits: this.#limits });
    this.#last = range.to;
    this.#underWay.add(range);
    try {
      const taken = await run(exchange);
      for (const { claim } of taken.claimed) this.#held.set(claim, undefined);
      return taken;
    } catch (error) {
      // The server may have claimed for us and the answer been lost; looked into before the next fetch.
      this.#uncertain = true;
      throw error;
    } finally {
      this.#underWay.delete(range);
    }
  }

  /** Who is to be told when this claim is lost. */
  holds(claim: string, holder: Holder): void {
    this.#held.set(claim, holder);
  }

  /** What was fetched for `of` up to this look and was not started yet, the first one first. */
  waiting(of: object, look: number): readonly Holder[] {
    const found: Holder[] = [];
    for (const holder of this.#held.values()) {
      const since = holder?.waitsSince;
      if (holder !== undefined && since?.of === of && since.look <= look) found.push(holder);
    }
    return found;
  }

  /** The job is done: nothing of it is kept. */
  async acknowledge(claim: string): Promise<void> {
    await (this.#done as (claim: string) => Promise<void>)(claim);
    this.#held.delete(claim);
  }

  /** Give the claim up and do this with its job, in one step. False when the claim was gone. */
  async exchange(claim: string, commands: readonly Command[]): Promise<boolean> {
    if (commands.length === 0) {
      await this.acknowledge(claim);
      return true;
    }
    const done = await this.#connection().run(wire.exchangeClaim(this.#keys, this.#identity, claim, commands));
    this.#held.delete(claim);
    return done;
  }

  /** Nobody here will settle it: it is looked for before the next fetch, and by the heartbeat. */
  forget(claim: string): void {
    this.#held.delete(claim);
    this.#uncertain = true;
  }

  /** Before a fetch: what was claimed for us and never arrived goes back. */
  async settleDoubts(): Promise<void> {
    if (!this.#uncertain && Date.now() < this.#lookAgainAt) return;
    await this.recover();
    // A server that was frozen may carry out a claim after it was given up here, and after this look.
    this.#lookAgainAt = this.#uncertain ? Date.now() + 10_000 : Number.POSITIVE_INFINITY;
    this.#uncertain = false;
  }

  /** Claims that bear our name and nobody here holds go back to their queues; the first one runs next. */
  async recover(): Promise<void> {
    const redis = this.#connection();
    const stray = (await redis.run(wire.claimsOf(this.#keys, this.#identity))).filter((claim) => this.#isStray(claim));
    if (stray.length === 0) return;
    stray.sort((a, b) => wire.readClaim(b).number - wire.readClaim(a).number);
    for (let at = 0; at < stray.length; at += 20) {
      const some = stray.slice(at, at + 20);
      const values = await redis.run(wire.claimedBytes(this.#keys, this.#identity, some));
      for (const [index, claim] of some.entries()) {
        const bytes = values[index];
        if (bytes === undefined) continue;
        const { queue } = wire.readClaim(claim);
        await this.exchange(claim, wire.requeue(this.#keys, queue, bytes, 'front'));
      }
    }
    this.#log.warn(
      { jobs: stray.length },
      'jobs fetched for this process never arrived; they are back in their queues',
    );
  }

  /** After this process was taken for dead: which claims are gone. Their holders are told; how many. */
  async verify(): Promise<number> {
    const before = [...this.#held.keys()];
    if (before.length === 0) return 0;
    const left = new Set(await this.#connection().run(wire.claimsOf(this.#keys, this.#identity)));
    let lost = 0;
    for (const claim of before) {
      // One that was settled meanwhile is no longer held.
      if (left.has(claim) || !this.#held.has(claim)) continue;
      lost += 1;
      this.#held.get(claim)?.lose();
    }
    return lost;
  }

  #isStray(claim: string): boolean {
    if (this.#held.has(claim)) return false;
    const { number } = wire.readClaim(claim);
    for (const { from, to } of this.#underWay) if (number >= from && number <= to) return false;
    return true;
  }

  #connection(): RedisConnection {
    if (this.#redis === undefined) throw new ConfigError('sidekiq: the source is not open');
    return this.#redis;
  }
}
