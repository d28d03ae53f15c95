/**
 * When to run a failed job again: one meaning in every system.
 *
 * The delay before retry `n` (1 is the first retry) is `factorMs · 2^(n−1)` milliseconds, at most `maxMs`; with `jitter` a random number from 0 to
 * that. The formula is Celery's `get_exponential_backoff_interval` with full jitter. Source: celery/utils/time.py, celery/app/autoretry.py (5.6).
 */
export interface RetryPolicy {
  /** How many retries after the first run; null is forever. @default 3 */
  readonly max?: number | null;
  /** Milliseconds before retry number `attempt` (1 is the first retry). @default 180 000, or the system's own delay where it has one */
  readonly delayMs?: number | ((attempt: number) => number);
  /** Exponential delays. Wins over `delayMs`. @default `{ factorMs: 1000, maxMs: 600 000, jitter: true }` for what is left out */
  readonly backoff?: { readonly factorMs?: number; readonly maxMs?: number; readonly jitter?: boolean };
  /** Which errors are retried. @default every error, when a policy is given */
  readonly on?: (error: unknown) => boolean;
}

/** `max` of a policy that does not set it. Source: celery/app/task.py Task.max_retries. */
export const DEFAULT_MAX_RETRIES = 3;
/** `delayMs` of a policy that does not set it. Source: celery/app/task.py Task.default_retry_delay. */
export const DEFAULT_RETRY_DELAY_MS = 180_000;

/**
 * Milliseconds before retry number `attempt` (1 is the first retry), 0 or more; undefined where the policy names no delay, so that a system may use its
 * own. `random` is in [0, 1).
 */
export function retryDelayMs(
  { delayMs, backoff }: Pick<RetryPolicy, 'delayMs' | 'backoff'>,
  attempt: number,
  random: number,
): number | undefined {
  if (backoff === undefined) {
    const delay = typeof delayMs === 'function' ? delayMs(attempt) : delayMs;
    return delay === undefined ? undefined : Math.max(0, delay);
  }
  const { factorMs = 1_000, maxMs = 600_000, jitter = true } = backoff;
  const longest = Math.min(maxMs, factorMs * 2 ** (attempt - 1));
  return Math.max(0, jitter ? random * longest : longest);
}

/** Whether retry number `attempt` (1 is the first retry) is within `max`. */
export function retryAllowed({ max = DEFAULT_MAX_RETRIES }: Pick<RetryPolicy, 'max'>, attempt: number): boolean {
  return max === null || attempt <= max;
}
