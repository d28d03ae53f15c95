import type { AmqpArguments, Declaration, ExchangeType } from '../../amqp.ts';
import { type AmqpQueue, bindingsOf, type QueueType } from './topology.ts';

/**
 * Tasks that wait in RabbitMQ instead of in a worker's memory, where quorum queues are used. There are 28 levels, each a topic
 * exchange and a queue whose messages expire after 2^level seconds. A routing key starts with the seconds to wait as 28 binary
 * digits, the highest first: digit 1 sends a message through that level's queue, digit 0 past it. What is left of the key
 * routes the message at the end. Source: kombu/transport/native_delayed_delivery.py, celery/app/base.py send_task (5.6).
 */

const LEVELS = 28;
const TOP = LEVELS - 1;
/** Where a task that has waited comes from: its retry may wait there again. */
export const DELAYED_DELIVERY = 'celery_delayed_delivery';

/** The longest wait, in seconds: eight and a half years. */
export const MAX_DELAY: number = 2 ** LEVELS - 1;

/** All 28 levels. `queueType` is the setting `broker_native_delayed_delivery_queue_type`, alike in the whole cluster. */
export function delayedDeclarations(queueType: QueueType = 'quorum'): readonly Declaration[] {
  const declarations: Declaration[] = [];
  for (let level = TOP; level >= 0; level -= 1) {
    const name = levelName(level);
    declarations.push(topicExchange(name));
    declarations.push(
      {
        kind: 'queue',
        name,
        durable: true,
        autoDelete: false,
        exclusive: false,
        arguments: levelArguments(level, queueType),
      },
      { ...binding('queue', name, name), routingKey: `${'*.'.repeat(TOP - level)}1.#` },
    );
  }
  for (let level = TOP; level > 0; level -= 1) {
    declarations.push({
      ...binding('exchange', levelName(level - 1), levelName(level)),
      routingKey: `${'*.'.repeat(TOP - level)}0.#`,
    });
  }
  declarations.push(topicExchange(DELAYED_DELIVERY), {
    ...binding('exchange', DELAYED_DELIVERY, levelName(0)),
    routingKey: `${'*.'.repeat(TOP)}0.#`,
  });
  return declarations;
}

/**
 * What brings delayed messages to a queue in the end. Nothing for direct exchanges, which compare the whole key. A queue of a headers exchange
 * is not bound once more: without arguments it would match everything, as it does in kombu.
 */
export function delayBindings(queue: AmqpQueue): readonly Declaration[] {
  return bindingsOf(queue)
    .filter(({ exchange, exchangeType }) => exchange !== '' && isDelayable(exchangeType ?? 'direct'))
    .flatMap(({ exchange, exchangeType, routingKey = '' }) => {
      const pattern = routingKey.startsWith('#') ? routingKey : `#.${routingKey}`;
      const forwarded = { ...binding('exchange', exchange, DELAYED_DELIVERY), routingKey: pattern };
      const taken = { ...binding('queue', queue.name, exchange), routingKey: pattern };
      return exchangeType === 'headers' ? [forwarded] : [forwarded, taken];
    });
}

/** Whether messages to an exchange of this type can wait in the broker. Those to a direct one wait in the worker. */
export function isDelayable(type: ExchangeType): boolean {
  return type !== 'direct';
}

/**
 * Where to publish what is due in so many seconds; undefined when it is due. Less than a second becomes one (in kombu it is an
 * error), any other fraction is left to the worker, who looks at `eta` again. So does it with what is over MAX_DELAY. A key that was delayed before
 * is delayed anew, not twice.
 */
export function delayedRoute(
  seconds: number,
  routingKey: string,
): { readonly exchange: string; readonly routingKey: string } | undefined {
  if (!(seconds > 0)) return undefined;
  const wait = Math.min(MAX_DELAY, Math.max(1, Math.floor(seconds)));
  const digits = wait.toString(2).padStart(LEVELS, '0');
  return { exchange: levelName(TOP), routingKey: `${[...digits].join('.')}.${withoutDelay(routingKey)}` };
}

/** Where a task comes from that has waited: a retry of it is sent there again. */
export function isDelayExchange(exchange: string): boolean {
  return /^celery_delayed_(?:\d+|delivery)$/.test(exchange);
}

/** The routing key as it was before the wait. */
export function withoutDelay(routingKey: string): string {
  return routingKey.replace(DELAYED, '');
}

const DELAYED = /^(?:[01]\.){28}/;

function levelName(level: number): string {
  return `celery_delayed_${level}`;
}

function levelArguments(level: number, queueType: QueueType): AmqpArguments {
  return {
    'x-queue-type': queueType,
    'x-overflow': 'reject-publish',
    'x-message-ttl': 2 ** level * 1000,
    'x-dead-letter-exchange': level > 0 ? levelName(level - 1) : DELAYED_DELIVERY,
    ...(queueType === 'quorum' ? { 'x-dead-letter-strategy': 'at-least-once' } : {}),
  };
}

function topicExchange(name: string): Declaration {
  return { kind: 'exchange', name, type: 'topic', durable: true, autoDelete: false, arguments: {} };
}

function binding(to: 'queue' | 'exchange', destination: string, source: string) {
  return { kind: 'binding', to, destination, source, arguments: {} } as const;
}
