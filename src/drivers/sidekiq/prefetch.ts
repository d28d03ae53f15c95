import { type Agent, every } from '../../source.ts';
import { SidekiqDelivery } from './delivery.ts';
import type { SidekiqContext } from './context.ts';

/** The prefetch size is the number of jobs that finish in this time. */
const AHEAD_MS = 20;
/** Half the time that a job may wait for a slot before it goes back to its queue. */
const LOOK_MS = 500;

/**
 * Computes how many jobs are fetched in addition to the running ones. If jobs are short, the round trips to Redis would cost more than the jobs. If
 * jobs are long, a job that waits here could run in another process.
 */
export class Prefetch {
  readonly agent: Agent;
  /** Counts the polls. A delivery remembers the poll after which it came. */
  look = 0;
  readonly #context: SidekiqContext;
  readonly #auto: boolean;
  readonly #most: number;
  #size: number;
  #taken = 0;
  #since = 0;

  constructor(context: SidekiqContext, concurrency: number, size: 'auto' | number) {
    this.#context = context;
    this.#auto = size === 'auto';
    this.#most = 2 * concurrency;
    this.#size = size === 'auto' ? 0 : size;
    this.agent = every('sidekiq: give back what waits too long', LOOK_MS, () => this.#giveBack());
  }

  get size(): number {
    return this.#size;
  }

  /** Called before a fetch: measures how fast jobs finish. */
  adapt(): void {
    if (!this.#auto) return;
    const now = performance.now();
    const ms = now - this.#since;
    if (ms < AHEAD_MS) return;
    this.#size = Math.min(this.#most, Math.floor((this.#taken / ms) * AHEAD_MS));
    this.#taken = 0;
    this.#since = now;
  }

  took(count: number): void {
    this.#taken += count;
  }

  async #giveBack(): Promise<void> {
    this.look += 1;
    const late = this.#context.claims.holders
      .filter((one) => one instanceof SidekiqDelivery)
      .filter((one) => one.waits(this, this.look - 2));
    if (late.length === 0) return;
    // The jobs are long now. Nothing is prefetched until jobs are short again.
    if (this.#auto) this.#size = 0;
    this.#taken = 0;
    await Promise.all(late.toReversed().map((one) => one.release()));
  }
}
