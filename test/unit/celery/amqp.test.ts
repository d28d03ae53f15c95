import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import { type AmqpDelivery, toAmqp, toWire } from '../../../protocols/celery/brokers/amqp.ts';
import {
  decodeTask,
  encodeTask,
  exactHeaders,
  type Publication,
  retryOf,
} from '../../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import { decodeTable, encodeTable } from '../../../protocols/formats/amqp-table.ts';

const OPTIONS = { accept: acceptSet(['json']), limits: defaultLimits };
const CALL = {
  task: 'tasks.add',
  id: 'id-1',
  args: [2, 3],
  kwargs: {},
  origin: 'gen1@h',
  exchange: '',
  routingKey: 'celery',
};

/** As it comes back, when RabbitMQ has changed nothing. */
function delivered(publication: Publication, change: Partial<AmqpDelivery> = {}): AmqpDelivery {
  const { properties, exchange, routingKey, body } = toAmqp(publication);
  return { properties, exchange, routingKey, body, redelivered: false, consumerTag: 'c1', ...change };
}

describe('a publication on AMQP', () => {
  it('has properties, a table and the bare body', () => {
    const message = toAmqp(encodeTask({ ...CALL, priority: 7, expiration: '1500', replyTo: 'oid' }));
    const { headers = new Uint8Array(), ...properties } = message.properties;
    expect(properties).toEqual({
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      deliveryMode: 2,
      priority: 7,
      correlationId: 'id-1',
      replyTo: 'oid',
      expiration: '1500',
    });
    expect(Object.keys(decodeTable(headers)).slice(0, 3)).toEqual(['lang', 'task', 'id']);
    expect(Buffer.from(message.body).toString()).toMatch(/^\[\[2, 3\], \{\}, /);
    expect(message).toMatchObject({ exchange: '', routingKey: 'celery', mandatory: false });
    expect(toAmqp(encodeTask(CALL), true).mandatory).toBe(true);
  });

  it('says priority 0 and an empty reply_to as py-amqp does', () => {
    expect(toAmqp(encodeTask(CALL)).properties).toMatchObject({ priority: 0, replyTo: '' });
  });

  it('leaves out what AMQP has no place for, and the name of another user', () => {
    const publication = encodeTask(CALL);
    const properties = new Map<string, unknown>([
      ['correlation_id', 'c'],
      ['user_id', 'somebody'],
      ['body_encoding', 'base64'],
      ['delivery_mode', 1],
      ['timestamp', 1_795_219_292],
      ['message_id', 'm'],
      ['type', 't'],
      ['app_id', 'a'],
      ['cluster_id', 'x'],
      ['reply_to', null],
    ]);
    const { headers, ...rest } = toAmqp({ ...plain(publication), properties, priority: null }).properties;
    expect(headers).toBeDefined();
    expect(rest).toEqual({
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      correlationId: 'c',
      deliveryMode: 1,
      timestamp: 1_795_219_292,
      messageId: 'm',
      type: 't',
      appId: 'a',
      clusterId: 'x',
    });
  });

  it.each([
    ['7', 7],
    [255, 255],
    [256, undefined],
    [-1, undefined],
    [1.5, undefined],
    ['high', undefined],
  ])('has priority %j as %j', (priority, expected) => {
    expect(toAmqp({ ...plain(encodeTask(CALL)), priority }).properties.priority).toBe(expected);
  });

  it('is refused where a text has over 255 bytes', () => {
    expect(toAmqp(encodeTask({ ...CALL, id: 'é'.repeat(127) })).properties.correlationId).toHaveLength(127);
    expect(() => toAmqp(encodeTask({ ...CALL, id: 'é'.repeat(128) }))).toThrow(/correlation_id .* over 255 bytes/);
    expect(() => toAmqp(encodeTask({ ...CALL, routingKey: 'q'.repeat(256) }))).toThrow(/routing key .* over 255 bytes/);
  });
}); // prettier-ignore

describe('a delivery from AMQP', () => {
  it("has kombu's names", () => {
    const wire = toWire({
      properties: {
        contentType: 'application/json', contentEncoding: 'utf-8', deliveryMode: 2, priority: 0, correlationId: 'c', replyTo: '',
        expiration: '5', messageId: 'm', timestamp: 9, type: 't', userId: 'u', appId: 'a', clusterId: 'x',
      },
      exchange: 'shop',
      routingKey: 'orders',
      redelivered: true,
      consumerTag: 'c1',
      body: Buffer.from('[]'),
    }); // prettier-ignore
    expect(wire).toEqual({
      body: Buffer.from('[]'),
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      headers: {},
      properties: {
        delivery_mode: 2, priority: 0, correlation_id: 'c', reply_to: '', expiration: '5', message_id: 'm', timestamp: 9,
        type: 't', user_id: 'u', app_id: 'a', cluster_id: 'x',
        delivery_info: { exchange: 'shop', routing_key: 'orders', redelivered: true, consumer_tag: 'c1' },
      },
      raw: undefined,
    }); // prettier-ignore
  });

  it('is the task that was published', () => {
    const call = { ...CALL, priority: 3, replyTo: 'oid', timeLimit: 30, stamps: { by: ['a'] }, stampedHeaders: ['by'] };
    const task = decodeTask(toWire(delivered(encodeTask(call), { redelivered: true })), OPTIONS);
    expect({ ...task }).toMatchObject({ id: 'id-1', task: 'tasks.add', args: [2, 3], hardLimitMs: 30_000, retries: 0 });
    expect(task.priority).toBe(3);
    expect(task.replyTo).toBe('oid');
    expect(task.redelivered).toBe(true);
    expect(task.routingKey).toBe('celery');
    expect(task.stamps).toEqual({ by: ['a'] });
  });

  it('cannot pollute: a header named __proto__ is a header', () => {
    const headers = new Map<string, unknown>([['task', 't'], ['id', 'i'], ['__proto__', { polluted: true }]]);
    const wire = toWire(delivered({ ...plain(encodeTask(CALL)), headers }));
    expect(Object.hasOwn(wire.headers, '__proto__')).toBe(true);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect([...exactHeaders(wire).keys()]).toEqual(['task', 'id', '__proto__']);
  }); // prettier-ignore

  it('with headers that end too early says so', () => {
    const broken = { ...delivered(encodeTask(CALL)), properties: { headers: Buffer.from([3, 0x61]) } };
    expect(() => toWire(broken)).toThrow(/middle of a field/);
  });
});

describe('headers that nobody here knows', () => {
  /** name, type letter, value: as a table has them. */
  const field = (name: string, ...value: readonly (number | string)[]): Buffer =>
    Buffer.concat([
      Buffer.from([name.length]),
      Buffer.from(name),
      ...value.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from([part]))),
    ]);
  const UNKNOWN = [
    field('unsigned', 'i', 0xff, 0xff, 0xff, 0xff),
    field('float', 'f', 0x3f, 0x80, 0, 0),
    field('one', 'd', 0x3f, 0xf0, 0, 0, 0, 0, 0, 0),
    field('wide', 'L', 0, 0, 0, 0, 0, 0, 0, 7),
    field('decimal', 'D', 2, 0, 0, 0, 150),
    field('nested', 'F', 0, 0, 0, 5, 1, 'a', 's', 0, 5),
    field('when', 'T', 0, 0, 0, 0, 0x6a, 0, 0, 0),
    field('bytes', 'x', 0, 0, 0, 2, 0xff, 0),
    field('latin', 'S', 0, 0, 0, 1, 0xe9),
    field('yes', 't', 1),
    field('nothing', 'V'),
  ];

  const table = Buffer.concat([
    encodeTable(new Map<string, unknown>([['task', 'tasks.add'], ['id', 'id-1'], ['retries', 0], ['parent_id', null]])),
    ...UNKNOWN,
    encodeTable(new Map<string, unknown>([['x-death', [{ count: 1 }]], ['x-delivery-count', 2], ['x-acquired-count', 3]])),
  ]); // prettier-ignore
  const wire = toWire({
    ...delivered(encodeTask(CALL)),
    properties: { headers: table, contentType: 'application/json', contentEncoding: 'utf-8' },
  });

  it('go on byte for byte when a message is sent elsewhere', () => {
    const forwarded = { ...plain(encodeTask(CALL)), headers: exactHeaders(wire) };
    expect(Buffer.from(toAmqp(forwarded).properties.headers ?? []).toString('hex')).toBe(table.toString('hex'));
  });

  it('stay in a retry, without the marks of one delivery', () => {
    const retry = retryOf(decodeTask(wire, OPTIONS), { retries: 1, eta: null, origin: 'gen1@h', now: new Date() });
    const headers = Buffer.from(toAmqp(retry).properties.headers ?? []);
    for (const bytes of UNKNOWN) expect(headers.includes(bytes)).toBe(true);
    expect(decodeTable(headers)).toMatchObject({ retries: 1, eta: null, parent_id: 'id-1' });
    expect(Object.keys(decodeTable(headers)).filter((name) => name.startsWith('x-'))).toEqual([]);
  });
});

describe('the expiration of a retry', () => {
  const NOW = new Date('2026-11-21T10:00:00Z');
  const expirationOf = (call: object): unknown => {
    const wire = toWire(delivered(encodeTask({ ...CALL, expiration: '90000', ...call })));
    const change = { retries: 1, eta: null, origin: 'gen1@h', now: NOW };
    return toAmqp(retryOf(decodeTask(wire, OPTIONS), change)).properties.expiration;
  };

  it('is what is left of the time until the task expires', () => {
    expect(expirationOf({ expires: '2026-11-21T10:00:30.5+00:00' })).toBe('30500');
  });
  it('is none for a task that does not expire, and for one that has: its worker says so', () => {
    expect(expirationOf({})).toBeUndefined();
    expect(expirationOf({ expires: '2026-11-21T09:59:59+00:00' })).toBeUndefined();
  });
});

/** Its fields as data, to be changed. */
function plain(publication: Publication): Publication {
  const { exchange, routingKey, body, contentType, contentEncoding, headers, properties, priority } = publication;
  return { exchange, routingKey, body, contentType, contentEncoding, headers, properties, priority };
}
