import type { Logger } from '../../../log.ts';
import { countQueues, purgeQueue } from '../../../transports/amqp-queues.ts';
import { amqpTarget } from '../../../transports/amqp-url.ts';
import { AmqpConnection } from '../../../transports/amqp.ts';
import type { CeleryAppOptions } from '../options.ts';
import { type BrokerView, NO_VIEW, type QueueSize } from './view.ts';

/**
 * What RabbitMQ shows: how many messages and consumers a queue has. Its messages are not listed: seeing one would mean to consume it, which counts a
 * delivery. It does not list its queues over AMQP either; names come from the options and from the workers.
 */
export class AmqpView implements BrokerView {
  readonly sets: BrokerView['sets'] = [];
  readonly takes: BrokerView['takes'] = NO_VIEW.takes;
  readonly #connection: AmqpConnection;

  constructor(url: string, { brokerTransportOptions }: CeleryAppOptions, log: Logger) {
    this.#connection = new AmqpConnection(amqpTarget(url, brokerTransportOptions), { log });
  }

  open(): Promise<void> {
    return this.#connection.connect();
  }

  queueNames(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async sizes(names: readonly string[]): ReturnType<BrokerView['sizes']> {
    const asked = [...names, ...names.map((name) => `jobglot.quarantine.${name}`)];
    const counts = await countQueues(this.#connection, asked);
    const queues = new Map<string, QueueSize>();
    const sets = { queued: 0, quarantine: 0 };
    for (const [at, count] of counts.entries()) {
      if (count === undefined) continue;
      sets[at < names.length ? 'queued' : 'quarantine'] += count.messages;
      if (at < names.length) queues.set(asked[at] as string, { size: count.messages, consumers: count.consumers });
    }
    return { sets, queues };
  }

  oldest(): Promise<ReadonlyMap<string, Uint8Array>> {
    return NO_VIEW.oldest([]);
  }
  page(): Promise<readonly never[]> {
    return Promise.resolve([]);
  }
  take(): Promise<boolean> {
    return Promise.resolve(false);
  }

  purge(queue: string): Promise<number | undefined> {
    return purgeQueue(this.#connection, queue);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
