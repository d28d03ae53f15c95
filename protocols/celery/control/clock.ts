/**
 * Lamport's logical clock, as everybody in a Celery cluster keeps one: a count that grows with what is sent and is never behind
 * what was heard. Source: kombu/clocks.py LamportClock (5.6).
 */
export class LamportClock {
  #value: number;

  constructor(value = 0) {
    this.#value = value;
  }

  get value(): number {
    return this.#value;
  }

  /** Before something is sent: the count it carries. */
  forward(): number {
    return ++this.#value;
  }

  /** After something was heard. What is no sensible count, as a broken or hostile sender writes it, moves ours by one all the same. */
  adjust(other: unknown): number {
    const heard = typeof other === 'number' && Number.isSafeInteger(other) && other < HIGHEST ? other : 0;
    this.#value = Math.max(this.#value, heard) + 1;
    return this.#value;
  }
}

/** Nobody sends so much; a clock pushed there could soon count no further. */
const HIGHEST = 2 ** 52;
