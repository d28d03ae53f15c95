import { ConfigError } from '../../errors.ts';
import type { ResqueOptions } from './options.ts';

/**
 * How long a worker that found nothing waits until it looks again: longer from look to look, from `minInterval` to `maxInterval`, as
 * Resque 3.0 does. After a wait of none at all it ends. Source: worker.rb work.
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

  /** There was a job. */
  found(): void {
    this.#seconds = this.#least;
  }

  /** There was none, and there will be no other look once what runs has ended. */
  get over(): boolean {
    return this.#seconds === 0;
  }

  /** There was none: milliseconds until the next look. */
  next(): number {
    this.#seconds = Math.min(this.#seconds + this.#more, this.#most);
    return this.#seconds * 1000;
  }
}

function seconds(name: string, value: number): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  throw new ConfigError(`resque: ${name} must be a number of seconds, 0 or more, not ${value}`);
}
