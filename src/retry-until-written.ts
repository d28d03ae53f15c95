import { pause } from './source.ts';
import { backoff } from './backoff.ts';

/**
 * Calls `work` and retries it with back-off until it succeeds; resolves with undefined when `giveUp` aborts first. `failed` is called with each
 * error.
 */
export async function retryUntilWritten<T>(
  work: () => Promise<T>,
  giveUp: AbortSignal,
  failed: (error: unknown) => void,
): Promise<T | undefined> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      failed(error);
      if (giveUp.aborted) return undefined;
      await pause(backoff(attempt, Math.random()), giveUp);
    }
  }
}
