import type { AmqpArguments, BindingDeclaration, Declaration, ExchangeType } from '../../amqp.ts';

/**
 * What Celery declares on AMQP, as data, in kombu's order. Everybody in a cluster must declare the same: a broker that has a queue
 * with other properties answers 406 and closes the channel. Source: kombu/entity.py, celery/app/amqp.py Queues (5.6).
 */

/** A queue in the words of kombu's `Queue` and `Exchange`. Times in seconds, as there. */
export interface AmqpQueue {
  readonly name: string;
  /**
   * What the queue is bound to. `''`: nothing; the queue is reached by its name. In a configuration, as Celery has it:
   * @default the default exchange; for a queue that is only a name, and with an `exchangeType`, one of the queue's name
   */
  readonly exchange?: string;
  /** @default 'direct' */
  readonly exchangeType?: ExchangeType;
  /** @default true */
  readonly exchangeDurable?: boolean;
  /** @default false */
  readonly exchangeAutoDelete?: boolean;
  readonly exchangeArguments?: AmqpArguments;
  /** @default `taskDefaultRoutingKey`; for a queue that is only a name, and with an exchange of its own, its name */
  readonly routingKey?: string;
  /** For an exchange of type `headers`: `{'x-match': 'all', kind: 'invoice'}`. */
  readonly bindingArguments?: AmqpArguments;
  /** Instead of `exchange`, `routingKey` and `bindingArguments`, where there are several. */
  readonly bindings?: readonly QueueBinding[];
  /** @default true */
  readonly durable?: boolean;
  /** @default false, but true for an exclusive queue */
  readonly autoDelete?: boolean;
  /** @default false */
  readonly exclusive?: boolean;
  /** `x-...`, as RabbitMQ knows them. The fields below win. */
  readonly queueArguments?: AmqpArguments;
  readonly queueType?: QueueType;
  /** RabbitMQ's 0 is the lowest. */
  readonly maxPriority?: number;
  /** Seconds without a consumer until the queue is deleted. */
  readonly expires?: number;
  /** Seconds. */
  readonly messageTtl?: number;
  readonly maxLength?: number;
  readonly maxLengthBytes?: number;
  readonly deadLetterExchange?: string;
  readonly deadLetterRoutingKey?: string;
  /** Declare nothing: only check that the queue is there. @default false */
  readonly noDeclare?: boolean;
}

export type QueueType = 'classic' | 'quorum';

/** One of several bindings of a queue. */
export interface QueueBinding {
  readonly exchange: string;
  /** @default 'direct' */
  readonly exchangeType?: ExchangeType;
  /** @default true */
  readonly exchangeDurable?: boolean;
  /** @default false */
  readonly exchangeAutoDelete?: boolean;
  readonly exchangeArguments?: AmqpArguments;
  /** @default '' */
  readonly routingKey?: string;
  readonly bindingArguments?: AmqpArguments;
}

/** Celery's settings of the same names. */
export interface TopologySettings {
  /** @default 'celery' */
  readonly taskDefaultQueue?: string;
  /** @default the default queue's name */
  readonly taskDefaultExchange?: string;
  /** @default 'direct' */
  readonly taskDefaultExchangeType?: ExchangeType;
  /** @default the default queue's name */
  readonly taskDefaultRoutingKey?: string;
  /** @default 'classic' */
  readonly taskDefaultQueueType?: QueueType;
  /** `x-max-priority` of every queue that has none of its own. */
  readonly taskQueueMaxPriority?: number;
  /** Of queues that are only a name. @default 'classic' */
  readonly taskCreateMissingQueueType?: QueueType;
  /** @default 'direct' */
  readonly taskCreateMissingQueueExchangeType?: ExchangeType;
}

/**
 * A queue with what Celery's settings add to it. One that is only a name becomes the default queue, or a "missing" one with an exchange of
 * its own name.
 */
export function withSettings(queue: AmqpQueue, settings: TopologySettings): AmqpQueue {
  const { taskDefaultQueue = 'celery' } = settings;
  if (!isOnlyName(queue)) return configuredQueue(queue, settings);
  const full =
    queue.name === taskDefaultQueue ? defaultQueue(taskDefaultQueue, settings) : missingQueue(queue.name, settings);
  return withPriority(full, settings);
}

/**
 * A queue of `task_queues`, a kombu `Queue` there: without an exchange it is bound to the default one, without a key with the default one.
 * Source: celery/app/amqp.py Queues._add.
 */
export function configuredQueue(queue: AmqpQueue, settings: TopologySettings): AmqpQueue {
  const { exchange, exchangeType, bindings } = queue;
  // Nothing of kombu's: bound to nothing; several bindings, of which none is the main one; an exchange of the queue's own name.
  const isWhole = exchange === '' || bindings !== undefined || (exchange === undefined && exchangeType !== undefined);
  if (isWhole) return withPriority(queue, settings);
  const main = defaultQueue(settings.taskDefaultQueue ?? 'celery', settings);
  return withPriority(
    {
      ...queue,
      ...(exchange === undefined ? { exchange: main.exchange, exchangeType: main.exchangeType } : {}),
      routingKey: queue.routingKey ?? main.routingKey,
    },
    settings,
  );
}

function withPriority(queue: AmqpQueue, { taskQueueMaxPriority: maxPriority }: TopologySettings): AmqpQueue {
  if (maxPriority === undefined || queue.queueArguments?.['x-max-priority'] !== undefined) return queue;
  return { ...queue, queueArguments: { ...queue.queueArguments, 'x-max-priority': maxPriority } };
}

function isOnlyName(queue: AmqpQueue): boolean {
  return Object.entries(queue).every(([name, value]) => name === 'name' || value === undefined);
}

function defaultQueue(
  name: string,
  settings: TopologySettings,
): AmqpQueue & Required<Pick<AmqpQueue, 'exchange' | 'exchangeType' | 'routingKey'>> {
  return {
    name,
    exchange: settings.taskDefaultExchange ?? name,
    exchangeType: settings.taskDefaultExchangeType ?? 'direct',
    routingKey: settings.taskDefaultRoutingKey ?? name,
    ...ofType(settings.taskDefaultQueueType),
  };
}

function missingQueue(name: string, settings: TopologySettings): AmqpQueue {
  const exchangeType = settings.taskCreateMissingQueueExchangeType ?? 'direct';
  return { name, exchange: name, exchangeType, routingKey: name, ...ofType(settings.taskCreateMissingQueueType) };
}

/** Celery never writes `classic`. */
function ofType(type: QueueType | undefined): { readonly queueType?: QueueType } {
  return type === 'quorum' ? { queueType: type } : {};
}

/** The exchange, the queue, the binding; then each further exchange and its binding. Source: kombu/entity.py Queue.declare. */
export function queueDeclarations(queue: AmqpQueue): readonly Declaration[] {
  const { name, exclusive = false, durable = true, autoDelete = exclusive } = queue;
  const declared: Declaration = {
    kind: 'queue',
    name,
    durable,
    autoDelete: autoDelete || exclusive,
    exclusive,
    arguments: queueArguments(queue),
  };
  if (queue.noDeclare) return [{ ...declared, passive: true }];
  if (queue.bindings !== undefined) {
    return [declared, ...queue.bindings.flatMap((each) => [...exchangeDeclarations(each), ...bindingOf(name, each)])];
  }
  const only = bindingsOf(queue)[0] as QueueBinding;
  return [...exchangeDeclarations(only), declared, ...bindingOf(name, only)];
}

/** How messages come to a queue: several ways, or the one of its `exchange`. */
export function bindingsOf(queue: AmqpQueue): readonly QueueBinding[] {
  if (queue.bindings !== undefined) return queue.bindings;
  return [{ ...queue, exchange: queue.exchange ?? queue.name, routingKey: queue.routingKey ?? queue.name }];
}

/** Whether RabbitMQ replicates one of them: then prefetch counts are a consumer's, and waiting tasks wait in the broker. */
export function usesQuorum(queues: Iterable<AmqpQueue>): boolean {
  return [...queues].some((queue) => queueArguments(queue)['x-queue-type'] === 'quorum');
}

/** Nothing for the default exchange and for those that RabbitMQ brings along. */
function exchangeDeclarations(from: QueueBinding): readonly Declaration[] {
  if (from.exchange === '' || from.exchange.startsWith('amq.')) return [];
  return [
    {
      kind: 'exchange',
      name: from.exchange,
      type: from.exchangeType ?? 'direct',
      durable: from.exchangeDurable ?? true,
      autoDelete: from.exchangeAutoDelete ?? false,
      arguments: from.exchangeArguments ?? {},
    },
  ];
}

function bindingOf(destination: string, from: QueueBinding): readonly BindingDeclaration[] {
  if (from.exchange === '') return [];
  const { exchange: source, routingKey = '', bindingArguments = {} } = from;
  return [{ kind: 'binding', to: 'queue', destination, source, routingKey, arguments: bindingArguments }];
}

/** Seconds become whole milliseconds. Source: kombu/transport/base.py to_rabbitmq_queue_arguments. */
function queueArguments(queue: AmqpQueue): AmqpArguments {
  const given: Readonly<Record<string, string | number | undefined>> = {
    'x-queue-type': queue.queueType,
    'x-max-priority': queue.maxPriority,
    'x-expires': millis(queue.expires),
    'x-message-ttl': millis(queue.messageTtl),
    'x-max-length': queue.maxLength,
    'x-max-length-bytes': queue.maxLengthBytes,
    'x-dead-letter-exchange': queue.deadLetterExchange,
    'x-dead-letter-routing-key': queue.deadLetterRoutingKey,
  };
  const fields = Object.entries(given).filter((field): field is [string, string | number] => field[1] !== undefined);
  return { ...queue.queueArguments, ...Object.fromEntries(fields) };
}

function millis(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : Math.trunc(seconds * 1000);
}

/** The queue that reaches one worker (`worker_direct`). Source: celery/utils/nodenames.py worker_direct. */
export function workerDirectQueue(node: string): AmqpQueue {
  return { name: `${node}.dq2`, exchange: 'C.dq2', exchangeType: 'direct', routingKey: node };
}

/**
 * A queue that gets a copy of what is broadcast; everybody has one of their own. Source: kombu/common.py Broadcast.
 * @param id a new uuid
 * @param routingKey what Celery binds it with; a fanout exchange does not look at it
 */
export function broadcastQueue(exchange: string, id: string, routingKey = 'celery'): AmqpQueue {
  return { name: `bcast.${id}`, exchange, exchangeType: 'fanout', routingKey, autoDelete: true };
}

/** What is the same of all queues for control and for events. */
export interface MailboxOptions {
  /** `control_queue_expires` and so on; seconds. */
  readonly expires?: number;
  /** `control_queue_ttl` and so on; seconds. */
  readonly messageTtl?: number;
  /** @default false */
  readonly exclusive?: boolean;
  /** @default false */
  readonly durable?: boolean;
}

/** `control_exchange`. */
const CONTROL = 'celery';

/** Where a worker gets commands: a fanout exchange, so that every worker does. Source: kombu/pidbox.py Mailbox.get_queue. */
export function pidboxQueue(node: string, options: MailboxOptions = {}, control: string = CONTROL): AmqpQueue {
  return {
    ...mailbox(options, { expires: 10, messageTtl: 300 }),
    name: `${node}.${control}.pidbox`,
    exchange: `${control}.pidbox`,
    exchangeType: 'fanout',
    exchangeDurable: false,
    routingKey: '',
  };
}

/** Where the answers come to. `oid` names the asking process. Source: kombu/pidbox.py Mailbox.get_reply_queue. */
export function pidboxReplyQueue(oid: string, options: MailboxOptions = {}, control: string = CONTROL): AmqpQueue {
  return {
    ...mailbox(options, { expires: 10, messageTtl: 300 }),
    name: `${oid}.reply.${control}.pidbox`,
    exchange: `reply.${control}.pidbox`,
    exchangeType: 'direct',
    exchangeDurable: false,
    routingKey: oid,
  };
}

/**
 * Where a monitor, or a worker's gossip, hears events. Who sends them declares the exchange alone.
 * Source: celery/events/receiver.py EventReceiver.
 * @param routingKey gossip hears `worker.#`, with the interval of its heartbeats as `messageTtl`
 */
export function eventQueue(
  id: string,
  routingKey = '#',
  options: MailboxOptions = {},
  exchange = 'celeryev',
): AmqpQueue {
  return {
    ...mailbox(options, { expires: 60, messageTtl: 5 }),
    name: `celeryev.${id}`,
    exchange,
    exchangeType: 'topic',
    routingKey,
  };
}

/** Where a client of the `rpc://` backend gets its results, kept for so many seconds; 0 for ever. Source: celery/backends/rpc.py RPCBackend.binding. */
export function resultQueue(oid: string, expires = 86_400): AmqpQueue {
  return { name: oid, exchange: '', durable: false, autoDelete: true, ...(expires > 0 ? { expires } : {}) };
}

function mailbox(options: MailboxOptions, by: { readonly expires: number; readonly messageTtl: number }) {
  const { exclusive = false, durable = false, expires = by.expires, messageTtl = by.messageTtl } = options;
  return { durable, exclusive, autoDelete: !durable, expires, messageTtl };
}
