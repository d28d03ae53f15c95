import { toAmqp, toWire } from '../../../../protocols/celery/brokers/amqp.ts';
import type { Declaration } from '../../../../protocols/amqp.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import {
  type AmqpQueue,
  eventQueue,
  pidboxQueue,
  pidboxReplyQueue,
  queueDeclarations,
} from '../../../../protocols/celery/brokers/topology.ts';
import { WireError } from '../../../../protocols/errors.ts';
import type { Logger } from '../../../log.ts';
import { AmqpConsumer, type Delivered } from '../../../transports/amqp-consumer.ts';
import { AmqpPublisher } from '../../../transports/amqp-publisher.ts';
import type { AmqpTarget } from '../../../transports/amqp-url.ts';
import { AmqpConnection } from '../../../transports/amqp.ts';
import type { BroadcastKind, BroadcastListener, BroadcastQueue, Broadcasting } from './broker.ts';

/** The largest event or reply, in bytes. A larger one is refused unread. */
const MESSAGE_BYTES = 16 * 1024 * 1024;

interface Opened {
  readonly connection: AmqpConnection;
  readonly publisher: AmqpPublisher;
}

/** Requests, replies and events on RabbitMQ. They have their own connection, so that a busy or blocked worker still answers. */
export class AmqpBroadcasts implements Broadcasting {
  readonly #target: AmqpTarget;
  readonly #log: () => Logger;
  readonly #ends = new Set<() => Promise<void>>();
  readonly #declared = new Set<string>();
  #opening: Promise<Opened> | undefined;

  constructor(target: AmqpTarget, log: () => Logger) {
    this.#target = target;
    this.#log = log;
  }

  async subscribe(queue: BroadcastQueue, listener: BroadcastListener): Promise<() => Promise<void>> {
    const { connection } = await this.#open();
    const consumer = new AmqpConsumer(connection, {
      prefetch: 0,
      log: this.#log(),
      deliver: (delivered) => tell(delivered, listener),
      lost: () => undefined,
    });
    await consumer.start([{ queue: queue.name, declarations: queueDeclarations(mailbox(queue)), noAck: true }]);
    const end = async (): Promise<void> => {
      if (!this.#ends.delete(end)) return;
      // RabbitMQ deletes the queue when its consumer is gone.
      await consumer.quiet();
      await consumer.close();
    };
    this.#ends.add(end);
    return end;
  }

  async send(kind: BroadcastKind, publications: readonly Publication[]): Promise<undefined> {
    const { connection, publisher } = await this.#open();
    for (const { exchange, routingKey } of publications) {
      if (exchange === '' || this.#declared.has(exchange)) continue;
      await connection.declare(exchangeOf({ kind, exchange, routingKey, name: '' }));
      this.#declared.add(exchange);
    }
    await publisher.publish(publications.map((publication) => toAmqp(publication, false)));
  }

  /** Ends the remaining subscriptions, and the connection. */
  async close(): Promise<void> {
    const opened = await this.#opening?.catch(() => undefined);
    await Promise.all([...this.#ends].map((end) => end().catch(() => undefined)));
    await opened?.publisher.close();
    await opened?.connection.close();
    this.#opening = undefined;
  }

  #open(): Promise<Opened> {
    return (this.#opening ??= this.#connect().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async #connect(): Promise<Opened> {
    const connection = new AmqpConnection(this.#target, { log: this.#log() });
    connection.onDown(() => this.#declared.clear());
    try {
      await connection.connect();
    } catch (error) {
      await connection.close();
      throw error;
    }
    return { connection, publisher: new AmqpPublisher(connection) };
  }
}

/** As kombu's Mailbox and Celery's receiver declare it. */
function mailbox({ kind, name, exchange, routingKey }: BroadcastQueue): AmqpQueue {
  const like = kind === 'pidbox' ? pidboxQueue('') : kind === 'reply' ? pidboxReplyQueue('') : eventQueue('');
  return { ...like, name, exchange, routingKey };
}

function exchangeOf(queue: BroadcastQueue): readonly Declaration[] {
  return queueDeclarations(mailbox(queue)).filter(({ kind }) => kind === 'exchange');
}

function tell(delivered: Delivered, listener: BroadcastListener): void {
  try {
    if (delivered.body.length > MESSAGE_BYTES) {
      const what = `a broadcast has ${delivered.body.length} bytes, more than the ${MESSAGE_BYTES} allowed`;
      throw new WireError('celery', 'too-large', what);
    }
    listener.hear(toWire(delivered));
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    listener.refuse(error);
  }
}
