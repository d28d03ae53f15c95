import { ConfigError } from '../../../errors.ts';
import type { QueueSpec } from './broker.ts';

const TYPES = ['direct', 'topic', 'fanout'] as const;

/**
 * The type of a queue's exchange on brokers where kombu emulates exchanges. Throws ConfigError for a type that only RabbitMQ has.
 * Source: kombu/transport/virtual/exchange.py STANDARD_EXCHANGE_TYPES.
 */
export function virtualType({ name, exchangeType = 'direct' }: QueueSpec): (typeof TYPES)[number] {
  const known = TYPES.find((type) => type === exchangeType);
  if (known !== undefined) return known;
  throw new ConfigError(
    `celery: the exchange of queue '${name}' is of type '${exchangeType}', which needs RabbitMQ; this broker has direct, topic and fanout`,
  );
}
