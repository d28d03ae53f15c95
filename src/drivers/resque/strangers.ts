import type { Logger } from '../../log.ts';
import type { ResqueDelivery } from './delivery.ts';

/** How many are held at once, at most. */
const MOST = 1_000;

/** Jobs of classes that nobody here handles: after a pause they go behind the others of their queue, for those who do. */
export class Strangers {
  readonly #delayMs: number;
  readonly #executeWrite: (work: () => Promise<void>) => void;
  readonly #held = new Map<ResqueDelivery, NodeJS.Timeout>();
  readonly #said = new Map<string, number>();

  /** `executeWrite` does it until it sticks. */
  constructor(delayMs: number, executeWrite: (work: () => Promise<void>) => void) {
    this.#delayMs = delayMs;
    this.#executeWrite = executeWrite;
  }

  get size(): number {
    return this.#held.size;
  }

  get full(): boolean {
    return this.#held.size >= MOST;
  }

  take(delivery: ResqueDelivery, log: Logger): void {
    this.#tell(delivery, log);
    const back = (): void => {
      this.#held.delete(delivery);
      this.#executeWrite(() => delivery.putBehind());
    };
    this.#held.set(delivery, setTimeout(back, this.#delayMs));
  }

  /** The worker stops: the first of them was ahead of the others, and is again. */
  releaseAll(): void {
    for (const [delivery, timer] of [...this.#held].reverse()) {
      clearTimeout(timer);
      this.#executeWrite(() => delivery.release());
    }
    this.#held.clear();
  }

  #tell({ job: { task, queue } }: ResqueDelivery, log: Logger): void {
    // Names of other people's classes: any length, any number.
    const name = task.slice(0, 200);
    if (this.#said.size > 1_000) this.#said.clear();
    if (Date.now() - (this.#said.get(name) ?? 0) <= 60_000) return;
    this.#said.set(name, Date.now());
    log.warn(
      { task: name, queue },
      "no handler for this class: its jobs go back to their queue for others. Register it, take from other queues ('*', '!name'), or set unknownTask: 'fail'",
    );
  }
}
