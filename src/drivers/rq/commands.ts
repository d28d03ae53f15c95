import { commandChannel } from '../../../protocols/rq/keys.ts';
import { readCommand } from '../../../protocols/rq/presence.ts';
import type { WorkerCommand } from '../../../protocols/rq/workers.ts';
import type { Logger } from '../../log.ts';
import { RedisConnection } from '../../transports/redis.ts';
import type { RedisTarget } from '../../transports/redis-url.ts';

/** Receives the commands that are published for this worker: `rq:pubsub:W`. */
export class Commands {
  readonly #connection: RedisConnection;
  readonly #channel: string;

  constructor(worker: string, target: RedisTarget, log: Logger, heard: (command: WorkerCommand) => void) {
    this.#channel = commandChannel(worker);
    this.#connection = new RedisConnection(target, { log });
    this.#connection.onMessage((_channel, message) => {
      const text = String(message);
      const command = readCommand(text);
      if (command === undefined) log.warn({ text: text.slice(0, 200) }, 'not a command that is known here; left out');
      else heard(command);
    });
    this.#connection.onReady(() => void this.#connection.subscribe(this.#channel).catch(() => undefined));
  }

  async open(): Promise<void> {
    await this.#connection.connect();
    await this.#connection.subscribe(this.#channel);
  }
  close(): Promise<void> {
    return this.#connection.close();
  }
}
