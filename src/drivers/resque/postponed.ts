import { DelayQueue } from '../../delay-queue.ts';
import type { Logger } from '../../log.ts';

/** The most jobs that one process keeps at once. */
const MOST = 1_000;

/** A claimed job that is kept for later. */
export interface PostponedJob {
  /** Another process has the job. */
  readonly lost: boolean;
  /** A new delivery of the same claim, to run it again. */
  again(): this;
}

/**
 * Keeps jobs that must run later, when no scheduler moves delayed jobs. Each job stays claimed by this process. If the process dies, the rescue of
 * another process finds the job. When its time comes, it runs again here. Nothing is written meanwhile.
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

  /** No more jobs can be kept. A job that is postponed now goes to the back of its queue. */
  get full(): boolean {
    return this.size >= MOST;
  }

  /** Whether a job is due and waits only for a slot. */
  get isDue(): boolean {
    this.#collect();
    return this.#due.length > 0;
  }

  /** Returns false if the job cannot be kept here, because the worker stops or too many jobs are kept. */
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

  /** Up to `max` due jobs, each as a new delivery. */
  take(max: number): readonly Job[] {
    this.#collect();
    const taken = this.#due.splice(0, max);
    return taken.filter(({ lost }) => !lost).map((delivery) => delivery.again());
  }

  /** Called when the worker stops: takes out all jobs, the soonest first. From now on no job is kept. */
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
