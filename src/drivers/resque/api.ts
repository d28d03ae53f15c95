import * as failed from '../../../protocols/resque/failure.ts';
import * as presence from '../../../protocols/resque/presence.ts';
import * as wire from '../../../protocols/resque/redis.ts';
import { readTime } from '../../../protocols/resque/times.ts';
import { ResqueClient } from './client.ts';
import type { ResqueAppOptions } from './options.ts';

/** A worker on the list, whoever it is of. */
export interface WorkerInfo {
  /** `host:pid:queues`. */
  readonly id: string;
  readonly startedAt: Date | undefined;
  /** Its last heartbeat; undefined before the first. */
  readonly beatAt: Date | undefined;
  /** Undefined: it does nothing. */
  readonly working:
    | { readonly queue: string; readonly class: string; readonly payload: string; readonly runAt: Date | undefined }
    | undefined;
}

/** What Resque's front page says. */
export interface ResqueInfo {
  /** Jobs that wait, in all queues. */
  readonly pending: number;
  /** Jobs that were run, failed ones too, since the statistics began. */
  readonly processed: number;
  readonly queues: readonly { readonly name: string; readonly size: number }[];
  readonly workers: number;
  readonly working: number;
  /** Failures on the list. */
  readonly failed: number;
}

/** A failure, and where it stands. */
export interface ListedFailure {
  /** From 0, the oldest. */
  readonly index: number;
  readonly text: string;
  /** Undefined where nobody can read it. */
  readonly failure: failed.StoredFailure | undefined;
}

/** Which failures, a page at a time. */
export interface FailuresOptions {
  /** The list of this queue, of the backend redis_multi_queue. @default the list of all */
  readonly queue?: string;
  /** @default 0, the oldest */
  readonly start?: number;
  /** @default 20 */
  readonly count?: number;
}

/** What the web pages of Resque show and do. */
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

  /** Every worker on the list, and what it does. */
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
   * Put the job of a failure into its queue again; with `remove`, take the failure away, else note when. False: the failure does not stand there
   * any more. Throws WireError where its payload or queue cannot be run.
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

  /** False: it does not stand there any more. */
  remove(one: ListedFailure, options: { readonly queue?: string } = {}): Promise<boolean> {
    return this.#client.run((keys) =>
      failed.removeFailure(keys, { ...one, list: failed.failureList(keys, options.queue) }),
    );
  }

  /** Forget every failure. */
  clear(options: { readonly queue?: string } = {}): Promise<void> {
    return this.#client.run((keys) => failed.clearFailures(keys, options.queue));
  }

  /** Take a worker off the list that nobody runs any more; the job it is shown with is not touched. `resque remove ID`. */
  async unregister(id: string): Promise<void> {
    await this.#client.run((keys) => ({
      commands: presence.unregister(keys, [id]),
      atomic: true,
      read: () => undefined,
    }));
  }

  /** As `ResqueClient.pauseAll`. */
  pauseAll(): Promise<void> {
    return this.#client.pauseAll();
  }
  /** Let workers take jobs again. */
  resumeAll(): Promise<void> {
    return this.#client.resumeAll();
  }
  /** The queue and everything that waits in it. */
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
