import { describe, expect, it } from 'vitest';
import type { AmqpArguments, Declaration } from '../../../protocols/amqp.ts';
import {
  type AmqpQueue,
  broadcastQueue,
  configuredQueue,
  eventQueue,
  pidboxQueue,
  pidboxReplyQueue,
  queueDeclarations,
  resultQueue,
  usesQuorum,
  withSettings,
  workerDirectQueue,
} from '../../../protocols/celery/brokers/topology.ts';

const exchange = (name: string, type: string, change: object = {}): unknown => ({
  kind: 'exchange', name, type, durable: true, autoDelete: false, arguments: {}, ...change,
}); // prettier-ignore
const queue = (name: string, args: AmqpArguments = {}, change: object = {}): unknown => ({
  kind: 'queue', name, durable: true, autoDelete: false, exclusive: false, arguments: args, ...change,
}); // prettier-ignore
const binding = (destination: string, source: string, routingKey: string, args: AmqpArguments = {}): unknown => ({
  kind: 'binding', to: 'queue', destination, source, routingKey, arguments: args,
}); // prettier-ignore

describe('what is declared for a queue', () => {
  const cases: readonly (readonly [string, AmqpQueue, readonly unknown[]])[] = [
    [
      'that is only a name: a direct exchange of the same name, the queue, the binding',
      { name: 'orders' },
      [exchange('orders', 'direct'), queue('orders'), binding('orders', 'orders', 'orders')],
    ],
    ['of the default exchange: the queue alone', { name: 'orders', exchange: '' }, [queue('orders')]],
    [
      "of one of RabbitMQ's own exchanges: all but the exchange",
      { name: 'orders', exchange: 'amq.topic', exchangeType: 'topic', routingKey: 'order.#' },
      [queue('orders'), binding('orders', 'amq.topic', 'order.#')],
    ],
    [
      'of a headers exchange: the binding says what must match',
      { name: 'bills', exchange: 'mail', exchangeType: 'headers', routingKey: '', bindingArguments: { 'x-match': 'all', kind: 'bill' } },
      [exchange('mail', 'headers'), queue('bills'), binding('bills', 'mail', '', { 'x-match': 'all', kind: 'bill' })],
    ],
    [
      'with an exchange that nobody keeps',
      { name: 'q', exchange: 'x', exchangeDurable: false, exchangeAutoDelete: true, exchangeArguments: { 'alternate-exchange': 'y' } },
      [
        exchange('x', 'direct', { durable: false, autoDelete: true, arguments: { 'alternate-exchange': 'y' } }),
        queue('q'),
        binding('q', 'x', 'q'),
      ],
    ],
    [
      'that is exclusive: it is deleted with its last consumer, too',
      { name: 'mine', exchange: '', exclusive: true, autoDelete: false },
      [queue('mine', {}, { exclusive: true, autoDelete: true })],
    ],
    [
      'with several bindings: the queue first, then each exchange and its binding',
      {
        name: 'all',
        bindings: [
          { exchange: 'a', exchangeType: 'topic', routingKey: 'x.*' },
          { exchange: 'b', routingKey: 'y' },
          { exchange: 'amq.fanout', exchangeType: 'fanout' },
        ],
      },
      [
        queue('all'),
        exchange('a', 'topic'),
        binding('all', 'a', 'x.*'),
        exchange('b', 'direct'),
        binding('all', 'b', 'y'),
        binding('all', 'amq.fanout', ''),
      ],
    ],
    [
      'that others declare: a look whether it is there',
      { name: 'theirs', exchange: 'x', noDeclare: true },
      [queue('theirs', {}, { passive: true })],
    ],
  ]; // prettier-ignore

  it.each(cases)('%s', (_, spec, declarations) => {
    expect(queueDeclarations(spec)).toEqual(declarations);
  });

  it("has RabbitMQ's arguments made of kombu's, in whole milliseconds", () => {
    const spec: AmqpQueue = {
      name: 'q',
      exchange: '',
      queueType: 'quorum',
      maxPriority: 9,
      expires: 1.5,
      messageTtl: 0.0309,
      maxLength: 100,
      maxLengthBytes: 2 ** 40,
      deadLetterExchange: 'dead',
      deadLetterRoutingKey: 'q.dead',
      queueArguments: { 'x-single-active-consumer': true, 'x-max-priority': 3 },
    };
    expect(argumentsOf(spec)).toEqual({
      'x-queue-type': 'quorum',
      'x-max-priority': 9,
      'x-expires': 1500,
      'x-message-ttl': 30,
      'x-max-length': 100,
      'x-max-length-bytes': 2 ** 40,
      'x-dead-letter-exchange': 'dead',
      'x-dead-letter-routing-key': 'q.dead',
      'x-single-active-consumer': true,
    });
  });
});

describe("what Celery's settings make of a queue", () => {
  it('makes the default queue of its name, on the default exchange', () => {
    expect(withSettings({ name: 'celery' }, {})).toEqual({
      name: 'celery',
      exchange: 'celery',
      exchangeType: 'direct',
      routingKey: 'celery',
    });
    expect(
      withSettings(
        { name: 'work' },
        {
          taskDefaultQueue: 'work',
          taskDefaultExchange: 'shop',
          taskDefaultExchangeType: 'topic',
          taskDefaultRoutingKey: 'shop.work',
          taskDefaultQueueType: 'quorum',
          taskCreateMissingQueueExchangeType: 'fanout',
        },
      ),
    ).toEqual({ name: 'work', exchange: 'shop', exchangeType: 'topic', routingKey: 'shop.work', queueType: 'quorum' });
  });

  it('creates a missing queue with the type that missing queues have, not that of the default queue', () => {
    const settings = { taskDefaultQueueType: 'quorum', taskDefaultExchangeType: 'topic' } as const;
    expect(argumentsOf(withSettings({ name: 'q' }, settings))).toEqual({});
    const missing = withSettings(
      { name: 'q' },
      { taskCreateMissingQueueType: 'quorum', taskCreateMissingQueueExchangeType: 'topic' },
    );
    expect(queueDeclarations(missing)).toEqual([
      exchange('q', 'topic'),
      queue('q', { 'x-queue-type': 'quorum' }),
      binding('q', 'q', 'q'),
    ]);
  });

  it.each<readonly [string, AmqpQueue, Partial<AmqpQueue>]>([
    ['that is only a name', { name: 'q' }, { exchange: 'shop', exchangeType: 'topic', routingKey: 'celery' }],
    ['with a key', { name: 'q', routingKey: 'k' }, { exchange: 'shop', exchangeType: 'topic', routingKey: 'k' }],
    [
      'with arguments',
      { name: 'q', maxPriority: 5 },
      { exchange: 'shop', exchangeType: 'topic', routingKey: 'celery' },
    ],
    ['with an exchange', { name: 'q', exchange: 'x' }, { exchange: 'x', routingKey: 'celery' }],
    ['with a type alone', { name: 'q', exchangeType: 'topic' }, { exchangeType: 'topic' }],
    ['bound to nothing', { name: 'q', exchange: '' }, { exchange: '' }],
    ['with several bindings', { name: 'q', bindings: [] }, { bindings: [] }],
  ])('completes a configured queue %s, as Celery does one of task_queues', (_, spec, added) => {
    const settings = {
      taskDefaultExchange: 'shop',
      taskDefaultExchangeType: 'topic',
      taskDefaultQueueType: 'quorum',
    } as const;
    const full = configuredQueue(spec, settings);
    expect(full).toEqual({ ...spec, ...added });
    expect(withSettings(full, settings)).toEqual(full);
    expect(configuredQueue(full, settings)).toEqual(full);
  });

  it('never writes that a queue is classic', () => {
    const settings = { taskDefaultQueueType: 'classic', taskCreateMissingQueueType: 'classic' } as const;
    expect(argumentsOf(withSettings({ name: 'celery' }, settings))).toEqual({});
    expect(argumentsOf(withSettings({ name: 'q' }, settings))).toEqual({});
  });

  it('gives every queue the priorities of all, except where it has its own', () => {
    const settings = { taskQueueMaxPriority: 10 };
    expect(argumentsOf(withSettings({ name: 'celery' }, settings))).toEqual({ 'x-max-priority': 10 });
    expect(argumentsOf(withSettings(workerDirectQueue('w@h'), settings))).toEqual({ 'x-max-priority': 10 });
    expect(argumentsOf(withSettings({ name: 'q', maxPriority: 3 }, settings))).toEqual({ 'x-max-priority': 3 });
    const own = { name: 'q', queueArguments: { 'x-max-priority': 0 } };
    expect(argumentsOf(withSettings(own, settings))).toEqual({ 'x-max-priority': 0 });
  });

  it('finds quorum queues by their type, however it is said', () => {
    expect(usesQuorum([{ name: 'a' }, { name: 'b', queueType: 'quorum' }])).toBe(true);
    expect(usesQuorum([{ name: 'a', queueArguments: { 'x-queue-type': 'quorum' } }])).toBe(true);
    expect(usesQuorum([{ name: 'a', queueType: 'classic' }, { name: 'b' }])).toBe(false);
    expect(usesQuorum([])).toBe(false);
  });
});

describe("Celery's own queues", () => {
  it('the control queue can be durable or exclusive, and then lives as long', () => {
    expect(queueDeclarations(pidboxQueue('w@h', { durable: true, expires: 60, messageTtl: 1 }))[1]).toEqual(
      queue('w@h.celery.pidbox', { 'x-expires': 60_000, 'x-message-ttl': 1000 }),
    );
    expect(queueDeclarations(pidboxReplyQueue('oid', { exclusive: true }, 'shop'))).toEqual([
      exchange('reply.shop.pidbox', 'direct', { durable: false }),
      queue('oid.reply.shop.pidbox', { 'x-expires': 10_000, 'x-message-ttl': 300_000 }, {
        durable: false,
        autoDelete: true,
        exclusive: true,
      }),
      binding('oid.reply.shop.pidbox', 'reply.shop.pidbox', 'oid'),
    ]); // prettier-ignore
  });

  it('a broadcast has an exchange that stays and queues that do not', () => {
    expect(queueDeclarations(broadcastQueue('news', 'id-1'))).toEqual([
      exchange('news', 'fanout'),
      queue('bcast.id-1', {}, { autoDelete: true }),
      binding('bcast.id-1', 'news', 'celery'),
    ]);
  });

  it('results have a queue without an exchange, events one on a topic', () => {
    expect(queueDeclarations(resultQueue('oid'))).toHaveLength(1);
    expect(queueDeclarations(eventQueue('id', 'worker.#'))[2]).toEqual(binding('celeryev.id', 'celeryev', 'worker.#'));
  });
});

function argumentsOf(spec: AmqpQueue): AmqpArguments | undefined {
  return queueDeclarations(spec).find((each): each is Extract<Declaration, { kind: 'queue' }> => each.kind === 'queue')
    ?.arguments;
}
