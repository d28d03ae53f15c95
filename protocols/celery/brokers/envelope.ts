import { Buffer } from 'node:buffer';
import { WireError } from '../../errors.ts';
import * as json from '../../formats/json.ts';
import type { Publication, WireMessage } from '../message/message.ts';

/**
 * kombu's virtual envelope: what a list item on Redis, or a file of the filesystem transport, holds.
 *
 *     { "body": text, "content-encoding": text, "content-type": text, "headers": {…},
 *       "properties": { …, "delivery_info": { "exchange", "routing_key" }, "priority", "body_encoding", "delivery_tag" } }
 *
 * `body` is base64 when `body_encoding` says so, else the text itself. Source: kombu/transport/virtual/base.py
 * Channel.prepare_message, Base64 (5.6).
 */
export function encodeEnvelope(publication: Publication, deliveryTag: string): string {
  const { body, contentEncoding, contentType, exchange, priority, routingKey } = publication;
  const text = publication.text ?? textOf(publication);
  return (
    `{"body": "${Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64')}", "content-encoding": ${json.stringify(contentEncoding)}, ` +
    `"content-type": ${json.stringify(contentType)}, "headers": ${text.headers}, ` +
    `"properties": {${text.properties}"delivery_info": {"exchange": ${json.stringify(exchange)}, ` +
    `"routing_key": ${json.stringify(routingKey)}}, "priority": ${json.stringify(priority)}, ` +
    `"body_encoding": "base64", "delivery_tag": "${deliveryTag}"}}`
  );
}

function textOf(publication: Publication): { readonly headers: string; readonly properties: string } {
  let properties = '';
  for (const [name, value] of publication.properties) {
    if (!BROKER_PROPERTIES.has(name)) properties += `${json.stringify(name)}: ${json.stringify(value)}, `;
  }
  return { headers: json.stringify(publication.headers), properties };
}

/** What the broker side writes anew for each publish, in its own place. */
const BROKER_PROPERTIES: ReadonlySet<string> = new Set(['delivery_info', 'delivery_tag', 'body_encoding', 'priority']);

/** Reads an envelope. Throws WireError `undecodable` (not JSON, bad base64) or `wrong-shape`. */
export function decodeEnvelope(bytes: Uint8Array): WireMessage {
  const raw = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const envelope = readJson(raw.toString('utf8'));
  if (!isRecord(envelope)) throw wrongShape('the message is not a JSON object');
  const headers = envelope['headers'] ?? {};
  const properties = envelope['properties'] ?? {};
  if (!isRecord(headers)) throw wrongShape('`headers` is not an object');
  if (!isRecord(properties)) throw wrongShape('`properties` is not an object');
  return {
    body: readBody(envelope['body'], properties['body_encoding']),
    contentType: text(envelope['content-type']),
    contentEncoding: text(envelope['content-encoding']),
    headers,
    properties,
    raw: bytes,
  };
}

/**
 * An envelope as kombu gives it back: marked redelivered in `headers` and in `delivery_info`, every other byte as it was.
 * Unchanged where it cannot be marked. Source: kombu/transport/redis.py _do_restore_message (5.6).
 */
export function markRedelivered(envelope: Uint8Array): Uint8Array {
  try {
    // As latin1: what is no UTF-8 goes back as it came, too.
    const text = Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength).toString('latin1');
    const marked = json.edit(text, [
      { path: ['headers', 'redelivered'], value: 'true' },
      { path: ['properties', 'delivery_info', 'redelivered'], value: 'true' },
    ]);
    return Buffer.from(marked, 'latin1');
  } catch {
    return envelope;
  }
}

/** Native parsing first: an envelope's own fields are short; numbers that matter are read again by `exactHeaders`. */
function readJson(source: string): unknown {
  try {
    return JSON.parse(source);
  } catch {
    // NaN in a custom header is legal for Python; anything else is an error with its place.
    try {
      return json.parse(source);
    } catch (error) {
      throw new WireError('celery', 'undecodable', `the message is not the JSON envelope kombu writes`, {
        cause: error,
      });
    }
  }
}

function readBody(body: unknown, encoding: unknown): Buffer {
  if (body === undefined || body === null) return Buffer.alloc(0);
  if (typeof body !== 'string') {
    // Python accepts an unencoded JSON body in place; keep it as the text it stands for.
    throw wrongShape('`body` is not a text');
  }
  if (encoding === undefined || encoding === null || encoding === '') return Buffer.from(body, 'utf8');
  switch (typeof encoding === 'string' ? encoding.toLowerCase() : '') {
    case 'base64':
      return Buffer.from(body, 'base64');
    case 'utf-8':
    case 'utf8':
      return Buffer.from(body, 'utf8');
    default:
      throw new WireError(
        'celery',
        'undecodable',
        `unknown body_encoding ${JSON.stringify(encoding)}; known are base64 and utf-8`,
      );
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function wrongShape(what: string): WireError {
  return new WireError(
    'celery',
    'wrong-shape',
    `${what}; expected kombu's envelope {body, content-encoding, content-type, headers, properties}`,
  );
}
