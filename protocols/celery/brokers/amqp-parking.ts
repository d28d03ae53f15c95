import { Buffer } from 'node:buffer';
import type { AmqpMessage, QueueDeclaration } from '../../amqp.ts';
import { decodeTable, decodeTableExact, encodeTable } from '../../formats/amqp-table.ts';
import { withoutDeliveryHeaders } from '../message/message.ts';
import type { AmqpDelivery } from './amqp.ts';

/** Messages put aside in RabbitMQ: those nobody can read, and those whose time is far. Headers and body stay as they were. */

interface Found extends AmqpDelivery {
  readonly queue: string;
}

/** A queue to declare, and the message to publish to it before the original is acknowledged. */
export interface ParkedMessage {
  readonly declaration: QueueDeclaration;
  readonly message: AmqpMessage;
}

/** For a broker that takes no larger headers than those the message came with. */
export interface Quarantine extends ParkedMessage {
  /** The same message without anything added: the reason is in the log alone. */
  readonly bare: AmqpMessage;
  /** To be published with it: properties nobody can read that are too long for a header, as a body. */
  readonly beside?: AmqpMessage;
}

/** The longest step of a wait, as a power of two of seconds: twelve days. RabbitMQ's times end at 49 days. */
const LONGEST_STEP = 20;

/**
 * `jobglot.quarantine.<queue>`: the message, with `x-jobglot-code`, `-reason`, `-queue` and `-at` in its headers. What cannot be read is
 * there as bytes: `x-jobglot-headers`, `x-jobglot-properties`. Properties that leave no room for that are the body of a message of their
 * own, just before it: its id is what `x-jobglot-properties-in` says.
 *
 * @param id a new one, for that message
 */
export function quarantine(
  found: Found,
  quorum: boolean,
  why: { readonly code: string; readonly reason: string },
  now: Date,
  id: string,
): Quarantine {
  const name = `jobglot.quarantine.${found.queue}`;
  const damage = found.properties.damage?.bytes;
  const isLong = damage !== undefined && damage.byteLength > HEADER_ROOM;
  const notes = encodeTable({
    'x-jobglot-code': why.code,
    'x-jobglot-reason': why.reason.slice(0, 1_000),
    'x-jobglot-queue': found.queue,
    'x-jobglot-at': now.toISOString(),
    ...(isLong ? { 'x-jobglot-properties-in': id } : {}),
  });
  return {
    declaration: queue(name, quorum ? { 'x-queue-type': 'quorum' } : {}),
    message: {
      ...to(name, found),
      properties: {
        ...kept(found),
        deliveryMode: 2,
        headers: Buffer.concat([isLong ? new Uint8Array(0) : legible(found), notes]),
      },
    },
    bare: { ...to(name, found), properties: kept(found) },
    ...(isLong
      ? { beside: { ...to(name, { body: damage }), properties: { deliveryMode: 2, messageId: id, headers: notes } } }
      : {}),
  };
}

/**
 * A queue whose messages go back to `found.queue` after 1, 2, 4 ... seconds: the longest that is not longer than the wait. A message that
 * comes back too early is parked again. Unused, it removes itself.
 */
export function parking(found: Found, quorum: boolean, waitMs: number): ParkedMessage {
  const step = Math.min(LONGEST_STEP, Math.max(0, Math.floor(Math.log2(Math.max(1, waitMs / 1000)))));
  const ttl = 2 ** step * 1000;
  const name = `jobglot.delay.${2 ** step}.${found.queue}`;
  return {
    declaration: queue(name, {
      'x-message-ttl': ttl,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': found.queue,
      'x-expires': 2 * ttl + 60_000,
      ...(quorum
        ? { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish', 'x-dead-letter-strategy': 'at-least-once' }
        : {}),
    }),
    message: { ...to(name, found), properties: { ...kept(found), deliveryMode: 2 } },
  };
}

/**
 * The same message at the back of its own queue, as a new one: RabbitMQ counts no delivery of it. Body, headers and properties stay as they are, but for
 * the marks of earlier deliveries and `user_id`, which RabbitMQ takes from the connection's own user alone. Its `expiration` begins anew.
 */
export function toBackOfQueue({ queue: routingKey, properties, body }: Found): AmqpMessage {
  const { userId: _user, damage: _damage, headers, ...rest } = properties;
  const kept = headers === undefined ? undefined : withoutMarks(headers);
  return {
    exchange: '',
    routingKey,
    mandatory: true,
    body,
    properties: kept === undefined ? rest : { ...rest, headers: kept },
  };
}

/** How often RabbitMQ counts this message as returned: to a quorum queue, beyond whose limit it is dropped. Since 4.0 returns have a count of their own. */
export function returnsOf(headers: Readonly<Record<string, unknown>>): number {
  const counts = [headers['x-delivery-count'], headers['x-acquired-count']].map(Number);
  return Math.max(0, ...counts.filter((count) => Number.isFinite(count)));
}

/** The same bytes where there is nothing to take out. `CC` and `BCC` would have RabbitMQ copy the message to other queues once more. */
function withoutMarks(table: Uint8Array): Uint8Array {
  let headers: Map<string, unknown>;
  try {
    headers = decodeTableExact(table);
  } catch {
    return table;
  }
  const isMarked = [withoutDeliveryHeaders(headers), headers.delete('CC'), headers.delete('BCC')].includes(true);
  return isMarked ? encodeTable(headers) : table;
}

function queue(name: string, queueArguments: QueueDeclaration['arguments']): QueueDeclaration {
  return { kind: 'queue', name, durable: true, autoDelete: false, exclusive: false, arguments: queueArguments };
}

function to(
  name: string,
  { body }: Pick<Found, 'body'>,
): Pick<AmqpMessage, 'exchange' | 'routingKey' | 'mandatory' | 'body'> {
  return { exchange: '', routingKey: name, mandatory: true, body };
}

/** RabbitMQ takes nobody's `user_id` but the connection's, and counts `expiration` anew from each publication. */
function kept({ properties }: Found): AmqpMessage['properties'] {
  const { userId: _user, expiration: _expiration, damage: _damage, ...rest } = properties;
  return rest;
}

/** Properties nobody can read go into a header up to this: a message's headers and properties must fit into one frame. */
const HEADER_ROOM = 100_000;

/** The header table as it is; one that cannot be read, as the bytes of one header, and so the properties. */
function legible({ properties: { headers, damage } }: Found): Uint8Array {
  if (damage !== undefined) return encodeTable({ 'x-jobglot-properties': damage.bytes });
  if (headers === undefined) return new Uint8Array(0);
  try {
    decodeTable(headers);
    return headers;
  } catch {
    return encodeTable({ 'x-jobglot-headers': headers });
  }
}
