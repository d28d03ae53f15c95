import { ConfigError } from '../../../errors.ts';

/** `10`, `'10/s'`, `'100/m'`, `'5/h'` as runs per second; 0 is no limit. Source: celery/utils/time.py rate. */
export function rate(limit: number | string): number {
  if (typeof limit === 'number') return limit;
  const match = /^(\d+(?:\.\d+)?)(?:\/([smh]))?$/.exec(limit.trim());
  if (match === null)
    throw new ConfigError(
      `celery: '${limit}' is not a rate limit; expected a number per second, or '10/s', '100/m', '5/h'`,
    );
  return Number(match[1]) / { s: 1, m: 60, h: 3600 }[(match[2] ?? 's') as 's' | 'm' | 'h'];
}

/** A token bucket with one token, as in Celery: runs are spaced evenly. */
export class RateLimit {
  readonly #spacingMs: number;
  #next = 0;

  constructor(perSecond: number) {
    this.#spacingMs = 1000 / perSecond;
  }

  /** When the next run may start, in milliseconds since the epoch. A value of `now` means at once. */
  next(now: number): number {
    return Math.max(now, this.#next);
  }

  /** Uses that turn. The next turn comes one spacing later. */
  take(now: number): void {
    this.#next = this.next(now) + this.#spacingMs;
  }
}
