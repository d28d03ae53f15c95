import * as lifecycle from '../../../protocols/rq/lifecycle.ts';
import type { Settlement } from '../../../protocols/rq/redis.ts';
import type { Logger } from '../../log.ts';
import type { RqDelivery } from './delivery.ts';
import type { RqOptions } from './options.ts';

type Way = NonNullable<RqOptions['unknownTask']>;

/** How many are held at once, at most. */
const MOST = 1_000;

/** Jobs that nobody here can run. By default they go back for others, after a pause; nothing of theirs is destroyed. */
export class Strangers {
  readonly #options: RqOptions;
  readonly #giveAway: (delivery: RqDelivery, settlement: Settlement) => void;
  readonly #held = new Map<RqDelivery, NodeJS.Timeout>();
  readonly #said = new Map<string, number>();

  constructor(options: RqOptions, giveAway: (delivery: RqDelivery, settlement: Settlement) => void) {
    this.#options = options;
    this.#giveAway = giveAway;
  }

  get full(): boolean {
    return this.#held.size >= MOST;
  }
  get size(): number {
    return this.#held.size;
  }

  take(delivery: RqDelivery, why: string, log: Logger, way: Way = this.#options.unknownTask ?? 'requeue'): void {
    this.#tell(delivery, why, way, log);
    if (way === 'requeue') {
      const back = (): void => {
        this.#held.delete(delivery);
        this.#giveAway(delivery, lifecycle.giveBack(delivery.run, new Date(), 'tail'));
      };
      this.#held.set(delivery, setTimeout(back, this.#options.unknownTaskDelayMs ?? 1_000));
    } else if (way === 'reject') {
      // The words RQ's own worker has for a name that it cannot import.
      const message = `Invalid attribute name: ${delivery.job.task} (jobglot: ${why})`;
      const error = { type: 'ValueError', message, traceback: '' };
      this.#giveAway(delivery, delivery.fail(error));
    } else {
      this.#giveAway(delivery, lifecycle.giveBack(delivery.run, new Date(), 'tail', way.forward));
    }
  }

  /** The worker stops: the first of them was ahead of the others, and is again. */
  releaseAll(): void {
    for (const [delivery, timer] of [...this.#held].reverse()) {
      clearTimeout(timer);
      this.#giveAway(delivery, lifecycle.giveBack(delivery.run, new Date(), 'head'));
    }
    this.#held.clear();
  }

  #tell(delivery: RqDelivery, why: string, way: Way, log: Logger): void {
    const { id, queue } = delivery.job;
    // Names of other people's functions: any length, any number.
    const task = delivery.job.task.slice(0, 200);
    if (this.#said.size > 1_000) this.#said.clear();
    if (Date.now() - (this.#said.get(task) ?? 0) <= 60_000) return;
    this.#said.set(task, Date.now());
    const what =
      way === 'requeue'
        ? 'it goes back to its queue for other workers'
        : way === 'reject'
          ? 'it is failed'
          : `it is forwarded to '${way.forward}'`;
    log.warn({ task, id, queue }, `${why}: ${what}. Register it, consume another queue, or set unknownTask`);
  }
}
