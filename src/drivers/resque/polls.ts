import { ConfigError } from '../../errors.ts';
import type { ResqueOptions } from './options.ts';

/**
 * How long a worker that found no job waits until its next poll. The wait grows with each poll, from `minInterval` to `maxInterval`, as in Resque
 * 3.0. If the wait is zero, the worker ends. Source: worker.rb work.
 */
export class PollInterval {
  readonly #least: number;
  readonly #most: number;
  readonly #more: number;
  #seconds: number;

  /** Throws ConfigError. */
  constructor(options: Pick<ResqueOptions, 'interval' | 'minInterval' | 'maxInterval' | 'backoffInterval'>) {
    const interval = seconds('interval', options.interval ?? 5);
    this.#most = seconds('maxInterval', options.maxInterval ?? interval);
    this.#least = Math.min(seconds('minInterval', options.minInterval ?? interval), this.#most);
    this.#more = seconds('backoffInterval', options.backoffInterval ?? 0.1);
    this.#seconds = Math.max(this.#least, Math.min(interval, this.#most));
  }

  /** The poll found a job. */
  found(): void {
    this.#seconds = this.#least;
  }

  /** Whether polling has ended: the last poll found no job, and the worker stops when its running jobs have ended. */
  get over(): boolean {
    return this.#seconds === 0;
  }

  /** The poll found no job. Returns the milliseconds until the next poll. */
  next(): number {
    this.#seconds = Math.min(this.#seconds + this.#more, this.#most);
    return this.#seconds * 1000;
  }
}

function seconds(name: string, value: number): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  throw new ConfigError(`resque: ${name} must be a number of seconds, 0 or more, not ${value}`);
}
