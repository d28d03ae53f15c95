import type { TaskMessage } from '../../../../protocols/celery/message/message.ts';

/**
 * The revoked tasks. Ids: at most 50 000, for three hours, as in Celery. Values of stamps: Celery keeps them without a bound; here at most
 * 50 000 are kept. Source: celery/worker/state.py.
 */
export class Revoked {
  readonly #until = new Map<string, number>();
  readonly #stamps = new Map<string, Set<unknown>>();
  readonly #max: number;
  readonly #ttlMs: number;
  #stampCount = 0;

  constructor(max = 50_000, ttlMs = 10_800_000) {
    this.#max = max;
    this.#ttlMs = ttlMs;
  }

  /** How long an id is kept. */
  get ttlMs(): number {
    return this.#ttlMs;
  }

  /** `until` is in milliseconds since the epoch. It is passed for an id that was revoked earlier. */
  add(id: string, until: number = Date.now() + this.#ttlMs): void {
    this.#until.delete(id);
    this.#until.set(id, until);
    // A Map keeps the order of insertion: the first one is the oldest.
    for (const [oldest, expires] of this.#until) {
      if (this.#until.size <= this.#max && expires > Date.now()) break;
      this.#until.delete(oldest);
    }
  }

  addStamp(name: string, values: readonly unknown[]): void {
    let known = this.#stamps.get(name);
    if (known === undefined) this.#stamps.set(name, (known = new Set<unknown>()));
    for (const value of values) {
      if (this.#stampCount >= this.#max) return;
      if (!known.has(value)) this.#stampCount++;
      known.add(value);
    }
  }

  has(message: Pick<TaskMessage, 'id'> & Partial<Pick<TaskMessage, 'stampedHeaders' | 'stamps'>>): boolean {
    if (this.#until.size > 0) {
      const until = this.#until.get(message.id);
      if (until !== undefined && until > Date.now()) return true;
    }
    return this.#stamps.size > 0 && isStamped(message, this.#stamps);
  }

  get ids(): readonly string[] {
    return this.entries.map(([id]) => id);
  }

  /** Ids, each with its expiry in milliseconds since the epoch. */
  get entries(): readonly (readonly [id: string, until: number])[] {
    const now = Date.now();
    return [...this.#until].filter(([, until]) => until > now);
  }
}

/** Whether a message has one of these stamps. A stamp is one value or an array of values. */
export function isStamped(
  { stampedHeaders = [], stamps = {} }: Partial<Pick<TaskMessage, 'stampedHeaders' | 'stamps'>>,
  wanted: ReadonlyMap<string, ReadonlySet<unknown>>,
): boolean {
  return stampedHeaders.some((name) => {
    const values = wanted.get(name);
    if (values === undefined || !Object.hasOwn(stamps, name)) return false;
    const stamp = stamps[name];
    return Array.isArray(stamp) ? stamp.some((value) => values.has(value)) : values.has(stamp);
  });
}
