import { isUtf8 } from 'node:buffer';
import type { AmqpMessage, AmqpProperties } from '../../protocols/amqp.ts';
import { WireError } from '../../protocols/errors.ts';

/**
 * Encodes and decodes basic properties and publishes as frames, without amqplib's own codec. That codec reads 64-bit integers as doubles, lets a
 * header named `__proto__` set a prototype, ends the connection when headers nest too deep, and writes small integers with a type letter that older
 * py-amqp reads as a text. Header tables pass through here as bytes.
 */

/** The part of amqplib's connection object that is used here. */
export interface FrameConnection {
  rest: Buffer;
  frameMax: number;
  sentSinceLastCheck: boolean;
  readonly maxFrameSize: number;
  readonly channels: readonly ({ readonly buffer: { write(chunk: Buffer): boolean } } | null)[];
  recvFrame(): unknown;
}

/** Whether this is the connection object that the functions below know how to use. */
export function isFrameConnection(value: unknown): value is FrameConnection {
  const connection = value as Partial<FrameConnection> | null | undefined;
  return (
    typeof connection?.recvFrame === 'function' &&
    Buffer.isBuffer(connection.rest) &&
    typeof connection.frameMax === 'number' &&
    Array.isArray(connection.channels)
  );
}

const HEADER_FRAME = 2;
const BODY_FRAME = 3;
const METHOD_FRAME = 1;
const FRAME_END = 0xce;
const FRAME_START_BYTES = 7;
const FRAME_OVERHEAD = 8;
/** Class, weight, the body's size and the flags of the properties. */
const HEADER_BYTES = 14;
const BASIC = 60;
const PUBLISH = 40;

/**
 * From now on the properties of messages are `AmqpProperties`: the headers are the bytes of their table. Properties that cannot be decoded are
 * `damage`, and the message is still delivered. A frame that is too short to contain the length of its body ends the connection.
 */
export function keepHeaderTables(connection: FrameConnection): void {
  const otherFrame = connection.recvFrame.bind(connection);
  connection.recvFrame = () => {
    const { rest } = connection;
    if (rest.length < FRAME_START_BYTES || rest[0] !== HEADER_FRAME) return otherFrame();
    const end = FRAME_START_BYTES + rest.readUInt32BE(3);
    // Incomplete: amqplib reads more, and calls this again. amqplib also handles any malformed frame.
    if (rest.length <= end || rest[end] !== FRAME_END || rest.readUInt16BE(FRAME_START_BYTES) !== BASIC)
      return otherFrame();
    const payload = rest.subarray(FRAME_START_BYTES, end);
    connection.rest = rest.subarray(end + 1);
    if (payload.length < HEADER_BYTES)
      throw new WireError(
        'amqp',
        'undecodable',
        `the header of a message has ${payload.length} bytes of its ${HEADER_BYTES}`,
      );
    return {
      id: BASIC,
      channel: rest.readUInt16BE(1),
      size: Number(payload.readBigUInt64BE(4)),
      fields: readProperties(payload.subarray(12)),
    };
  };
}

/**
 * Writes `basic.publish` with its properties and body to a channel's buffer. Returns false when the buffer is full. Throws WireError `too-large`
 * before anything is written.
 */
export function writePublish(connection: FrameConnection, channel: number, message: AmqpMessage): boolean {
  const target = connection.channels[channel];
  if (target === null || target === undefined) throw new Error('the channel is closed');
  const { body } = message;
  const header = headerSize(message);
  if (connection.frameMax > 0 && header > connection.frameMax) {
    throw new WireError(
      'amqp',
      'too-large',
      `headers of ${header} bytes; the broker takes ${connection.frameMax} at most`,
    );
  }
  const head = methodSize(message) + header;
  // 0 means no limit.
  const room = connection.frameMax > 0 ? connection.frameMax - FRAME_OVERHEAD : Math.max(1, body.byteLength);
  const pieces = Math.ceil(body.byteLength / room);
  const frames = Buffer.allocUnsafe(head + body.byteLength + pieces * FRAME_OVERHEAD);
  let at = writeMethod(frames, channel, message);
  at = writeHeader(frames, at, channel, message);
  for (let start = 0; start < body.byteLength; start += room) {
    const piece = body.subarray(start, start + room);
    at = frameStart(frames, at, BODY_FRAME, channel, piece.byteLength);
    frames.set(piece, at);
    at += piece.byteLength;
    frames[at++] = FRAME_END;
  }
  connection.sentSinceLastCheck = true;
  return target.buffer.write(frames);
}

/** The flag of each property, in the order of the wire, and how it is written. */
const PROPERTIES = [
  ['contentType', 0x8000, 'text'],
  ['contentEncoding', 0x4000, 'text'],
  ['headers', 0x2000, 'table'],
  ['deliveryMode', 0x1000, 'octet'],
  ['priority', 0x0800, 'octet'],
  ['correlationId', 0x0400, 'text'],
  ['replyTo', 0x0200, 'text'],
  ['expiration', 0x0100, 'text'],
  ['messageId', 0x0080, 'text'],
  ['timestamp', 0x0040, 'long'],
  ['type', 0x0020, 'text'],
  ['userId', 0x0010, 'text'],
  ['appId', 0x0008, 'text'],
  ['clusterId', 0x0004, 'text'],
] as const satisfies readonly (readonly [keyof AmqpProperties, number, string])[];

const KNOWN_FLAGS = PROPERTIES.reduce((flags, [, flag]) => flags | flag, 0);

/** Bytes of a value of fixed size, or of the length before a value. */
const FIXED_BYTES = { text: 1, table: 4, octet: 1, long: 8 } as const;

/** One pass without a function for each property, for speed: every message is decoded here. */
function readProperties(payload: Buffer): AmqpProperties {
  const flags = payload.readUInt16BE(0);
  // The lowest bit announces further flags, for properties that AMQP does not define.
  if ((flags & ~KNOWN_FLAGS) !== 0)
    return damaged(payload, 'the properties of the message have a flag that means nothing');
  const properties: Record<string, unknown> = {};
  const { length } = payload;
  let at = 2;
  for (const [name, flag, kind] of PROPERTIES) {
    if ((flags & flag) === 0) continue;
    switch (kind) {
      case 'text': {
        const end = at < length ? at + 1 + (payload[at] as number) : at + 1;
        if (end > length) return cutIn(payload, name);
        const text = payload.toString('utf8', at + 1, end);
        // Encoded again, the text would have other bytes, and could be longer than its length byte allows.
        if (text.includes('\ufffd') && !isUtf8(payload.subarray(at + 1, end)))
          return damaged(payload, `the property '${name}' of the message is not UTF-8`);
        properties[name] = text;
        at = end;
        break;
      }
      case 'table': {
        const start = at + 4;
        const end = start > length ? start : start + payload.readUInt32BE(at);
        if (end > length) return cutIn(payload, name);
        properties[name] = payload.subarray(start, end);
        at = end;
        break;
      }
      case 'octet':
        if (at >= length) return cutIn(payload, name);
        properties[name] = payload[at++];
        break;
      case 'long': {
        if (at + 8 > length) return cutIn(payload, name);
        const whole = payload.readBigUInt64BE(at);
        properties[name] = whole <= Number.MAX_SAFE_INTEGER ? Number(whole) : whole;
        at += 8;
        break;
      }
    }
  }
  return properties as AmqpProperties;
}

function damaged(bytes: Uint8Array, reason: string): AmqpProperties {
  return { damage: { bytes, reason } };
}

function cutIn(bytes: Uint8Array, name: string): AmqpProperties {
  return damaged(bytes, `the properties of the message end in the middle of '${name}'`);
}

function methodSize({ exchange, routingKey }: AmqpMessage): number {
  return FRAME_OVERHEAD + 7 + textSize('exchange', exchange) + textSize('routing key', routingKey);
}

function headerSize({ properties }: AmqpMessage): number {
  let size = FRAME_OVERHEAD + HEADER_BYTES;
  for (const [name, , kind] of PROPERTIES) {
    const value = properties[name];
    if (value === undefined) continue;
    if (kind === 'text') size += textSize(name, value as string);
    else size += FIXED_BYTES[kind] + (kind === 'table' ? (value as Uint8Array).byteLength : 0);
  }
  return size;
}

/**
 * The size of a text with its length byte. Throws WireError `too-large`: a longer text would be decoded as something else, and end the connection.
 */
function textSize(name: string, text: string): number {
  const length = Buffer.byteLength(text);
  if (length > 255) throw new WireError('amqp', 'too-large', `the ${name} has ${length} bytes; AMQP has room for 255`);
  return 1 + length;
}

function writeMethod(frames: Buffer, channel: number, message: AmqpMessage): number {
  let at = frameStart(frames, 0, METHOD_FRAME, channel, 0);
  at = frames.writeUInt16BE(BASIC, at);
  at = frames.writeUInt16BE(PUBLISH, at);
  at = frames.writeUInt16BE(0, at);
  at = shortText(frames, at, message.exchange);
  at = shortText(frames, at, message.routingKey);
  frames[at++] = message.mandatory ? 1 : 0;
  return frameEnd(frames, 0, at);
}

function writeHeader(frames: Buffer, start: number, channel: number, { body, properties }: AmqpMessage): number {
  let at = frameStart(frames, start, HEADER_FRAME, channel, 0);
  at = frames.writeUInt16BE(BASIC, at);
  at = frames.writeUInt16BE(0, at);
  at = frames.writeBigUInt64BE(BigInt(body.byteLength), at);
  const flagsAt = at;
  at += 2;
  let flags = 0;
  for (const [name, flag, kind] of PROPERTIES) {
    const value = properties[name];
    if (value === undefined) continue;
    flags |= flag;
    switch (kind) {
      case 'text':
        at = shortText(frames, at, value as string);
        break;
      case 'table':
        at = frames.writeUInt32BE((value as Uint8Array).byteLength, at);
        frames.set(value as Uint8Array, at);
        at += (value as Uint8Array).byteLength;
        break;
      case 'octet':
        frames[at++] = value as number;
        break;
      case 'long':
        at = frames.writeBigUInt64BE(BigInt(value as number | bigint), at);
        break;
    }
  }
  frames.writeUInt16BE(flags, flagsAt);
  return frameEnd(frames, start, at);
}

function frameStart(frames: Buffer, at: number, type: number, channel: number, size: number): number {
  frames[at] = type;
  frames.writeUInt16BE(channel, at + 1);
  return frames.writeUInt32BE(size, at + 3);
}

/** Fills in the size of the frame that began at `start`. */
function frameEnd(frames: Buffer, start: number, at: number): number {
  frames.writeUInt32BE(at - start - FRAME_START_BYTES, start + 3);
  frames[at] = FRAME_END;
  return at + 1;
}

/** At most 255 bytes: `textSize` has checked that. */
function shortText(frames: Buffer, at: number, text: string): number {
  const length = frames.write(text, at + 1);
  frames[at] = length;
  return at + 1 + length;
}
