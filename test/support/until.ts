/**
 * How long a test waits for what must come, before it says that it did not: a bound for a broken program, far beyond what a
 * busy machine needs, and below every test's own limit (test/vitest.config.ts), so that the failure names what was awaited.
 */
export const PATIENCE_MS = 30_000;

type Condition = () => Promise<boolean> | boolean;

/**
 * Calls `condition` until it is true; rejects after `timeoutMs`, saying what was awaited. For states that last: one that
 * passes within milliseconds is to be counted or subscribed to instead.
 */
export function until(what: string, condition: Condition): Promise<void>;
export function until(what: string, timeoutMs: number, condition: Condition): Promise<void>;
export async function until(what: string, ...rest: [Condition] | [number, Condition]): Promise<void> {
  const [timeoutMs, condition] = rest.length === 1 ? [PATIENCE_MS, rest[0]] : rest;
  const late = new Error(`not within ${timeoutMs} ms: ${what}`);
  // Where it was awaited is what the reader wants to see.
  Error.captureStackTrace(late, until);
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > deadline) throw late;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
