import type { AmqpProperties, Declaration } from '../../protocols/amqp.ts';
import { backoff } from '../backoff.ts';
import { RenewingSet } from '../renewing.ts';
import { ConfigError, ConnectionError } from '../errors.ts';
import { type Logger, silent } from '../log.ts';
import { pause } from '../source.ts';
import { type AmqpConnection, type AmqpLink, atMost, type Channel, describe } from './amqp.ts';

/** A delivered message. It is settled by its delivery tag, and only on the channel that delivered it. */
export interface Delivered {
  readonly queue: string;
  /** The number of the channel: channels are counted. */
  readonly generation: number;
  readonly deliveryTag: number;
  readonly consumerTag: string;
  readonly redelivered: boolean;
  readonly exchange: string;
  readonly routingKey: string;
  readonly properties: AmqpProperties;
  readonly body: Buffer;
}

export interface Consumption {
  readonly queue: string;
  /** Declarations that the queue needs. They are sent before the queue is consumed, and again with each new connection. */
  readonly declarations: readonly Declaration[];
  /** The broker deletes a message as soon as it has sent it. @default false */
  readonly noAck?: boolean;
  /** `x-priority` and so on. */
  readonly arguments?: Readonly<Record<string, string | number | boolean>>;
}

export interface ConsumerOptions {
  /** How many unsettled messages the broker sends; 0 is without limit. */
  readonly prefetch: number;
  /** Whether `prefetch` counts all queues together. Quorum queues refuse that; then it counts each queue. @default false */
  readonly global?: boolean;
  readonly log?: Logger;
  /** Called for each message, in order. */
  readonly deliver: (message: Delivered) => void;
  /** The channel with this generation is gone. Its messages are no longer claimed here: the broker has them again. */
  readonly lost: (generation: number, error: unknown) => void;
}

interface Session {
  readonly link: AmqpLink;
  readonly channel: Channel;
  readonly generation: number;
  /** Consumer tag to queue. */
  readonly consumers: Map<string, string>;
  /** Delivery tags of messages that are not settled, in order of delivery. */
  readonly outstanding: RenewingSet<number>;
  /** Delivery tags to acknowledge together. */
  acks: number[];
  prefetch: number;
}

/** How long declaring all queues and beginning to consume them may take. */
const PATIENCE_MS = 60_000;

/** How long an acknowledgement may wait for further ones. */
const ACK_DELAY_MS = 3;

/** amqplib numbers consumers when the caller does not. Here the caller numbers them, and never uses a number twice. */
let consumerCount = 0;

/**
 * Consumes queues on one channel, and starts again by itself: after a lost connection, after the broker closed the channel (a message was held for
 * too long), and after the broker cancelled a consumer (a queue was deleted, or a node is gone). Acknowledgements are sent together.
 */
export class AmqpConsumer {
  readonly #connection: AmqpConnection;
  readonly #options: ConsumerOptions;
  readonly #log: Logger;
  readonly #queues = new Map<string, Consumption>();
  readonly #closing = new AbortController();
  #global: boolean;
  #prefetch: number;
  #session: Session | undefined;
  #generation = 0;
  #starting: Promise<void> | undefined;
  #beginning: { readonly link: AmqpLink; readonly since: number } | undefined;
  #recovering = false;
  #failure: unknown;
  #flush: NodeJS.Immediate | undefined;
  #flushLater: NodeJS.Timeout | undefined;
  #adjusting = false;
  #quiet = false;

  constructor(connection: AmqpConnection, options: ConsumerOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#log = options.log ?? silent;
    this.#global = options.global ?? false;
    this.#prefetch = options.prefetch;
    connection.onUp(() => void this.#recover());
    connection.onDown((error) => this.#end(this.#session, error));
  }

  /** Whether every queue is consumed now. */
  get consuming(): boolean {
    const { size } = this.#session?.consumers ?? { size: 0 };
    return !this.#quiet && this.#session !== undefined && size >= this.#queues.size;
  }
  /** Whether any queue is consumed now. */
  get partly(): boolean {
    return !this.#quiet && (this.#session?.consumers.size ?? 0) > 0;
  }
  /** Why a queue could not be consumed the last time. */
  get failure(): unknown {
    return this.#failure;
  }
  get generation(): number {
    return this.#session?.generation ?? 0;
  }

  /** Begins to consume these queues. Rejects with ConfigError or ConnectionError when that fails. Later failures are retried here. */
  async start(queues: readonly Consumption[]): Promise<void> {
    for (const each of queues) this.#queues.set(each.queue, each);
    await this.#connection.linked();
    await (this.#starting ??= this.#start());
  }

  /** Consumes one more queue. */
  async add(consumption: Consumption): Promise<void> {
    if (this.#queues.has(consumption.queue)) return;
    await this.#connection.declare(consumption.declarations);
    this.#queues.set(consumption.queue, consumption);
    // Without a session this queue is consumed with the others as soon as there is one.
    const session = this.#session;
    if (session !== undefined && !this.#quiet) await this.#consume(session, consumption);
  }

  /** Stops consuming one queue. Messages that it delivered can still be settled. */
  async remove(queue: string): Promise<void> {
    this.#queues.delete(queue);
    const session = this.#session;
    if (session === undefined) return;
    const tags = [...session.consumers].filter(([, name]) => name === queue).map(([tag]) => tag);
    for (const tag of tags) {
      session.consumers.delete(tag);
      // A channel that is gone has no consumers.
      await session.channel.cancel(tag).catch(() => undefined);
    }
  }

  /**
   * Acknowledges a message, together with others. The acknowledgement is sent at the end of this turn of the event loop if `soon` is set, or if a
   * good part of the prefetch count is to be acknowledged. Otherwise it is sent a few milliseconds later, with all that came until then. Each
   * acknowledgement costs RabbitMQ work, however many messages it covers. Returns false, and does nothing, for a message of a channel that is gone.
   */
  ack({ generation, deliveryTag }: Pick<Delivered, 'generation' | 'deliveryTag'>, soon = false): boolean {
    const session = this.#session;
    if (session?.generation !== generation || !session.outstanding.delete(deliveryTag)) return false;
    session.acks.push(deliveryTag);
    if (soon || session.acks.length >= enough(session.prefetch)) this.#flush ??= setImmediate(() => this.#sendAcks());
    else this.#flushLater ??= setTimeout(() => this.#sendAcks(), ACK_DELAY_MS);
    return true;
  }

  /** Gives the message back, or drops it (to the queue's dead-letter exchange, where it has one). */
  reject({ generation, deliveryTag }: Pick<Delivered, 'generation' | 'deliveryTag'>, requeue: boolean): boolean {
    const session = this.#session;
    if (session?.generation !== generation || !session.outstanding.delete(deliveryTag)) return false;
    this.#send(session, () => session.channel.reject(message(deliveryTag), requeue));
    return true;
  }

  /** Sets how many unsettled messages the broker may send from now on. Several changes in one turn are sent as one. */
  setPrefetch(prefetch: number): void {
    this.#prefetch = prefetch;
    if (this.#adjusting) return;
    this.#adjusting = true;
    setImmediate(() => void this.#adjust());
  }

  /** Stops consuming. Messages that were delivered can still be settled. Waits at most a second for the broker's answer. */
  async quiet(): Promise<void> {
    this.#quiet = true;
    await this.#starting?.catch(() => undefined);
    const session = this.#session;
    if (session === undefined) return;
    const tags = [...session.consumers.keys()];
    session.consumers.clear();
    await atMost(1_000, Promise.all(tags.map((tag) => session.channel.cancel(tag).catch(() => undefined))));
  }

  /** Asks for an answer on the consuming channel. Without an answer within `timeoutMs` the connection is cut. */
  async verify(timeoutMs: number): Promise<void> {
    if (this.#quiet) return;
    const begun = this.#beginning;
    if (begun !== undefined && performance.now() - begun.since > PATIENCE_MS)
      this.#connection.recycle(begun.link, `no answer to declare or consume for ${PATIENCE_MS} ms`);
    const session = this.#session;
    if (session === undefined) return;
    // The prefetch count is only a question here: this count was sent already, or is about to be sent.
    await this.#connection.verify(timeoutMs, async () => {
      await session.channel.prefetch(wire(this.#prefetch), this.#global);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#sendAcks();
    const session = this.#session;
    this.#session = undefined;
    // The broker puts unsettled messages back into their queues.
    if (session !== undefined) await atMost(1_000, session.channel.close());
  }

  async #start(): Promise<void> {
    try {
      try {
        await this.#begin();
      } catch (error) {
        // The broker reports this as an error of the connection, and ends the connection.
        const words = `${describe(error)} ${describe(this.#connection.failure)}`;
        if (!this.#global || !/global qos|NOT.IMPLEMENTED/i.test(words)) throw error;
        this.#log.info({}, 'RabbitMQ counts the prefetch of each of these queues by itself');
        this.#global = false;
        await this.#begin();
      }
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      this.#starting = this.#beginning = undefined;
    }
  }

  async #begin(): Promise<void> {
    this.#beginning = { link: await this.#connection.linked(), since: performance.now() };
    const refused = new Set<string>();
    for (const { queue, declarations } of this.#queues.values()) {
      try {
        await this.#connection.declare(declarations);
      } catch (error) {
        // At the start the caller gets the error. Later, a failure of one queue must not stop the others.
        if (this.#generation === 0 || !(error instanceof ConfigError)) throw error;
        refused.add(queue);
      }
    }
    // Asked again here: the connection may have been replaced during the declarations.
    const link = await this.#connection.linked();
    const channel = await link.model.createChannel();
    const session: Session = {
      link,
      channel,
      generation: ++this.#generation,
      consumers: new Map(),
      outstanding: new RenewingSet(),
      acks: [],
      prefetch: this.#prefetch,
    };
    let reason: unknown;
    channel.on('error', (error: unknown) => (reason = error));
    channel.on('close', () => this.#end(session, reason ?? new Error('the channel was closed')));
    try {
      await channel.prefetch(wire(session.prefetch), this.#global);
      if (this.#closing.signal.aborted) throw new ConnectionError('amqp: closed while it began to consume');
      this.#session = session;
      for (const each of this.#queues.values()) {
        if (this.#quiet) break;
        if (!refused.has(each.queue)) await this.#consume(session, each);
      }
      if (this.#session !== session) throw new ConnectionError(`amqp: the channel was closed: ${describe(reason)}`);
    } catch (error) {
      this.#end(session, error, false);
      // Messages that this channel still delivers are ignored.
      await atMost(1_000, channel.close());
      throw error;
    }
    for (const queue of refused) void this.#consumeLater(session, queue);
    // The prefetch count may have been changed meanwhile.
    if (session.prefetch !== this.#prefetch) this.setPrefetch(this.#prefetch);
  }

  /** `again`: adds a second consumer of the queue, beside the present one, which is cancelled afterwards. */
  async #consume(
    session: Session,
    { queue, noAck = false, arguments: consumerArguments = {} }: Consumption,
    again = false,
  ): Promise<void> {
    const { channel, generation } = session;
    if (!again && [...session.consumers.values()].includes(queue)) return;
    const consumerTag = `jobglot-${process.pid}-${++consumerCount}`;
    session.consumers.set(consumerTag, queue);
    const deliver = (raw: unknown): void => {
      if (raw === null) {
        if (!session.consumers.delete(consumerTag)) return;
        this.#log.warn({ queue }, 'RabbitMQ ended the consumer of this queue; consuming it again');
        void this.#consumeLater(session, queue);
        return;
      }
      const { fields, properties, content } = raw as {
        readonly fields: Pick<Delivered, 'deliveryTag' | 'redelivered' | 'exchange' | 'routingKey'>;
        readonly properties: AmqpProperties;
        readonly content: Buffer;
      };
      const { deliveryTag, redelivered, exchange, routingKey } = fields;
      if (this.#session !== session) return;
      if (!noAck) session.outstanding.add(deliveryTag);
      this.#options.deliver({
        queue,
        generation,
        deliveryTag,
        consumerTag,
        redelivered,
        exchange,
        routingKey,
        properties,
        body: content,
      });
    };
    try {
      await channel.consume(queue, deliver, { consumerTag, noAck, arguments: consumerArguments });
    } catch (cause) {
      session.consumers.delete(consumerTag);
      throw new ConnectionError(`amqp: cannot consume queue '${queue}': ${describe(cause)}`, { cause });
    }
  }

  /** One queue cannot be consumed for now: it was deleted, or its node is gone. This declares and consumes it again. */
  async #consumeLater(session: Session, queue: string): Promise<void> {
    for (let attempt = 0; this.#session === session && !this.#stopped; attempt++) {
      const consumption = this.#queues.get(queue);
      if (consumption === undefined || [...session.consumers.values()].includes(queue)) return;
      try {
        await this.#connection.declare(consumption.declarations);
        if (this.#session !== session || this.#stopped || !this.#queues.has(queue)) return;
        await this.#consume(session, consumption);
        this.#log.info({ queue }, 'consuming this queue again');
        return;
      } catch (error) {
        this.#failure = error;
        if (attempt === 0) this.#log.error({ queue, error }, 'this queue cannot be consumed; trying again');
      }
      await pause(backoff(attempt, Math.random(), 100, 2_000), this.#closing.signal);
    }
  }

  /** Begins again after a new connection, or after the broker closed the channel but not the connection. */
  async #recover(): Promise<void> {
    if (this.#queues.size === 0 || this.#recovering) return;
    this.#recovering = true;
    try {
      for (let attempt = 0; !this.#stopped && this.#session === undefined; attempt++) {
        try {
          await (this.#starting ??= this.#start());
          this.#log.info({ queues: [...this.#queues.keys()] }, 'consuming again');
          return;
        } catch (error) {
          // The next connection calls this again.
          if (!this.#connection.ready) return;
          const how = error instanceof ConfigError ? 'error' : 'warn';
          if (attempt === 0 && !this.#stopped) this.#log[how]({ error }, 'cannot consume yet; trying again');
        }
        await pause(backoff(attempt, Math.random(), 100, 2_000), this.#closing.signal);
      }
    } finally {
      this.#recovering = false;
    }
  }

  get #stopped(): boolean {
    return this.#quiet || this.#closing.signal.aborted;
  }

  #end(session: Session | undefined, error: unknown, recover = true): void {
    if (session === undefined || this.#session !== session) return;
    this.#session = undefined;
    this.#failure = error;
    session.consumers.clear();
    this.#options.lost(session.generation, error);
    this.#log.debug({ error }, 'nothing is consumed for now: the channel is gone');
    if (this.#stopped || !recover) return;
    // A connection that ends closes its channels first. So check in the next microtask whether the connection is still there.
    queueMicrotask(() => {
      if (this.#stopped || this.#connection.link !== session.link) return;
      this.#log.warn({ error }, 'RabbitMQ closed the channel; opening another one');
      void this.#recover();
    });
  }

  /** Sends one multiple acknowledgement for all messages older than the oldest unsettled one, and a single acknowledgement for each of the others. */
  #sendAcks(): void {
    clearImmediate(this.#flush);
    clearTimeout(this.#flushLater);
    this.#flush = this.#flushLater = undefined;
    const session = this.#session;
    if (session === undefined || session.acks.length === 0) return;
    const { acks } = session;
    session.acks = [];
    const [oldest = Number.POSITIVE_INFINITY] = session.outstanding;
    let upTo = 0;
    for (const tag of acks) {
      if (tag < oldest) {
        if (tag > upTo) upTo = tag;
      } else this.#send(session, () => session.channel.ack(message(tag)));
    }
    if (upTo > 0) this.#send(session, () => session.channel.ack(message(upTo), true));
  }

  /** A channel that has just ended rejects the write. Then its end is handled here. */
  #send(session: Session, write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#end(session, error);
    }
  }

  /** Sends the prefetch count. The count of a whole channel can be changed. The count of each consumer changes only with a new consumer. */
  async #adjust(): Promise<void> {
    try {
      for (let session = this.#session; session !== undefined; session = this.#session) {
        const prefetch = this.#prefetch;
        if (session.prefetch === prefetch || this.#quiet) return;
        await session.channel.prefetch(wire(prefetch), this.#global);
        if (!this.#global) {
          for (const [tag, queue] of [...session.consumers]) {
            const consumption = this.#queues.get(queue);
            if (consumption === undefined || !session.consumers.has(tag)) continue;
            await this.#consume(session, consumption, true);
            session.consumers.delete(tag);
            await session.channel.cancel(tag);
          }
        }
        session.prefetch = prefetch;
      }
    } catch (error) {
      this.#log.debug({ error }, 'the prefetch count could not be changed');
    } finally {
      this.#adjusting = false;
    }
  }
}

/** The number of acknowledgements that is sent at once: a quarter of the prefetch count, so that RabbitMQ can send the other messages meanwhile. */
function enough(prefetch: number): number {
  return prefetch === 0 ? 64 : Math.min(64, Math.max(1, prefetch >> 2));
}

/** The part of a message that amqplib reads when it settles the message. */
function message(deliveryTag: number): Parameters<Channel['ack']>[0] {
  return { fields: { deliveryTag } } as Parameters<Channel['ack']>[0];
}

/** The prefetch count on the wire. It has 16 bits; a higher count is sent as 0, which is no limit. */
function wire(prefetch: number): number {
  return prefetch > 65_535 ? 0 : prefetch;
}
