import * as wire from '../../protocols/claims.ts';
import type { Command, Exchange } from '../../protocols/redis.ts';
import { RenewingMap } from '../renewing.ts';
import { ConnectionError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { LostReplies } from '../lost-replies.ts';
import type { RedisConnection } from './redis.ts';

/** The object that holds a claim. */
export interface Holder {
  /** The claim is lost: another process has the job. */
  lose(): void;
}

export interface ClaimsOptions {
  readonly redis: RedisConnection;
  readonly log: Logger;
  /** The hash of this process's claims. */
  readonly claims: string;
  /** The hash that records which of them have begun; `process` is the field of this process. */
  readonly begun: string;
  readonly process: string;
  /** The commands that put a job back where it was taken from, so that it is the next to be taken. */
  readonly giveBack: (queue: string, bytes: Uint8Array) => readonly Command[];
}

/** How many jobs are read back at once: jobs may be large. */
const BATCH = 20;

/**
 * The jobs that this process has taken and not settled. Each is a field of a hash in Redis under this process's name; when this process is dead,
 * another process empties that hash. This class knows which of the claims are still held here.
 */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #held = new RenewingMap<string, Holder | undefined>();
  /** Ranges of claims whose reply has not arrived: they must not be given back yet. */
  readonly #underWay = new Set<{ readonly from: number; readonly to: number }>();
  #last = 0;
  /** All claims up to this number have begun, and Redis knows that or is about to be told. */
  #begun = 0;
  readonly #tellBegun: (item: undefined) => Promise<void>;
  readonly #lostReplies = new LostReplies();

  constructor(options: ClaimsOptions) {
    this.#options = options;
    const { redis, process } = options;
    this.#tellBegun = redis.batchPerTick(() => wire.begunUpTo(options, process, this.#begun));
  }

  get size(): number {
    return this.#held.size;
  }
  /** The holders of claims, in the order in which the claims were made. */
  get holders(): readonly Holder[] {
    return [...this.#held.values()].filter((holder) => holder !== undefined);
  }

  /** Take up to `max` jobs. `build` makes the exchange from `max`, the number of the last claim and `begin`; `begin` of the jobs begin at once. */
  async take(
    max: number,
    begin: number,
    build: (max: number, last: number, begin: number) => Exchange<wire.Claimed>,
    run: (exchange: Exchange<wire.Claimed>) => Promise<wire.Claimed> = (exchange) => this.#options.redis.run(exchange),
  ): Promise<wire.Claimed> {
    const range = { from: this.#last + 1, to: this.#last + Math.max(max, 1) };
    const last = this.#last;
    const exchange = build(max, last, begin);
    this.#last = range.to;
    this.#underWay.add(range);
    try {
      const taken = await run(exchange);
      for (const { claim } of taken.claimed) this.#held.set(claim, undefined);
      const begun = Math.min(begin, taken.claimed.length);
      if (begun > 0) this.#begun = Math.max(this.#begun, last + begun);
      return taken;
    } catch (error) {
      this.#lostReplies.lost();
      throw error;
    } finally {
      this.#underWay.delete(range);
    }
  }

  /** Sets the holder of a claim: its `lose` is called when the claim is lost. */
  holds(claim: string, holder: Holder): void {
    this.#held.set(claim, holder);
  }

  /**
   * The handler of this claim begins. That is written with the other commands of this turn, and the handler does not wait for the write. For jobs
   * that were taken for free slots, Redis has it already. If the write fails, the write of a later claim covers this one, too.
   */
  begins(claim: string): void {
    const { number } = wire.readClaim(claim);
    if (number <= this.#begun) return;
    this.#begun = number;
    this.#tellBegun(undefined).catch((error: unknown) =>
      this.#options.log.debug({ error }, 'which jobs have begun could not be told'),
    );
  }

  /** The claim is deleted in Redis: it is no longer held here. */
  ended(claim: string): void {
    this.#held.delete(claim);
  }

  /** Give the claim up and run these commands for its job, in one step. False when the claim was gone and nothing was done. */
  async exchange(claim: string, commands: readonly Command[]): Promise<boolean> {
    const done = await this.#options.redis.run(wire.exchangeClaim(this.#options.claims, claim, commands));
    this.#held.delete(claim);
    return done;
  }

  /** Nothing in this process will settle the claim: it goes back to its queue before more is taken. */
  forget(claim: string): void {
    this.#held.delete(claim);
    this.#lostReplies.lost();
  }

  /** Called before more jobs are taken. Jobs that were claimed under this process's name and never arrived go back to their queues. */
  recoverLostReplies(): Promise<void> {
    return this.#lostReplies.recover(() => this.recover());
  }

  /** Claims under this process's name that are not held here go back to their queues. The first one runs next. */
  async recover(): Promise<void> {
    const { redis, claims, giveBack, log } = this.#options;
    const stray = (await redis.run(wire.claimsOf(claims))).filter((claim) => this.#isStray(claim)).reverse();
    for (let at = 0; at < stray.length; at += BATCH) {
      const some = stray.slice(at, at + BATCH);
      const values = await redis.run(wire.claimedBytes(claims, some));
      for (const [index, claim] of some.entries()) {
        const bytes = values[index];
        if (bytes === undefined) continue;
        const { queue } = wire.readClaim(claim);
        try {
          await this.exchange(claim, giveBack(queue, bytes));
        } catch (error) {
          if (error instanceof ConnectionError) throw error;
          // A key of one queue that is not a list must not block the jobs of the other queues.
          log.warn({ queue, error }, 'a job claimed for this process cannot be put back; its claim is kept');
        }
      }
    }
    if (stray.length > 0)
      log.warn({ jobs: stray.length }, 'jobs claimed for this process never arrived; they are back in their queues');
  }

  /** Called after this process was taken for dead. Finds the claims that are gone, calls `lose` of their holders, and returns their number. */
  async verify(): Promise<number> {
    const before = [...this.#held.keys()];
    if (before.length === 0) return 0;
    const left = new Set(await this.#options.redis.run(wire.claimsOf(this.#options.claims)));
    let lost = 0;
    for (const claim of before) {
      // A claim that was settled meanwhile is not lost.
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
}

export interface RescueOptions {
  readonly redis: RedisConnection;
  /** The set of processes that may have claims. `process` is this one. */
  readonly claimants: string;
  readonly process: string;
  /** The hash that records which claims of each process have begun. */
  readonly begun: string;
  /** The key that exists while a process lives. `claimsKey` is its hash of claims. */
  readonly aliveKey: (process: string) => string;
  readonly claimsKey: (process: string) => string;
  /** How to give back, or to bury, a job of a dead process. */
  readonly rescueOf: (claim: string, bytes: Uint8Array, process: string) => wire.Rescue;
  /** How many deaths of its process bury a job. */
  readonly limit: number;
  readonly buried: (claim: string, process: string) => void;
  /** Called when all jobs of a dead process are back, to clean up after it. */
  readonly gone: (process: string, jobs: number) => Promise<void>;
}

/**
 * Gives back the jobs of dead processes. A process is dead when its key has expired at two polls in a row. So after Redis was away, every process has
 * time to write its key again. The first job of a process runs next.
 */
export class Rescuer {
  readonly #options: RescueOptions;
  #suspects = new Set<string>();

  constructor(options: RescueOptions) {
    this.#options = options;
  }

  /** One poll. `certain`: a process that is not alive now is dead, without a second poll. */
  async look(signal: AbortSignal, certain = false): Promise<void> {
    const { redis, claimants, process, aliveKey } = this.#options;
    const known = this.#suspects;
    // If the next commands fail, no process is suspected.
    this.#suspects = new Set();
    const others = (await redis.run(wire.claimants(claimants))).filter((one) => one !== process);
    const alive = await redis.run(wire.alive(others.map(aliveKey)));
    const dead = others.filter((_, at) => alive[at] !== true);
    this.#suspects = new Set(dead);
    for (const one of dead) if ((certain || known.has(one)) && !signal.aborted) await this.#rescue(one, signal);
  }

  async #rescue(process: string, signal: AbortSignal): Promise<void> {
    const { redis, aliveKey, claimsKey, claimants, begun, rescueOf, limit, buried, gone } = this.#options;
    const claims = claimsKey(process);
    const left = await redis.run(wire.claimsLeft({ claims, begun }, process));
    // The job that it took first is pushed last, and so runs first.
    const fields = [...left.fields].reverse();
    // Jobs with the same bytes share one counter, and this process died only once.
    const counted = new Map<string, number>();
    const deathOf = (claim: string, counter: string): number => {
      const waited = left.begun !== undefined && wire.readClaim(claim).number > left.begun;
      const before = counted.get(counter) ?? 0;
      const more = Math.max(0, (waited ? wire.DEATH.waited : wire.DEATH.begun) - before);
      counted.set(counter, before + more);
      return more;
    };
    let back = 0;
    let kept = 0;
    for (let at = 0; at < fields.length; at += BATCH) {
      if (signal.aborted) return;
      const some = fields.slice(at, at + BATCH);
      const values = await redis.run(wire.claimedBytes(claims, some));
      const rescues = some.flatMap((claim, index) => {
        const bytes = values[index];
        if (bytes === undefined) return [];
        return [rescueOf(claim, bytes, process)];
      });
      const deaths = rescues.map((one) => (one.harmless === true ? 0 : deathOf(one.claim, one.counter)));
      const done = await redis.run(wire.rescue({ claims, alive: aliveKey(process) }, rescues, limit, deaths));
      for (const [index, what] of done.entries()) {
        if (what === 'alive') return;
        if (what === 'back') back += 1;
        if (what === 'kept') kept += 1;
        if (what === 'buried') buried((rescues[index] as wire.Rescue).claim, process);
      }
    }
    await gone(process, back);
    await redis.run(wire.forgetClaimant({ claims, claimants, begun }, process));
    if (kept > 0)
      throw new Error(
        `${kept} jobs of the dead process ${process} cannot be put back: a key of their queue is not a list. Their claims are kept in '${claims}'`,
      );
  }
}
