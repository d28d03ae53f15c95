import { progress, type Progress } from '../../../protocols/rq/jobs.ts';
import type { JobStatus } from '../../../protocols/rq/message.ts';
import { ConnectionError, ResultTimeoutError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { pause } from '../../source.ts';
import { RedisConnection } from '../../transports/redis.ts';
import { type ChangedKeys, PushWatch } from '../../transports/redis-push.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';

/** How long to wait. When the time is over, only the waiting ends; the job goes on. */
export interface WaitOptions {
  /** @default no time limit */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The interval at which all awaited jobs are read again, even without a notification. */
const RECHECK_MS = 5_000;
/** The poll interval if the server does not notify of changed keys. */
const POLL_MS = 200;
/** How many jobs are read in one round trip. */
const BATCH = 500;

/** The longest time for a timer. A timer set for longer fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Waiter {
  readonly id: string;
  readonly after: string | undefined;
  readonly settle: (progress: Progress) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Waits for the ends of any number of jobs, on one pair of connections. Each awaited job is read once, and read again when Redis notifies that it
 * changed. So this sees a result, and also a job that was canceled, deleted or has expired. A blocking read of the results would wait forever for
 * such a job.
 */
export class ResultWaiter {
  readonly #target: RedisTarget;
  readonly #log: Logger;
  readonly #waiters = new Map<string, Set<Waiter>>();
  #changed = new Set<string>();
  #all = false;
  #connection: { readonly reader: RedisConnection; readonly watch: PushWatch } | undefined;
  #loop: Promise<void> | undefined;
  #running = false;
  readonly #closing = new AbortController();

  constructor(target: RedisTarget, log: Logger) {
    this.#target = target;
    this.#log = log;
  }

  /**
   * How a job ended. `after` is the id of the last result that does not count. Throws ResultTimeoutError, the signal's reason, WireError for a result
   * that cannot be read, and ConnectionError if Redis cannot be reached at the start.
   */
  wait(id: string, after: string | undefined, { timeoutMs, signal }: WaitOptions = {}): Promise<Progress> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        const others = this.#waiters.get(id);
        others?.delete(waiter);
        if (others?.size === 0) this.#waiters.delete(id);
        if (this.#waiters.size === 0) this.#connection?.watch.poke();
      };
      const waiter: Waiter = {
        id,
        after,
        settle: (progress) => (end(), resolve(progress)),
        fail: (error) => (end(), reject(error as Error)),
      };
      const abort = (): void => waiter.fail(signal?.reason);
      const timer =
        timeoutMs === undefined || timeoutMs > LONGEST_TIMER_MS
          ? undefined
          : setTimeout(() => waiter.fail(new ResultTimeoutError(id, timeoutMs)), timeoutMs);
      signal?.addEventListener('abort', abort, { once: true });
      const others = this.#waiters.get(id) ?? new Set();
      this.#waiters.set(id, others.add(waiter));
      this.#changed.add(id);
      this.#connection?.watch.poke();
      if (!this.#running) this.#loop = this.#run();
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#failAll(new ConnectionError(`rq: the client of ${this.#target.maskedUrl} is closed`));
    await this.#loop;
    await this.#disconnect();
  }

  async #run(): Promise<void> {
    let tries = 0;
    this.#running = true;
    while (this.#waiters.size > 0 && !this.#closing.signal.aborted) {
      try {
        const { reader, watch } = (this.#connection ??= await this.#connect());
        const { seen } = watch;
        await this.#look(reader);
        tries = 0;
        if (this.#waiters.size === 0 || this.#changed.size > 0) continue;
        await watch.next(seen, watch.active ? RECHECK_MS : POLL_MS, this.#closing.signal);
        // No notification arrived. This finds changes whose notification was missed.
        if (watch.seen === seen) this.#all = true;
      } catch (error) {
        // A caller that waits for a job also waits for the server to come back, but not for a server that was never reached.
        if (!(error instanceof ConnectionError) || this.#connection === undefined) {
          this.#failAll(error);
          continue;
        }
        this.#all = true;
        this.#log.warn({ error }, 'results cannot be looked for; trying again');
        await pause(Math.min(2_000, 100 * 2 ** tries++), this.#closing.signal);
      }
    }
    // Set in the same tick as the last check for waiters, so that a new waiter starts a new loop.
    this.#running = false;
  }

  async #connect(): Promise<{ readonly reader: RedisConnection; readonly watch: PushWatch }> {
    const reader = new RedisConnection(this.#target, { log: this.#log });
    const onKeys = (keys: ChangedKeys): void => {
      if (keys === undefined) this.#all = true;
      else for (const key of keys) this.#changed.add(idOf(key));
    };
    const watch = new PushWatch(reader, this.#log, { onKeys });
    try {
      await reader.connect();
      await watch.open();
    } catch (error) {
      await Promise.all([reader.close(), watch.close()]);
      throw error;
    }
    return { reader, watch };
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.watch.close();
    await connection?.reader.close();
  }

  async #look(reader: RedisConnection): Promise<void> {
    const ids = (this.#all ? [...this.#waiters.keys()] : [...this.#changed]).filter((id) => this.#waiters.has(id));
    // Cleared before the read, so that a job that changes during the read is read again.
    this.#changed = new Set();
    this.#all = false;
    for (let at = 0; at < ids.length; at += BATCH) {
      const some = ids.slice(at, at + BATCH);
      const found = await reader.run(progress(some));
      for (const [index, id] of some.entries()) {
        const one = found[index] as Progress | Error;
        for (const waiter of [...(this.#waiters.get(id) ?? [])]) {
          if (one instanceof Error) waiter.fail(one);
          else if (hasEnded(one, waiter.after)) waiter.settle(one);
        }
      }
    }
  }

  #failAll(error: unknown): void {
    for (const waiters of [...this.#waiters.values()]) for (const waiter of [...waiters]) waiter.fail(error);
  }
}

function idOf(key: string): string {
  return key.slice(key.startsWith('rq:results:') ? 'rq:results:'.length : 'rq:job:'.length);
}

/**
 * Whether a job has reached its end. A success counts even if the job will be repeated. A failure does not count if the job has been requeued since,
 * or if a Python worker is still writing it.
 */
export function hasEnded({ status, latest }: Progress, after: string | undefined): boolean {
  if (status === undefined) return true;
  if (latest !== undefined && latest.id !== after && latest.type === 'successful') return true;
  return ENDED.has(status);
}

const ENDED: ReadonlySet<JobStatus> = new Set<JobStatus>(['finished', 'failed', 'stopped', 'canceled']);
