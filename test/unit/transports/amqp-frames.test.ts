import { createRequire } from 'node:module';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AmqpMessage, AmqpProperties } from '../../../protocols/amqp.ts';
import { toWire } from '../../../protocols/celery/brokers/amqp.ts';
import { WireError } from '../../../protocols/errors.ts';
import { decodeTable, encodeTable } from '../../../protocols/formats/amqp-table.ts';
import {
  type FrameConnection,
  isFrameConnection,
  keepHeaderTables,
  writePublish,
} from '../../../src/transports/amqp-frames.ts';

/** amqplib's own codec, as the judge of ours. It is not exported by name. */
const amqplib = createRequire(import.meta.url);
const frame = amqplib('../../../node_modules/amqplib/lib/frame.js') as {
  parseFrame(bytes: Buffer, max: number): false | { readonly rest: Buffer };
  decodeFrame(parsed: object): unknown;
};
const defs = amqplib('../../../node_modules/amqplib/lib/defs.js') as {
  readonly BasicProperties: number;
  encodeProperties(id: number, channel: number, size: number, fields: object): Buffer;
};

interface Header {
  readonly id: number;
  readonly channel: number;
  readonly size: number;
  readonly fields: AmqpProperties;
}

class Connection implements FrameConnection {
  rest: Buffer = Buffer.alloc(0);
  frameMax: number;
  maxFrameSize = 131_072;
  sentSinceLastCheck = false;
  written: Buffer = Buffer.alloc(0);
  readonly channels: FrameConnection['channels'] = [
    null,
    { buffer: { write: (chunk: Buffer) => ((this.written = Buffer.concat([this.written, chunk])), true) } },
  ];

  constructor(frameMax = 131_072) {
    this.frameMax = frameMax;
  }

  recvFrame(): unknown {
    const parsed = frame.parseFrame(this.rest, this.maxFrameSize);
    if (parsed === false) return false;
    this.rest = parsed.rest;
    return frame.decodeFrame(parsed);
  }
}

/** What is read of these bytes, frame by frame, until there is no whole one. */
function read(...bytes: readonly Uint8Array[]): readonly unknown[] {
  const connection = new Connection();
  keepHeaderTables(connection);
  connection.rest = Buffer.concat(bytes);
  const frames: unknown[] = [];
  for (let one = connection.recvFrame(); one !== false; one = connection.recvFrame()) frames.push(one);
  return frames;
}

/** A header frame with these flags and values. */
function header(properties: Uint8Array, size = 3): Buffer {
  const payload = Buffer.alloc(12);
  payload.writeUInt16BE(60);
  payload.writeBigUInt64BE(BigInt(size), 4);
  return wrapped(2, Buffer.concat([payload, properties]));
}

function wrapped(type: number, payload: Buffer, channel = 1): Buffer {
  const head = Buffer.alloc(7);
  head[0] = type;
  head.writeUInt16BE(channel, 1);
  head.writeUInt32BE(payload.length, 3);
  return Buffer.concat([head, payload, Buffer.from([0xce])]);
}

function flags(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

const NEXT = header(Buffer.concat([flags(0x0400), Buffer.from('\x04next')]), 0);

const ALL = {
  contentType: 'application/json',
  contentEncoding: 'utf-8',
  deliveryMode: 2,
  priority: 9,
  correlationId: 'ü'.repeat(127),
  replyTo: '',
  expiration: '60000',
  messageId: 'm',
  timestamp: 1_795_219_292,
  type: 't',
  userId: 'guest',
  appId: 'a',
  clusterId: 'c',
} as const;

describe('what is read', () => {
  it('has every property, as amqplib wrote it, and its headers as bytes', () => {
    const bytes = defs.encodeProperties(defs.BasicProperties, 5, 77, { ...ALL, headers: { task: 'add', n: 1 } });
    const [message] = read(bytes) as [Header];
    const { headers = new Uint8Array(), ...rest } = message.fields;
    expect({ ...message, fields: rest }).toEqual({ id: 60, channel: 5, size: 77, fields: ALL });
    expect(decodeTable(headers)).toEqual({ task: 'add', n: 1 });
  });

  it('waits for the rest of a frame, and leaves other frames to amqplib', () => {
    const bytes = defs.encodeProperties(defs.BasicProperties, 1, 0, ALL);
    for (let length = 0; length < bytes.length; length++) expect(read(bytes.subarray(0, length))).toEqual([]);
    const body = wrapped(3, Buffer.from('abc'));
    expect(read(bytes, body, NEXT)).toMatchObject([
      { fields: ALL },
      { content: Buffer.from('abc') },
      { fields: { correlationId: 'next' } },
    ]);
    expect(() => read(Buffer.from([2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0]))).toThrow('exceeds maxFrameSize');
  });

  it('keeps a timestamp of 64 bits', () => {
    const at = Buffer.alloc(8, 0xff);
    const [message] = read(header(Buffer.concat([flags(0x0040), at]))) as [Header];
    expect(message.fields).toEqual({ timestamp: 0xffff_ffff_ffff_ffffn });
    const [again] = read(writtenHeader(message.fields)) as [Header];
    expect(again.fields).toEqual(message.fields);
  });
});

describe('properties that nobody can read', () => {
  const table = encodeTable({ lang: 'py', task: 'add' });
  const length = Buffer.alloc(4);
  length.writeUInt32BE(table.length);
  const whole = Buffer.concat([flags(0xfc40), ...values(table)]);

  function values(headers: Uint8Array): readonly Uint8Array[] {
    const texts = ['application/json', 'utf-8'].map((text) =>
      Buffer.from(`${String.fromCharCode(text.length)}${text}`),
    );
    return [...texts, length, headers, Buffer.from([2, 9]), Buffer.from('\x02id'), Buffer.alloc(8, 1)];
  }

  it('are damage wherever they end, their bytes are kept, and the next message is read', () => {
    expect((read(header(whole), NEXT)[0] as Header).fields.damage).toBeUndefined();
    const names = new Set<string>();
    for (let end = 2; end < whole.length; end++) {
      const bytes = whole.subarray(0, end);
      const [message, next] = read(header(bytes), NEXT) as [Header, Header];
      expect(message.size).toBe(3);
      expect(Object.keys(message.fields)).toEqual(['damage']);
      expect(bytes.equals(message.fields.damage?.bytes ?? Buffer.alloc(0))).toBe(true);
      names.add(/in the middle of '(\w+)'/.exec(message.fields.damage?.reason ?? '')?.[1] ?? '');
      expect(next.fields).toEqual({ correlationId: 'next' });
    }
    expect([...names]).toEqual([
      'contentType',
      'contentEncoding',
      'headers',
      'deliveryMode',
      'priority',
      'correlationId',
      'timestamp',
    ]);
  });

  it.each([
    ['a length beyond the frame', Buffer.concat([flags(0x0400), Buffer.from([255, 0x61])]), 'end in the middle of'],
    ['a table of 4 GB', Buffer.concat([flags(0x2000), Buffer.alloc(4, 255)]), "in the middle of 'headers'"],
    ['more flags than there are', Buffer.concat([flags(0x8001), flags(0x8000), Buffer.from('\x01x')]), 'a flag that'],
    ['a flag of nothing', flags(0x0002), 'a flag that means nothing'],
    ['a text that is not UTF-8', Buffer.concat([flags(0x0400), Buffer.from([2, 0xff, 0xfe])]), 'is not UTF-8'],
  ])('%s', (_, bytes, reason) => {
    const [message, next] = read(header(bytes), NEXT) as [Header, Header];
    expect(message.fields.damage?.reason).toContain(reason);
    expect(next.fields).toEqual({ correlationId: 'next' });
    const delivery = { properties: message.fields, exchange: '', routingKey: 'q', redelivered: false };
    expect(() => toWire({ ...delivery, body: Buffer.from('abc') })).toThrow(WireError);
    expect(() => toWire({ ...delivery, body: Buffer.from('abc') })).toThrow(reason);
  });

  it('a text that says U+FFFD itself is a text', () => {
    const [message] = read(header(Buffer.concat([flags(0x0400), Buffer.from('\x03\ufffd')]))) as [Header];
    expect(message.fields).toEqual({ correlationId: '\ufffd' });
  });

  it('whatever the bytes: nothing is thrown, and what is read is written as it came', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 80 }), (bytes) => {
        const [message, next] = read(header(bytes), NEXT) as [Header, Header];
        expect(next.fields).toEqual({ correlationId: 'next' });
        if (message.fields.damage !== undefined) return;
        expect((read(writtenHeader(message.fields)) as [Header])[0].fields).toEqual(message.fields);
      }),
      { numRuns: 2_000 },
    );
  });

  it('a header too short to say how long the body is ends the connection, by name', () => {
    expect(() => read(wrapped(2, Buffer.from([0, 60, 0, 0])))).toThrow(
      'amqp: the header of a message has 4 bytes of its 14',
    );
  });
});

/** The header frame that is written of a message. */
function writtenHeader(properties: AmqpProperties): Buffer {
  const connection = new Connection();
  writePublish(connection, 1, { ...MESSAGE, properties });
  return connection.written.subarray(7 + connection.written.readUInt32BE(3) + 1);
}

const MESSAGE: AmqpMessage = {
  exchange: '',
  routingKey: 'q',
  mandatory: false,
  body: Buffer.alloc(0),
  properties: {},
};

describe('what is written', () => {
  it('is read by amqplib: the publish, its properties, its body in pieces', () => {
    const connection = new Connection(4_096);
    const body = Buffer.from(Array.from({ length: 10_000 }, (_, at) => at & 255));
    const properties = { ...ALL, headers: encodeTable({ task: 'add', n: 1 }) };
    const sent = writePublish(connection, 1, { exchange: 'x', routingKey: 'ü', mandatory: true, body, properties });
    expect(sent).toBe(true);
    expect(connection.sentSinceLastCheck).toBe(true);
    connection.rest = connection.written;
    const frames: { content?: Buffer }[] = [];
    for (let one = connection.recvFrame(); one !== false; one = connection.recvFrame()) frames.push(one as object);
    const [publish, head, ...pieces] = frames;
    expect(publish).toMatchObject({
      channel: 1,
      fields: { exchange: 'x', routingKey: 'ü', mandatory: true, immediate: false },
    });
    expect(head).toMatchObject({ id: 60, size: 10_000, fields: { ...ALL, headers: { task: 'add', n: 1 } } });
    expect(pieces.map(({ content }) => content?.length)).toEqual([4_088, 4_088, 1_824]);
    expect(Buffer.concat(pieces.map(({ content }) => content as Buffer)).equals(body)).toBe(true);
    expect(connection.rest.length).toBe(0);
  });

  it('without a limit of frames the body is one', () => {
    const connection = new Connection(0);
    writePublish(connection, 1, { ...MESSAGE, body: Buffer.alloc(500_000) });
    connection.maxFrameSize = 0;
    connection.rest = connection.written;
    const frames = [connection.recvFrame(), connection.recvFrame(), connection.recvFrame(), connection.recvFrame()];
    expect((frames[2] as { content: Buffer }).content.length).toBe(500_000);
    expect(frames[3]).toBe(false);
  });

  it.each([
    ['headers larger than a frame', { properties: { headers: Buffer.alloc(140_000) } }, /headers of 140\d+ bytes/],
    ['a text of 256 bytes', { properties: { messageId: 'ü'.repeat(128) } }, /the messageId has 256 bytes/],
    ['a routing key of 256 bytes', { routingKey: 'x'.repeat(256) }, /the routing key has 256 bytes/],
  ])('%s: refused, and nothing is written', (_, change, words) => {
    const connection = new Connection();
    expect(() => writePublish(connection, 1, { ...MESSAGE, ...change })).toThrow(words);
    expect(() => writePublish(connection, 1, { ...MESSAGE, ...change })).toThrow(WireError);
    expect(connection.written.length).toBe(0);
  });

  it('a channel that is gone takes nothing', () => {
    expect(() => writePublish(new Connection(), 0, MESSAGE)).toThrow('the channel is closed');
    expect(() => writePublish(new Connection(), 7, MESSAGE)).toThrow('the channel is closed');
  });
});

it('the object that amqplib has is known by what it has', () => {
  expect(isFrameConnection(new Connection())).toBe(true);
  expect(isFrameConnection({ rest: 'x', recvFrame: () => false, frameMax: 1, channels: [] })).toBe(false);
  expect(isFrameConnection(null)).toBe(false);
});
