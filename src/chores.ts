import { setMaxListeners } from 'node:events';
import { type Logger, silent } from './log.ts';
import { retryUntilWritten } from './retry-until-written.ts';
import { pause } from './source.ts';

/**
 * Writes in the background, for messages that became no delivery: an unreadable message that is quarantined, a job that goes back. Each is tried with
 * back-off until it is written or the source closes. Where the process dies before that, the message is still claimed, and the system's own recovery
 * finds it.
 */
export class Chores {
  readonly #log: () => Logger;
  readonly #running = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  #failing = false;

  /** `log` is asked at each failure: a source gets its log when it opens. */
  constructor(log: () => Logger = () => silent) {
    this.#log = log;
    // Each chore that fails waits for it.
    setMaxListeners(0, this.#closing.signal);
  }

  /** How many are not done. */
  get size(): number {
    return this.#running.size;
  }

  /** Aborts at `close`. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Starts `work` now and tries it again until it succeeds. `what` completes the sentence of the log: `give back a job`. `fields` say which: queue, id.
   * A store that is away fails all chores at once: the first is a warning, the others are debug lines until one succeeds.
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

  /** Resolves with true when none is left, also of those added meanwhile; with false after `limitMs` milliseconds. Never rejects. */
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

  /** Gives up those that do not succeed. One that is added afterwards is tried once. */
  close(): void {
    this.#closing.abort();
  }
}
