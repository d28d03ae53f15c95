import type { Command, Exchange } from '../../protocols/redis.ts';
import type { RedisLink } from '../client.ts';
import { ConfigError } from '../errors.ts';

/** A connection to no server: `answer` gives the reply of each command. What it throws rejects the round trip. */
export class TestLink implements RedisLink {
  readonly ready = true;
  readonly #answer: (command: Command) => unknown;

  constructor(answer: (command: Command) => unknown) {
    this.#answer = answer;
  }

  async connect(): Promise<void> {}

  async run<Reply>(exchange: Exchange<Reply>): Promise<Reply> {
    const replies: unknown[] = [];
    for (const command of exchange.commands) replies.push(await this.#answer(command));
    return exchange.read(replies);
  }

  /** Not batched: each item is sent by the call that made it. */
  batchPerTick<Item>(build: (items: readonly Item[]) => Exchange<void>): (item: Item) => Promise<void> {
    return (item) => this.run(build([item]));
  }

  onReady(): void {}

  async close(): Promise<void> {}
}

/** A command that only a server can answer. */
export function noServer(system: string, [name]: Command): ConfigError {
  return new ConfigError(`testing: this client of ${system} has no server, so ${name} has no answer`);
}

/** An argument of a command, as its bytes. */
export function bytesOf(value: string | number | Uint8Array): Buffer {
  return typeof value === 'object' ? Buffer.from(value) : Buffer.from(String(value));
}
