import { ConfigError } from '../../errors.ts';
import { type RqOptions, wholeNumber } from './options.ts';

/** When a worker stops by itself: its queues are empty (`burst`), it has run enough jobs, or it had no job for too long. */
export class Limits {
  readonly #burst: boolean;
  readonly #maxIdleMs: number;
  readonly #bounded: boolean;
  #jobsLeft: number;
  #busyAt = performance.now();

  constructor({ burst = false, maxJobs, maxIdleTime }: RqOptions) {
    this.#burst = burst;
    this.#bounded = maxJobs !== undefined;
    this.#jobsLeft = maxJobs === undefined ? Number.POSITIVE_INFINITY : wholeNumber('maxJobs', maxJobs, 1);
    if (maxIdleTime !== undefined && !(maxIdleTime > 0))
      throw new ConfigError(`rq: maxIdleTime must be seconds above 0, not ${maxIdleTime}`);
    this.#maxIdleMs = maxIdleTime === undefined ? Number.POSITIVE_INFINITY : maxIdleTime * 1000;
  }

  /** How many jobs may still be taken. */
  get jobsLeft(): number {
    return this.#jobsLeft;
  }

  claimed(jobs: number): void {
    if (jobs === 0) return;
    this.#jobsLeft -= jobs;
    this.#busyAt = performance.now();
  }

  /** How long to wait for a push before these limits are checked again. */
  patience(ms: number): number {
    if (this.#burst) return Math.min(ms, 50);
    return Math.max(10, Math.min(ms, this.#maxIdleMs));
  }

  /**
   * The reason for which the worker stops; undefined if it goes on. Called when nothing could be claimed. `running` includes the held unknown tasks.
   */
  reached({ running, unknown }: { readonly running: number; readonly unknown: number }): string | undefined {
    const jobs = running - unknown;
    if (jobs > 0) {
      this.#busyAt = performance.now();
      return undefined;
    }
    if (this.#bounded && this.#jobsLeft === 0) return 'it has run as many jobs as it may (maxJobs)';
    // Only unknown tasks are left, and these would come back again and again.
    if (this.#burst) return 'the queues are empty (burst)';
    if (performance.now() - this.#busyAt >= this.#maxIdleMs) return 'it had no job for too long (maxIdleTime)';
    return undefined;
  }
}
