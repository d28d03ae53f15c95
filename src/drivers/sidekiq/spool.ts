import type { Payload } from '../../../protocols/sidekiq/redis.ts';
import { backoff } from '../../backoff.ts';
import { ConnectionError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { Bell } from './bell.ts';

/** Jobs in one trip. */
const BATCH = 1_000;

/**
 * Jobs that could not be sent because Redis is away, in their order; sent when it is back. What may have been sent before the
 * connection was lost is sent again: a job twice rather than none.
 */
export class Spool {
  readonly #limit: number;
  readonly #log: Logger;
  readonly #write: (payloads: readonly Payload[]) => Promise<void>;
  readonly #bell = new Bell();
  readonly #closing = new AbortController();
  #kept: Payload[] = [];
  #draining: Promise<void> | undefined;

  constructor(limit: number, log: Logger, write: (payloads: readonly Payload[]) => Promise<void>) {
    this.#limit = limit;
    this.#log = log;
    this.#write = write;
  }

  get size(): number {
    return this.#kept.length;
  }

  /** Send now, or keep: while there are kept ones, behind them. Throws ConnectionError when the buffer is full. */
  async send(payloads: readonly Payload[], now: () => Promise<void>): Promise<'pushed' | 'buffered'> {
    if (payloads.length === 0) return 'pushed';
    let cause: unknown;
    if (this.#kept.length === 0) {
      try {
        await now();
        return 'pushed';
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        cause = error;
      }
    }
    if (this.#kept.length + payloads.length > this.#limit)
      throw new ConnectionError(
        `sidekiq: Redis is away and the buffer is full (${this.#kept.length} of ${this.#limit} jobs): not sent`,
        { cause },
      );
    if (this.#kept.length === 0) this.#log.warn({ error: cause }, 'Redis is away; jobs are kept until it is back');
    this.#kept.push(...payloads);
    this.#draining ??= this.#drain().finally(() => (this.#draining = undefined));
    return 'buffered';
  }

  /** Redis is back: try now. */
  drain(): void {
    this.#bell.ring();
  }

  /** One more try. How many jobs are left that were never sent. */
  async close(): Promise<number> {
    this.#closing.abort();
    await this.#draining;
    return this.#kept.length;
  }

  async #drain(): Promise<void> {
    for (let attempt = 0; this.#kept.length > 0; attempt++) {
      const last = this.#closing.signal.aborted;
      const some = this.#kept.slice(0, BATCH);
      try {
        await this.#write(some);
        this.#kept = this.#kept.slice(some.length);
        attempt = -1;
        if (this.#kept.length === 0) this.#log.info({}, 'Redis is back; the jobs that were kept are sent');
      } catch (error) {
        if (last) return;
        this.#log.debug({ error, jobs: this.#kept.length }, 'Redis is still away');
        await this.#bell.wait(backoff(attempt, Math.random()), this.#closing.signal);
      }
    }
  }
}
