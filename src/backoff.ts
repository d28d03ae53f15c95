/**
 * Exponential back-off with jitter: a random time between half of `baseMs · 2^attempt` and all of it, at most `maxMs`.
 *
 * | attempt | 0 | 1 | 2 | 3 | 4 | 5 | 6 and on |
 * |---|---|---|---|---|---|---|---|
 * | ms at most (100, 5 000) | 100 | 200 | 400 | 800 | 1 600 | 3 200 | 5 000 |
 */
export function backoff(attempt: number, random: number, baseMs = 100, maxMs = 5_000): number {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling * (0.5 + random / 2));
}
