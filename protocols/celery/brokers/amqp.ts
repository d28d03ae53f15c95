import { Buffer } from 'node:buffer';
import type { AmqpMessage, AmqpProperties } from '../../amqp.ts';
import { WireError } from '../../errors.ts';
import { decodeTable, encodeTable } from '../../formats/amqp-table.ts';
import type { Publication, WireMessage } from '../message/message.ts';

/**
 * Celery's messages on AMQP 0-9-1: the envelope's fields are basic properties, the headers a field table, the body its bytes.
 * Properties that AMQP has no place for are left out, as py-amqp does. Source: kombu/transport/pyamqp.py, kombu/messaging.py (5.6).
 */

/** A message as RabbitMQ delivers it. */
export interface AmqpDelivery {
  readonly properties: AmqpProperties;
  readonly exchange: string;
  readonly routingKey: string;
  readonly redelivered: boolean;
  readonly consumerTag?: string;
  readonly body: Uint8Array;
}

/**
 * A delivery in kombu's terms, the header table kept for `exactHeaders`. Throws WireError `undecodable` for properties that cannot be
 * read, `undecodable` or `too-deep` for headers that are no table.
 */
export function toWire(delivery: AmqpDelivery): WireMessage {
  const { properties, exchange, routingKey, redelivered, consumerTag } = delivery;
  const { headers, damage } = properties;
  if (damage !== undefined) throw new WireError('celery', 'undecodable', damage.reason);
  const wire: Record<string, unknown> = {};
  // In the order of the wire; one by one, because every message passes here.
  if (properties.deliveryMode !== undefined) wire['delivery_mode'] = properties.deliveryMode;
  if (properties.priority !== undefined) wire['priority'] = properties.priority;
  if (properties.correlationId !== undefined) wire['correlation_id'] = properties.correlationId;
  if (properties.replyTo !== undefined) wire['reply_to'] = properties.replyTo;
  if (properties.expiration !== undefined) wire['expiration'] = properties.expiration;
  if (properties.messageId !== undefined) wire['message_id'] = properties.messageId;
  if (properties.timestamp !== undefined) wire['timestamp'] = properties.timestamp;
  if (properties.type !== undefined) wire['type'] = properties.type;
  if (properties.userId !== undefined) wire['user_id'] = properties.userId;
  if (properties.appId !== undefined) wire['app_id'] = properties.appId;
  if (properties.clusterId !== undefined) wire['cluster_id'] = properties.clusterId;
  wire['delivery_info'] =
    consumerTag === undefined
      ? { exchange, routing_key: routingKey, redelivered }
      : { exchange, routing_key: routingKey, redelivered, consumer_tag: consumerTag };
  return {
    body: delivery.body,
    contentType: properties.contentType,
    contentEncoding: properties.contentEncoding,
    headers: headers === undefined ? {} : decodeTable(headers),
    properties: wire,
    raw: undefined,
    ...(headers === undefined ? undefined : { headerTable: headers }),
  };
}

/**
 * A publication as AMQP has it. `user_id` is left out: RabbitMQ closes the channel over anybody's name but the connection's own.
 * Throws WireError `unencodable` for a header without a type in AMQP, and for a text of over 255 bytes where AMQP has no room.
 * @param mandatory whether the broker gives it back when no queue takes it; Celery never asks for that
 */
export function toAmqp(publication: Publication, mandatory = false): AmqpMessage {
  const { exchange, routingKey, body, contentType, contentEncoding, properties } = publication;
  const text = (name: string): string | undefined => shortText(name, properties.get(name));
  return {
    exchange: shortText('exchange', exchange) ?? '',
    routingKey: shortText('routing key', routingKey) ?? '',
    mandatory,
    body,
    properties: defined({
      contentType: shortText('content_type', contentType),
      contentEncoding: shortText('content_encoding', contentEncoding),
      headers: encodeTable(publication.headers),
      deliveryMode: whole(properties.get('delivery_mode'), 255),
      priority: whole(publication.priority, 255),
      correlationId: text('correlation_id'),
      replyTo: text('reply_to'),
      expiration: text('expiration'),
      messageId: text('message_id'),
      timestamp: seconds(properties.get('timestamp')),
      type: text('type'),
      appId: text('app_id'),
      clusterId: text('cluster_id'),
    }),
  };
}

function shortText(name: string, value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') return undefined;
  // A character takes at most three bytes a UTF-16 unit: most texts need no counting.
  if (value.length > 85 && Buffer.byteLength(value) > 255)
    throw new WireError(
      'celery',
      'unencodable',
      `the ${name} of the message has over 255 bytes; AMQP has no room for more`,
    );
  return value;
}

/** A number that AMQP can hold; a text of digits counts as one, as messages from Redis have it. */
function whole(value: unknown, largest: number): number | undefined {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isInteger(number) && number >= 0 && number <= largest
    ? number
    : undefined;
}

/** Whatever the 64 bits of a timestamp are: they are passed on. */
function seconds(value: unknown): number | bigint | undefined {
  if (typeof value !== 'bigint') return whole(value, Number.MAX_SAFE_INTEGER);
  return BigInt.asUintN(64, value) === value ? value : undefined;
}

function defined(properties: {
  readonly [name in keyof AmqpProperties]: AmqpProperties[name] | undefined;
}): AmqpProperties {
  return Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined));
}
