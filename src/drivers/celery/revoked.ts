import type { TaskMessage } from '../../../protocols/celery/message.ts';

/** Ids that shall not run: at most 50 000, for three hours, as Celery keeps them. Source: celery/worker/state.py. */
export class Revoked {
  readonly #until = new Map<string, number>();
  readonly #max: number;
  readonly #ttlMs: number;

  constructor(max = 50_000, ttlMs = 10_800_000) {
    this.#max = max;
    this.#ttlMs = ttlMs;
  }

  add(id: string): void {
    this.#until.delete(id);
    this.#until.set(id, Date.now() + this.#ttlMs);
    // A Map keeps the order of insertion: the first one is the oldest.
    for (const [oldest, until] of this.#until) {
      if (this.#until.size <= this.#max && until > Date.now()) break;
      this.#until.delete(oldest);
    }
  }

  has(message: Pick<TaskMessage, 'id'>): boolean {
    if (this.#until.size === 0) return false;
    const until = this.#until.get(message.id);
    return until !== undefined && until > Date.now();
  }

  get ids(): readonly string[] {
    const now = Date.now();
    return [...this.#until].filter(([, until]) => until > now).map(([id]) => id);
  }
}
