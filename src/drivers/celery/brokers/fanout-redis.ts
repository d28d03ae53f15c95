import type { Logger } from '../../../log.ts';
import { RedisConnection } from '../../../transports/redis.ts';
import type { RedisTarget } from '../../../transports/redis-url.ts';

/** The broadcasts that fanout exchanges publish to this process. They are not acknowledged, and the server does not keep them. */
export class FanoutInbox {
  readonly #connection: RedisConnection;
  readonly #queues = new Map<string, string>();
  #inbox: { readonly queue: string; readonly bytes: Buffer }[] = [];

  /** `arrived` is called with each broadcast that `take` may take. */
  constructor(target: RedisTarget, log: Logger, arrived: () => void) {
    this.#connection = new RedisConnection(target, { log });
    this.#connection.onPatternMessage((pattern, _channel, bytes) => {
      const queue = this.#queues.get(pattern);
      if (queue === undefined) return;
      this.#inbox.push({ queue, bytes });
      arrived();
    });
    this.#connection.onReady(() => {
      if (this.#queues.size > 0) void this.#connection.psubscribe(...this.#queues.keys()).catch(() => undefined);
    });
  }

  async listen(channel: string, queue: string): Promise<void> {
    const pattern = channel.replaceAll('#', '*');
    await this.#connection.connect();
    this.#queues.set(pattern, queue);
    await this.#connection.psubscribe(pattern);
  }

  /** Stops receiving for this queue. */
  async forget(queue: string): Promise<void> {
    const patterns = [...this.#queues].filter(([, name]) => name === queue).map(([pattern]) => pattern);
    for (const pattern of patterns) this.#queues.delete(pattern);
    if (patterns.length > 0) await this.#connection.punsubscribe(...patterns);
  }

  take(max: number): readonly { readonly queue: string; readonly bytes: Buffer }[] {
    return this.#inbox.splice(0, max);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
