import { randomUUID } from 'node:crypto';
import type { AmqpMessage, Declaration } from '../../../../protocols/amqp.ts';
import {
  parking,
  quarantine,
  type Quarantine,
  returnsOf,
  toBackOfQueue,
} from '../../../../protocols/celery/brokers/amqp-parking.ts';
import { toAmqp } from '../../../../protocols/celery/brokers/amqp.ts';
import type { Publication } from '../../../../protocols/celery/message/message.ts';
import {
  DELAYED_DELIVERY,
  delayBindings,
  delayedDeclarations,
  delayedRoute,
  isDelayable,
  isDelayExchange,
} from '../../../../protocols/celery/brokers/native-delay.ts';
import {
  broadcastQueue,
  configuredQueue,
  queueDeclarations,
  type QueueType,
  type TopologySettings,
  usesQuorum,
  withSettings,
} from '../../../../protocols/celery/brokers/topology.ts';
import { WireError } from '../../../../protocols/errors.ts';
import { parseIso } from '../../../../protocols/formats/values.ts';
import { ConfigError, ConnectionError, UnroutableError } from '../../../errors.ts';
import { type Logger, silent } from '../../../log.ts';
import { type Agent, every, pause } from '../../../source.ts';
import { AmqpConsumer, type Delivered } from '../../../transports/amqp-consumer.ts';
import { AmqpPublisher } from '../../../transports/amqp-publisher.ts';
import { amqpTarget, type AmqpTarget, type AmqpTargetOptions } from '../../../transports/amqp-url.ts';
import { AmqpConnection } from '../../../transports/amqp.ts';
import { AmqpClaim, Claims } from './amqp-claims.ts';
import { AmqpBroadcasts } from './broadcast-amqp.ts';
import type { CeleryBroker, Claim, ConsumeOptions, QueueSpec } from './broker.ts';

export interface AmqpBrokerOptions extends AmqpTargetOptions {
  /** The most messages that wait while the connection is lost. More messages fail at once. @default 10 000 */
  readonly publishBuffer?: number;
  /** The seconds that they wait. @default 5 */
  readonly publishPatience?: number;
  /** Ask the broker to return a message that no queue takes, so that it is an error and is not dropped silently. @default true */
  readonly mandatory?: boolean;
  /**
   * Seconds a message is held here before it goes back to wait in RabbitMQ. RabbitMQ closes a channel that holds a message for longer than its
   * `consumer_timeout` (1800). @default 900
   */
  readonly holdLimit?: number;
  /** A message that RabbitMQ delivered this many times (`x-delivery-count`, quorum queues) is quarantined and does not run. @default 20 */
  readonly deliveryLimit?: number;
  /** Seconds between checks that the queues are really consumed. @default 15 */
  readonly watchInterval?: number;
}

/** The settings of the application's queues that the broker needs. */
export interface AmqpTopology extends TopologySettings {
  /** Queues that have more than a name. They are also used for publishing. */
  readonly taskQueues?: readonly QueueSpec[];
  /** The type of the queues in which tasks wait for their ETA, if quorum queues are used. @default 'quorum' */
  readonly brokerNativeDelayedDeliveryQueueType?: QueueType;
  /** Declare queues that are only a name. With false, sending to such a queue is an error. @default true */
  readonly taskCreateMissingQueues?: boolean;
}

/** RabbitMQ, as Celery uses it: one connection to publish, one to consume. */
export class AmqpBroker implements CeleryBroker {
  readonly kind = 'amqp';
  readonly address: string;
  readonly agents: readonly Agent[];
  readonly maxHoldMs: number;
  readonly #target: AmqpTarget;
  readonly #options: AmqpBrokerOptions;
  readonly #topology: AmqpTopology;
  readonly #named = new Map<string, QueueSpec>();
  readonly #exchanges = new Map<string, string>([[DELAYED_DELIVERY, 'topic']]);
  #claims = new Claims(0);
  #broadcasts: AmqpBroadcasts | undefined;
  #log: Logger = silent;
  #publishing: AmqpConnection | undefined;
  #publisher: AmqpPublisher | undefined;
  #consuming: AmqpConnection | undefined;
  #consumer: AmqpConsumer | undefined;
  #opening: Promise<void> | undefined;
  #closed = false;
  #quiet = false;
  #quorum: boolean;
  #prefetch = 0;
  #held = 0;
  /** The part of the prefetch for held messages, if each consumer has its own prefetch. */
  #more = 0;
  /** The queues that were declared since the publishing connection last connected. */
  readonly #declared = new Set<string>();
  #arrived: AmqpClaim[] = [];
  #next = 0;
  #wake: (() => void) | undefined;
  #signal: AbortSignal | undefined;

  constructor(url: string, options: AmqpBrokerOptions = {}, topology: AmqpTopology = {}) {
    this.#target = amqpTarget(url, options);
    this.#options = options;
    this.#topology = topology;
    this.address = this.#target.maskedUrl;
    for (const queue of topology.taskQueues ?? []) this.#know(configuredQueue(queue, topology));
    this.#quorum = this.#seesQuorum();
    this.maxHoldMs = (options.holdLimit ?? 900) * 1000;
    this.agents = [every('amqp-watch', (options.watchInterval ?? 15) * 1000, () => this.#watch())];
  }

  open(log: Logger): Promise<void> {
    this.#log = log;
    this.#closed = false;
    return (this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async consume(queues: readonly QueueSpec[], { prefetch }: ConsumeOptions): Promise<void> {
    this.#quiet = false;
    const specs = queues.map((queue) => this.#resolve(queue));
    for (const spec of specs) this.#know(spec);
    this.#quorum = this.#seesQuorum();
    this.#prefetch = prefetch;
    this.#claims = new Claims(
      prefetch === 0 ? Number.POSITIVE_INFINITY : prefetch * (this.#quorum ? queues.length : 1),
    );
    const connection = new AmqpConnection(this.#target, { log: this.#log });
    this.#consuming = connection;
    await connection.connect();
    const consumer = new AmqpConsumer(connection, {
      prefetch,
      global: !this.#quorum,
      log: this.#log,
      deliver: (delivered) => this.#deliver(delivered),
      lost: (generation) => this.#lost(generation),
    });
    this.#consumer = consumer;
    const delayed = this.#quorum
      ? delayedDeclarations(this.#topology.brokerNativeDelayedDeliveryQueueType ?? 'quorum')
      : [];
    await connection.declare(delayed);
    await consumer.start(specs.map((spec) => ({ queue: spec.name, declarations: this.#declarations(spec) })));
  }

  async receive(max: number, signal: AbortSignal): Promise<readonly Claim[]> {
    if (this.#next >= this.#arrived.length) await this.#untilSomething(signal);
    if (this.#next >= this.#arrived.length) return [];
    if (this.#next === 0 && this.#arrived.length <= max) {
      const all = this.#arrived;
      this.#arrived = [];
      return all;
    }
    const some = this.#arrived.slice(this.#next, this.#next + max);
    this.#next += some.length;
    if (this.#next >= this.#arrived.length) {
      this.#arrived = [];
      this.#next = 0;
    }
    return some;
  }

  async publish(publications: Iterable<Publication>): Promise<void> {
    const publisher = await this.#ready();
    const messages: AmqpMessage[] = [];
    let declared: readonly Declaration[] | undefined;
    for (const publication of publications) {
      const { declare, message } = this.#addressed(publication);
      if (declare !== undefined) await this.#declareOnce(declare);
      declared = declare;
      messages.push(message);
      if (messages.length >= 1_000) await publisher.publish(messages.splice(0));
    }
    try {
      await publisher.publish(messages);
    } catch (error) {
      if (!(error instanceof UnroutableError)) throw error;
      // The queue may have been deleted after it was declared. Of several messages, it is unknown which ones were taken.
      this.#declared.clear();
      if (messages.length !== 1 || declared === undefined) throw error;
      await this.#declareOnce(declared);
      await publisher.publish(messages);
    }
  }

  async ack(claim: Claim, soon = false): Promise<void> {
    const own = claim as AmqpClaim;
    if (this.#consumer?.ack(own, soon) === true) this.#claims.done(own, 'ack');
    else this.#claims.settleLater(own, 'ack');
  }

  async reject(claim: Claim): Promise<void> {
    const own = claim as AmqpClaim;
    if (this.#consumer?.reject(own, false) === true) this.#claims.done(own, 'reject');
    else this.#claims.settleLater(own, 'reject');
  }

  /**
   * RabbitMQ counts each return to a quorum queue, and drops or dead-letters a message beyond the queue's limit (20 by default since 4.0). A message that
   * was returned before is published again instead, as a new one: many workers may stop and start while it waits. Only quorum queues report the count.
   */
  async requeue(claim: Claim): Promise<void> {
    const own = claim as AmqpClaim;
    const { damage } = own.delivered.properties;
    if (
      own.lost ||
      damage !== undefined ||
      (!this.#takesNoReturn(own) && returnsOf(own.message?.headers ?? {}) === 0)
    ) {
      // If its channel is closed, RabbitMQ has returned it already.
      this.#consumer?.reject(own, true);
      return this.#claims.forget(own);
    }
    return this.moveToBack(claim);
  }

  /** Publishes a new message, waits for its confirm, then acknowledges the old one. In between there are two messages, never none. */
  async moveToBack(claim: Claim): Promise<void> {
    const own = claim as AmqpClaim;
    if (own.lost) return this.#claims.forget(own);
    const publisher = await this.#ready();
    const message = toBackOfQueue(own.delivered);
    try {
      await publisher.publish([message]);
    } catch (error) {
      if (!(error instanceof UnroutableError)) throw error;
      // Its queue was deleted meanwhile, and the message with it. This is the last copy.
      const spec = this.#named.get(claim.queue);
      if (spec !== undefined) await this.#publishing?.declare(this.#declarations(spec));
      await publisher.publish([message]);
    }
    // Its settlement is not remembered: the new message looks the same, and must not be mistaken for a redelivery of the old one.
    this.#consumer?.ack(own);
    this.#claims.forget(own);
  }

  /** A queue that drops a message at its first return. */
  #takesNoReturn({ queue }: AmqpClaim): boolean {
    return Number(this.#named.get(queue)?.queueArguments?.['x-delivery-limit']) === 0;
  }

  async quarantine(
    claim: Claim,
    why: { readonly code: string; readonly reason: string; readonly id?: string },
  ): Promise<string> {
    const own = claim as AmqpClaim;
    const spec = this.#named.get(claim.queue);
    const exchange = spec?.deadLetterExchange ?? spec?.queueArguments?.['x-dead-letter-exchange'];
    if (exchange !== undefined) {
      await this.reject(claim);
      return `It was rejected, and RabbitMQ passes it on to the dead-letter exchange '${String(exchange)}' of its queue`;
    }
    const kept = await this.#quarantine(
      quarantine(own.delivered, this.#isQuorum(claim.queue), why, new Date(), randomUUID()),
    );
    await this.ack(claim);
    return `${kept}. To try it again, move it back with a shovel or the management page`;
  }

  async keep(publication: Publication, reason: string): Promise<string> {
    const { properties, body, exchange, routingKey } = toAmqp(publication);
    const queue = exchange === '' ? routingKey : exchange;
    const found = { properties, body, exchange, routingKey, redelivered: false, queue };
    return this.#quarantine(quarantine(found, false, { code: 'unroutable', reason }, new Date(), randomUUID()));
  }

  async park(claim: Claim, at: Date): Promise<void> {
    const own = claim as AmqpClaim;
    const { declaration, message } = parking(own.delivered, this.#isQuorum(claim.queue), at.getTime() - Date.now());
    // The queue is declared each time: this postpones its expiry.
    await this.#publishing?.declare([declaration]);
    await (await this.#ready()).publish([message]);
    await this.ack(claim);
  }

  get broadcast(): AmqpBroadcasts {
    return (this.#broadcasts ??= new AmqpBroadcasts(this.#target, () => this.#log));
  }

  async addQueue(queue: QueueSpec): Promise<void> {
    const spec = this.#resolve(queue);
    this.#know(spec);
    await this.#consumer?.add({ queue: spec.name, declarations: this.#declarations(spec) });
  }

  async removeQueue(name: string): Promise<void> {
    await this.#consumer?.remove(name);
  }

  /** Sets the number of messages that are held here for later. RabbitMQ may send as many more. */
  extend(held: number): void {
    this.#held = held;
    if (this.#prefetch === 0) return;
    this.#consumer?.setPrefetch(this.#prefetch + (this.#quorum ? this.#steps(held) : held));
  }

  /** A consumer with its own prefetch is replaced at each change, so changes are rare. The room doubles, and shrinks when a quarter is enough. */
  #steps(held: number): number {
    const needed = held === 0 ? 0 : this.#prefetch * 2 ** Math.ceil(Math.log2(Math.max(1, held / this.#prefetch)));
    if (held > this.#more || needed <= this.#more / 4) this.#more = needed;
    return this.#more;
  }

  resize(prefetch: number): void {
    this.#prefetch = prefetch;
    this.extend(this.#held);
  }

  async quiet(): Promise<void> {
    this.#quiet = true;
    await this.#consumer?.quiet();
    const waiting = this.#arrived.slice(this.#next);
    this.#arrived = [];
    this.#next = 0;
    await Promise.all(waiting.reverse().map((claim) => this.#giveBack(claim)));
    this.#wake?.();
  }

  async close(): Promise<void> {
    this.#closed = true;
    const consumed = async (): Promise<void> => {
      await this.#consumer?.close();
      await this.#consuming?.close();
    };
    const published = async (): Promise<void> => {
      await this.#publisher?.close();
      await this.#publishing?.close();
    };
    await Promise.all([this.#broadcasts?.close(), consumed(), published()]);
    this.#consumer = this.#consuming = this.#publisher = this.#publishing = this.#opening = undefined;
  }

  async #open(): Promise<void> {
    const patienceMs = (this.#options.publishPatience ?? 5) * 1000;
    const { publishBuffer } = this.#options;
    const connection = new AmqpConnection(this.#target, { log: this.#log, patienceMs });
    connection.onDown(() => this.#declared.clear());
    try {
      await connection.connect();
    } catch (error) {
      await connection.close();
      throw error;
    }
    this.#publishing = connection;
    this.#publisher = new AmqpPublisher(connection, {
      patienceMs,
      ...(publishBuffer === undefined ? {} : { bufferLimit: publishBuffer }),
    });
  }

  async #ready(): Promise<AmqpPublisher> {
    // A retry after `close` must not connect again.
    if (this.#closed) throw new ConnectionError(`celery: the broker ${this.address} was closed here`);
    await this.open(this.#log);
    return this.#publisher as AmqpPublisher;
  }

  /** A queue, completed from the settings. For a fanout queue without an exchange, each worker gets its own queue and its own copies. */
  #resolve(queue: QueueSpec): QueueSpec {
    const known = Object.keys(queue).length === 1 ? this.#named.get(queue.name) : undefined;
    if (known !== undefined) return known;
    if (queue.exchangeType === 'fanout' && queue.exchange === undefined)
      return broadcastQueue(queue.name, randomUUID(), queue.routingKey);
    return withSettings(queue, this.#topology);
  }

  #know(queue: QueueSpec): void {
    this.#named.set(queue.name, queue);
    for (const { exchange, exchangeType } of queue.bindings ?? [queue])
      this.#exchanges.set(exchange ?? queue.name, exchangeType ?? 'direct');
  }

  #seesQuorum(): boolean {
    return usesQuorum([
      ...this.#named.values(),
      withSettings({ name: this.#topology.taskDefaultQueue ?? 'celery' }, this.#topology),
    ]);
  }

  #isQuorum(queue: string): boolean {
    const spec = this.#named.get(queue);
    return spec !== undefined && usesQuorum([spec]);
  }

  #declarations(spec: QueueSpec): readonly Declaration[] {
    return [...queueDeclarations(spec), ...(this.#quorum && spec.noDeclare !== true ? delayBindings(spec) : [])];
  }

  /** The AMQP message of a publication, and the declarations that must come before it. */
  #addressed(publication: Publication): { readonly declare?: readonly Declaration[]; readonly message: AmqpMessage } {
    const message = toAmqp(publication, this.#options.mandatory ?? true);
    const { exchange, routingKey } = publication;
    if (exchange !== '') {
      const type = this.#exchanges.get(exchange) ?? (isDelayExchange(exchange) ? 'topic' : 'direct');
      return { message: this.#delayed(publication, message, type) };
    }
    let spec = this.#named.get(routingKey);
    if (spec === undefined) {
      if (this.#topology.taskCreateMissingQueues === false) {
        throw new ConfigError(`celery: no queue '${routingKey}' in taskQueues, and taskCreateMissingQueues is false`);
      }
      spec = withSettings({ name: routingKey }, this.#topology);
      this.#know(spec);
    }
    const declare = this.#declarations(spec);
    const type = spec.exchangeType ?? 'direct';
    if (publication.pastExchange === true) return { declare, message };
    if (type === 'direct' || spec.bindings !== undefined || spec.exchange === '') return { declare, message };
    // Celery also uses the exchange of the queue that a task is routed to.
    const key = publication.queueKey ?? spec.routingKey ?? spec.name;
    const routed = { ...message, exchange: spec.exchange ?? spec.name, routingKey: key };
    return { declare, message: this.#delayed(publication, routed, type) };
  }

  /** If quorum queues are used, a task with a future ETA waits in RabbitMQ. */
  #delayed(publication: Publication, message: AmqpMessage, type: string): AmqpMessage {
    if (!this.#quorum || !isDelayable(type)) return message;
    const eta = publication.headers.get('eta');
    if (typeof eta !== 'string') return message;
    const route = delayedRoute((parseIso(eta) - Date.now()) / 1000, message.routingKey);
    return route === undefined ? message : { ...message, ...route };
  }

  async #quarantine({ declaration, message, bare, beside }: Quarantine): Promise<string> {
    await this.#declareOnce([declaration]);
    const publisher = await this.#ready();
    let how = 'the reason in its headers';
    try {
      await publisher.publish(beside === undefined ? [message] : [beside, message]);
      if (beside !== undefined) how += ', its properties in a message of their own before it';
    } catch (error) {
      if (beside !== undefined || !(error instanceof WireError && error.code === 'too-large')) throw error;
      await publisher.publish([bare]);
      how = 'without the reason, for which its headers leave no room';
    }
    return `It is kept in the queue '${declaration.name}', ${how}`;
  }

  async #declareOnce(declarations: readonly Declaration[]): Promise<void> {
    const queue = declarations.find(({ kind }) => kind === 'queue');
    const name = queue !== undefined && 'name' in queue ? queue.name : '';
    if (this.#declared.has(name)) return;
    await this.#publishing?.declare(declarations);
    this.#declared.add(name);
  }

  #deliver(delivered: Delivered): void {
    const claim = new AmqpClaim(delivered);
    const known = delivered.redelivered ? this.#claims.adopt(claim) : undefined;
    if (known === 'held') return;
    if (known !== undefined) {
      if (known === 'ack') this.#consumer?.ack(claim);
      else this.#consumer?.reject(claim, false);
      return;
    }
    this.#claims.add(claim);
    // It was under way when the consumer was cancelled, or the broker has not received the cancel yet.
    if (this.#quiet) return void this.#giveBack(claim);
    if (delivered.redelivered) this.#limit(claim);
    this.#arrived.push(claim);
    this.#wake?.();
  }

  /** A message that cannot be published again is returned when the channel closes. */
  async #giveBack(claim: AmqpClaim): Promise<void> {
    await this.requeue(claim).catch((error: unknown) => {
      this.#log.warn(
        { queue: claim.queue, error },
        'a message could not be given back; RabbitMQ returns it when the channel closes',
      );
    });
  }

  #limit(claim: AmqpClaim): void {
    const count = claim.message?.headers['x-delivery-count'];
    // Quarantined before RabbitMQ drops it. RabbitMQ's own limit is 20 by default.
    if (typeof count !== 'number' || count < (this.#options.deliveryLimit ?? 20)) return;
    const why = `delivered ${count} times and never finished: it may crash its workers`;
    claim.refuse(new WireError('celery', 'delivery-limit', why));
  }

  /** Forgets the claims that no handler has yet. A message whose handler runs may be redelivered, and is recognized then. */
  #lost(generation: number): void {
    for (const claim of this.#arrived.slice(this.#next)) this.#claims.forget(claim);
    this.#arrived = [];
    this.#next = 0;
    this.#claims.lose(generation);
    this.#wake?.();
  }

  /** Resolves when a message arrives, after one second, or when `signal` aborts. Rejects if no queue is consumed. */
  async #untilSomething(signal: AbortSignal): Promise<void> {
    const consumer = this.#consumer;
    if (signal.aborted || consumer === undefined) return;
    // If only some queues cannot be consumed, the others go on. The consumer reports that by itself.
    if (!consumer.partly) {
      // A new channel takes a moment to open. If it takes longer, the source is down.
      await pause(200, signal);
      if (consumer.partly || signal.aborted || this.#next < this.#arrived.length) return;
      const cause = consumer.failure;
      const why = cause instanceof Error ? cause.message : 'not connected';
      throw new ConnectionError(`celery: the queues on ${this.address} are not consumed now: ${why}`, { cause });
    }
    // One listener for all waits of a worker: one AbortController for each wait would cost more than the wait.
    if (this.#signal !== signal) {
      this.#signal = signal;
      signal.addEventListener('abort', () => this.#wake?.(), { once: true });
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1_000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  async #watch(): Promise<void> {
    await Promise.all([
      this.#consumer?.verify(10_000),
      this.#publisher?.busy === true && this.#publishing?.blocked === undefined
        ? this.#publishing?.verify(10_000)
        : undefined,
    ]);
  }
}
