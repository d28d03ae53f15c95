import * as wire from '../../protocols/claims.ts';
import type { Command, Exchange } from '../../protocols/redis.ts';
import { RenewingMap } from '../renewing.ts';
import { ConnectionError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { LostReplies } from '../lost-replies.ts';
import type { RedisConnection } from './redis.ts';

/** Who holds a claim. */
export interface Holder {
  /** The claim was taken away: another process has the job. */
  lose(): void;
}

export interface ClaimsOptions {
  readonly redis: RedisConnection;
  readonly log: Logger;
  /** The hash of this process's claims. */
  readonly claims: string;
  /** Where it tells which of them have begun, and its name there. */
  readonly begun: string;
  readonly process: string;
  /** What puts a job back where it was taken from, to be the next. */
  readonly giveBack: (queue: string, bytes: Uint8Array) => readonly Command[];
}

/** How many jobs are read back at once: they may be large. */
const BATCH = 20;

/**
 * What this process has taken and not settled: each job is a field of a hash in Redis under this process's name, which another
 * process empties when this one is dead. Here is known which of them somebody still holds.
 */
export class Claims {
  readonly #options: ClaimsOptions;
  readonly #held = new RenewingMap<string, Holder | undefined>();
  /** Ranges of claims whose answer is under way: nobody's to give back yet. */
  readonly #underWay = new Set<{ readonly from: number; readonly to: number }>();
  #last = 0;
  /** Up to this number all have begun, and Redis knows or is being told. */
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
  /** Who holds claims, in the order they were made. */
  get holders(): readonly Holder[] {
    return [...this.#held.values()].filter((holder) => holder !== undefined);
  }

  /** Take up to `max` jobs by the exchange that `build` makes of it and of the number of the last claim; `begin` of them begin at once. */
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

  /** Who is to be told when this claim is lost. */
  holds(claim: string, holder: Holder): void {
    this.#held.set(claim, holder);
  }

  /**
   * Its handler begins. Redis is told with what else is sent this turn, and nobody waits for that; of what was taken for free slots it knows. Should
   * it not be heard, a later one tells of this one, too.
   */
  begins(claim: string): void {
    const { number } = wire.readClaim(claim);
    if (number <= this.#begun) return;
    this.#begun = number;
    this.#tellBegun(undefined).catch((error: unknown) =>
      this.#options.log.debug({ error }, 'which jobs have begun could not be told'),
    );
  }

  /** Redis has forgotten the claim: nobody holds it any more. */
  ended(claim: string): void {
    this.#held.delete(claim);
  }

  /** Give the claim up and do this with its job, in one step. False when the claim was gone, and nothing was done. */
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

  /** Called before taking more: jobs that were claimed under this process's name and never arrived go back to their queues. */
  recoverLostReplies(): Promise<void> {
    return this.#lostReplies.recover(() => this.recover());
  }

  /** Claims that bear our name and nobody here holds go back to their queues; the first one runs next. */
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
          // One queue that is no list keeps no other from its jobs.
          log.warn({ queue, error }, 'a job claimed for this process cannot be put back; its claim is kept');
        }
      }
    }
    if (stray.length > 0)
      log.warn({ jobs: stray.length }, 'jobs claimed for this process never arrived; they are back in their queues');
  }

  /** After this process was taken for dead: which claims are gone. Their holders are told; how many. */
  async verify(): Promise<number> {
    const before = [...this.#held.keys()];
    if (before.length === 0) return 0;
    const left = new Set(await this.#options.redis.run(wire.claimsOf(this.#options.claims)));
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
}

export interface RescueOptions {
  readonly redis: RedisConnection;
  /** The set of processes that may have claims, and this one. */
  readonly claimants: string;
  readonly process: string;
  /** Which claims of each have begun. */
  readonly begun: string;
  /** The key that is there while a process lives, and its hash of claims. */
  readonly aliveKey: (process: string) => string;
  readonly claimsKey: (process: string) => string;
  /** What becomes of a job of a dead process. */
  readonly rescueOf: (claim: string, bytes: Uint8Array, process: string) => wire.Rescue;
  /** So many deaths of its process bury a job. */
  readonly limit: number;
  readonly buried: (claim: string, process: string) => void;
  /** When all of its jobs are back: what else is left of it. */
  readonly gone: (process: string, jobs: number) => Promise<void>;
}

/**
 * Gives back the jobs of processes that are dead: whose sign of life has expired, at two looks in a row, so that all of them have time
 * to show one again after Redis was away. The first job of a process runs next.
 */
export class Rescuer {
  readonly #options: RescueOptions;
  #suspects = new Set<string>();

  constructor(options: RescueOptions) {
    this.#options = options;
  }

  /** `certain`: what is not alive now is dead. */
  async look(signal: AbortSignal, certain = false): Promise<void> {
    const { redis, claimants, process, aliveKey } = this.#options;
    const known = this.#suspects;
    // Whoever could not be asked is not suspected.
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
    // What it took first is pushed last, and so runs first.
    const fields = [...left.fields].reverse();
    // Jobs that are the same to the letter have one counter, and this process died once.
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
