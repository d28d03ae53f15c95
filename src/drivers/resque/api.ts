import * as failed from '../../../protocols/resque/failure.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import { readTime } from '../../../protocols/resque/times.ts';
import { ResqueClient } from './client.ts';
import type { ResqueAppOptions } from './options.ts';

/** A worker on the list of workers, of Ruby or of this package. */
export interface WorkerInfo {
  /** `host:pid:queues`. */
  readonly id: string;
  readonly startedAt: Date | undefined;
  /** The time of its last heartbeat; undefined before the first. */
  readonly beatAt: Date | undefined;
  /** The current job; undefined when the worker is idle. */
  readonly working:
    | { readonly queue: string; readonly class: string; readonly payload: string; readonly runAt: Date | undefined }
    | undefined;
}

/** The figures on Resque's front page. */
export interface ResqueInfo {
  /** Waiting jobs, in all queues. */
  readonly pending: number;
  /** Jobs that were run, including failed ones, since the statistics began. */
  readonly processed: number;
  readonly queues: readonly { readonly name: string; readonly size: number }[];
  readonly workers: number;
  readonly working: number;
  /** Failures on the list. */
  readonly failed: number;
}

/** A failure, and its position in the list. */
export interface ListedFailure {
  /** Counted from 0, the oldest. */
  readonly index: number;
  readonly text: string;
  /** Undefined if the failure cannot be decoded. */
  readonly failure: failed.StoredFailure | undefined;
}

/** Selects failures, one page at a time. */
export interface FailuresOptions {
  /** The list of this queue, of the backend redis_multi_queue. @default the list of all */
  readonly queue?: string;
  /** @default 0, the oldest */
  readonly start?: number;
  /** @default 20 */
  readonly count?: number;
}

/** The functions of Resque's web pages. */
export class ResqueApi implements AsyncDisposable {
  readonly #client: ResqueClient;

  constructor(options: ResqueAppOptions) {
    this.#client = new ResqueClient(options);
  }

  /** Queues with their sizes, and totals. */
  async info(): Promise<ResqueInfo> {
    const names = await this.#client.run(wire.queues);
    const [sizes, stats, workers, [failures = 0]] = await Promise.all([
      this.#client.run((keys) => wire.sizes(keys, names)),
      this.#client.run((keys) => wire.stats(keys)),
      this.workers(),
      this.#client.run((keys) => wire.failureCounts(keys, [])),
    ]);
    return {
      pending: [...sizes.values()].reduce((sum, size) => sum + size, 0),
      processed: stats.processed,
      queues: names.map((name) => ({ name, size: sizes.get(name) ?? 0 })),
      workers: workers.length,
      working: workers.filter(({ working }) => working !== undefined).length,
      failed: failures,
    };
  }

  /** Every worker on the list, and its current job. */
  async workers(): Promise<readonly WorkerInfo[]> {
    const ids = await this.#client.run(wire.workers);
    const [doing, started, { beats }] = await Promise.all([
      this.#client.run((keys) => presence.doing(keys, ids)),
      this.#client.run((keys) => wire.startedAt(keys, ids)),
      this.#client.run(presence.roster),
    ]);
    return ids.map((id, at) => {
      const work = doing[at] === undefined ? undefined : presence.readWork(doing[at]);
      const beat = beats.get(id);
      return {
        id,
        startedAt: started[at] === undefined ? undefined : readTime(started[at]),
        beatAt: beat === undefined ? undefined : readTime(beat),
        working: work === undefined ? undefined : { ...work, runAt: readTime(work.runAt) },
      };
    });
  }

  /** A page of failures, the oldest first. */
  async failures({ queue, start = 0, count = 20 }: FailuresOptions = {}): Promise<readonly ListedFailure[]> {
    const texts = await this.#client.run((keys) => failed.failures(keys, start, count, queue));
    return texts.map((bytes, at) => {
      let failure: failed.StoredFailure | undefined;
      try {
        failure = failed.decodeFailure(bytes);
      } catch {
        failure = undefined;
      }
      return { index: start + at, text: bytes.toString(), failure };
    });
  }

  /**
   * Push the job of a failure to its queue again. With `remove`, the failure is deleted; otherwise the time of the retry is recorded in it. Returns
   * false if the failure has left its position. Throws WireError if its payload or queue cannot be used.
   */
  retry(one: ListedFailure, options: { readonly queue?: string; readonly remove?: boolean } = {}): Promise<boolean> {
    return this.#client.run((keys) =>
      failed.requeueFailure(
        keys,
        { ...one, list: failed.failureList(keys, options.queue) },
        new Date(),
        options.remove ?? false,
      ),
    );
  }

  /** Deletes a failure. Returns false if the failure has left its position. */
  remove(one: ListedFailure, options: { readonly queue?: string } = {}): Promise<boolean> {
    return this.#client.run((keys) =>
      failed.removeFailure(keys, { ...one, list: failed.failureList(keys, options.queue) }),
    );
  }

  /** Delete every failure. */
  clear(options: { readonly queue?: string } = {}): Promise<void> {
    return this.#client.run((keys) => failed.clearFailures(keys, options.queue));
  }

  /** Remove a worker whose process is gone from the list. Its current job is not touched. `resque remove ID`. */
  async unregister(id: string): Promise<void> {
    await this.#client.run((keys) => ({
      commands: presence.unregister(keys, [id]),
      atomic: true,
      read: () => undefined,
    }));
  }

  /** The same as `ResqueClient.pauseAll`. */
  pauseAll(): Promise<void> {
    return this.#client.pauseAll();
  }
  /** Let workers take jobs again. */
  resumeAll(): Promise<void> {
    return this.#client.resumeAll();
  }
  /** Delete the queue and all its waiting jobs. */
  removeQueue(queue: string): Promise<void> {
    return this.#client.removeQueue(queue);
  }

  /** Close the connection. */
  close(): Promise<void> {
    return this.#client.close();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
