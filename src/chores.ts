import { setMaxListeners } from 'node:events';
import { type Logger, silent } from './log.ts';
import { retryUntilWritten } from './retry-until-written.ts';
import { pause } from './source.ts';

/**
 * Writes in the background, for messages that became no delivery: to quarantine an unreadable message, or to give back a job. Each write is retried
 * with back-off until it succeeds or the source closes. If the process dies before that, the message is still claimed, and the system's own recovery
 * finds it.
 */
export class Chores {
  readonly #log: () => Logger;
  readonly #running = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  #failing = false;

  /** `log` is called at each failure: a source gets its log only when it opens. */
  constructor(log: () => Logger = () => silent) {
    this.#log = log;
    // Each failed chore adds a listener to this signal.
    setMaxListeners(0, this.#closing.signal);
  }

  /** How many chores are not done. */
  get size(): number {
    return this.#running.size;
  }

  /** Aborts at `close`. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Starts `work` now and retries it until it succeeds. `what` completes the sentence of the log: `give back a job`. `fields` identify the message:
   * queue, id. A store that is away fails all chores at once: the first failure is a warning, the others are debug lines until one chore succeeds.
   */
  add(what: string, work: () => Promise<unknown>, fields: Readonly<Record<string, unknown>> = {}): void {
    let said = false;
    const failed = (error: unknown): void => {
      if (said) return;
      said = true;
      const line = `could not ${what}; trying again until it is done or this worker stops`;
      if (this.#failing) this.#log().debug({ ...fields, error }, line);
      else this.#log().warn({ ...fields, error }, line);
      this.#failing = true;
    };
    const done = async (): Promise<true> => {
      await work();
      this.#failing = false;
      return true;
    };
    const chore: Promise<unknown> = retryUntilWritten(done, this.#closing.signal, failed).finally(() =>
      this.#running.delete(chore),
    );
    this.#running.add(chore);
  }

  /** Resolves with true when no chore is left, including those added meanwhile; with false after `limitMs` milliseconds. Never rejects. */
  async settled(limitMs: number = Number.POSITIVE_INFINITY): Promise<boolean> {
    const limit = new AbortController();
    const late = limitMs === Number.POSITIVE_INFINITY ? undefined : pause(limitMs, limit.signal).then(() => 'late');
    try {
      while (this.#running.size > 0) {
        const all = Promise.all(this.#running);
        if ((await (late === undefined ? all : Promise.race([all, late]))) === 'late') return false;
      }
      return true;
    } finally {
      limit.abort();
    }
  }

  /** Gives up the chores that have not succeeded. A chore that is added afterwards is tried once. */
  close(): void {
    this.#closing.abort();
  }
}
