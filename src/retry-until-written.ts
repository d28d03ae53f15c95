import { pause } from './source.ts';
import { backoff } from './backoff.ts';

/** Does `work`, trying again with back-off until it is done or `giveUp` aborts; then undefined. Each failure is told to `failed`. */
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
