import { DelayQueue } from '../../delay-queue.ts';
import type { Logger } from '../../log.ts';

/** How many jobs one process keeps at once. */
const MOST = 1_000;

/** A claimed job as it is kept. */
export interface PostponedJob {
  /** Other processes have the job. */
  readonly lost: boolean;
  /** The same claim, to be run once more. */
  again(): this;
}

/**
 * Jobs that are to run later, where no scheduler moves delayed jobs. Each stays claimed by this process, so that the rescue of another process finds
 * it when this one dies; when its time comes it runs again here. Nothing is written meanwhile.
 */
export class PostponedJobs<Job extends PostponedJob> {
  readonly #later = new DelayQueue<Job>();
  #due: Job[] = [];
  #waits = false;
  #closed = false;
  #saidAt = Number.NEGATIVE_INFINITY;
  /** Called when a job is due. */
  onDue: () => void = () => {};

  get size(): number {
    return this.#later.size + this.#due.length;
  }

  /** No more jobs are kept: those that are postponed now go to the back of their queues. */
  get full(): boolean {
    return this.size >= MOST;
  }

  /** Whether a job waits for nothing but a slot. */
  get isDue(): boolean {
    this.#collect();
    return this.#due.length > 0;
  }

  /** False: it cannot be kept here, because the worker stops or too many are kept. */
  add(delivery: Job, at: Date, log: Logger): boolean {
    if (this.#closed) return false;
    if (this.full) {
      this.#tell(log);
      return false;
    }
    this.#later.add(at.getTime(), delivery);
    this.#wait();
    return true;
  }

  /** Up to `max` jobs whose time has come, each as a delivery of its own. */
  take(max: number): readonly Job[] {
    this.#collect();
    const taken = this.#due.splice(0, max);
    return taken.filter(({ lost }) => !lost).map((delivery) => delivery.again());
  }

  /** The worker stops: takes all out, the soonest first. From now on none is kept. */
  close(): readonly Job[] {
    this.#closed = true;
    return [...this.#due.splice(0), ...this.#later.clear()];
  }

  #collect(): void {
    this.#due.push(...this.#later.due(Date.now()));
    this.#wait();
  }

  #wait(): void {
    if (this.#waits || this.#later.size === 0) return;
    this.#waits = true;
    void this.#later.next().then(() => {
      this.#waits = false;
      this.#collect();
      if (this.#due.length > 0) this.onDue();
    });
  }

  #tell(log: Logger): void {
    if (performance.now() - this.#saidAt < 60_000) return;
    this.#saidAt = performance.now();
    log.warn(
      { system: 'resque', jobs: this.size },
      'too many jobs are postponed to keep them claimed; more of them go to the back of their queues at once. With scheduler: true they wait in Redis',
    );
  }
}
