import type { Payload } from '../../../protocols/sidekiq/redis.ts';
import { backoff } from '../../backoff.ts';
import { ConnectionError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { WakeUp } from '../../wake-up.ts';

/** The number of jobs in one round trip. */
const BATCH = 1_000;

/**
 * Keeps jobs that could not be sent because Redis cannot be reached, in their order, and sends them when Redis is back. Jobs that may have been sent
 * before the connection was lost are sent again: a job twice is better than a lost job.
 */
export class Spool {
  readonly #limit: number;
  readonly #log: Logger;
  readonly #write: (payloads: readonly Payload[]) => Promise<void>;
  readonly #wakeUp = new WakeUp();
  readonly #closing = new AbortController();
  #kept: Payload[] = [];
  /** Jobs that the server itself refused. They are tried again, and do not delay other jobs. */
  #refused: Payload[] = [];
  #draining: Promise<void> | undefined;

  constructor(limit: number, log: Logger, write: (payloads: readonly Payload[]) => Promise<void>) {
    this.#limit = limit;
    this.#log = log;
    this.#write = write;
  }

  get size(): number {
    return this.#kept.length + this.#refused.length;
  }

  /** Send the jobs now, or keep them. While other jobs are kept, the new ones go behind them. Throws ConnectionError when the buffer is full. */
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
    if (this.size + payloads.length > this.#limit)
      throw new ConnectionError(
        `sidekiq: Redis is away and the buffer is full (${this.size} of ${this.#limit} jobs): not sent`,
        { cause },
      );
    if (this.#kept.length === 0) this.#log.warn({ error: cause }, 'Redis is away; jobs are kept until it is back');
    this.#kept.push(...payloads);
    this.#draining ??= this.#drain().finally(() => (this.#draining = undefined));
    return 'buffered';
  }

  /** Redis is back: try now. */
  drain(): void {
    this.#wakeUp.signal();
  }

  /** Try once more. Returns how many jobs are left that were never sent. */
  async close(): Promise<number> {
    this.#closing.abort();
    await this.#draining;
    return this.size;
  }

  async #drain(): Promise<void> {
    for (let attempt = 0; this.size > 0; attempt++) {
      const last = this.#closing.signal.aborted;
      const before = this.size;
      const isThere = await this.#send();
      if (this.size === 0) this.#log.info({}, 'Redis is back; the jobs that were kept are sent');
      else if (isThere && this.#kept.length > 0) attempt = -1;
      else {
        if (last) return;
        if (this.size < before) attempt = 0;
        await this.#wakeUp.wait(backoff(attempt, Math.random()), this.#closing.signal);
      }
    }
  }

  /**
   * Sends some of the kept jobs, one queue at a time. The server then refuses all jobs of a queue or none, so a refusal causes no job to be sent
   * twice. Returns false when Redis cannot be reached.
   */
  async #send(): Promise<boolean> {
    const some = this.#kept.length > 0 ? this.#kept.slice(0, BATCH) : this.#refused.slice(0, BATCH);
    const done = new Set<Payload>();
    let isThere = true;
    for (const together of byQueue(some)) {
      try {
        await this.#write(together);
        for (const one of together) done.add(one);
      } catch (error) {
        if (error instanceof ConnectionError) {
          this.#log.debug({ error, jobs: this.size }, 'Redis is still away');
          isThere = false;
          break;
        }
        this.#refuse(together, error);
      }
    }
    this.#kept = this.#kept.filter((one) => !done.has(one));
    this.#refused = this.#refused.filter((one) => !done.has(one));
    return isThere;
  }

  #refuse(payloads: readonly Payload[], error: unknown): void {
    const [{ queue } = { queue: '' }] = payloads;
    const some = new Set(payloads);
    if (this.#kept.some((one) => some.has(one)))
      this.#log.error(
        { error, queue, jobs: payloads.length },
        'Redis refuses jobs that were kept; they are tried again',
      );
    this.#kept = this.#kept.filter((one) => !some.has(one));
    this.#refused = [...this.#refused.filter((one) => !some.has(one)), ...payloads];
  }
}

function byQueue(payloads: readonly Payload[]): Iterable<readonly Payload[]> {
  const groups = new Map<string, Payload[]>();
  for (const one of payloads) {
    const key = one.at === undefined ? `queue:${one.queue}` : 'schedule';
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups.values();
}
