import type { Redis } from 'ioredis';

/** How often something was asked of a key. */
export interface Tally extends AsyncDisposable {
  readonly count: number;
}

/**
 * Counts what anybody, scripts included, asks of a key from now on: for what is there too briefly to be seen by looking.
 * `tally(client, /^[LR]PUSH$/i, 'celery')`; the key is the first argument.
 */
export async function tally(client: Redis, command: RegExp, key: string): Promise<Tally> {
  const monitor = await client.monitor();
  // As MONITOR writes it.
  const shown = key.replace(/[\x00-\x1f]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
  let count = 0;
  monitor.on('monitor', (_time: string, [name = '', first]: readonly string[]) => {
    if (command.test(name) && first === shown) count++;
  });
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      monitor.disconnect();
    },
  };
}
