import { Buffer } from 'node:buffer';
import { describe, expect, it } from 'vitest';
import type { AmqpProperties, Declaration } from '../../protocols/amqp.ts';
import { toAmqp, toWire } from '../../protocols/celery/brokers/amqp.ts';
import { decodeTask, exactHeaders, type Publication, retryOf } from '../../protocols/celery/message/message.ts';
import { delayBindings, delayedDeclarations, delayedRoute } from '../../protocols/celery/brokers/native-delay.ts';
import { acceptSet, defaultLimits } from '../../protocols/celery/message/serializers.ts';
import {
  type AmqpQueue,
  broadcastQueue,
  eventQueue,
  pidboxQueue,
  pidboxReplyQueue,
  queueDeclarations,
  resultQueue,
  type TopologySettings,
  withSettings,
  workerDirectQueue,
} from '../../protocols/celery/brokers/topology.ts';
import { decodeTable } from '../../protocols/formats/amqp-table.ts';
import {
  type AmqpFixture,
  type AmqpLife,
  declaredIn,
  deliveryOf,
  headersOf,
  lettersIn,
  lettersOf,
  loadAmqp,
  type Method,
  propertiesOf,
  taskMethods,
} from './amqp-support.ts';
import { embedOf, millisOf, publicationOf, type Recorded, unreadableHere } from './calls.ts';
import { CELERY_VERSIONS, valueOf } from './support.ts';

const OPTIONS = { accept: acceptSet(['json', 'yaml', 'msgpack']), limits: defaultLimits };

const BARE: Publication = {
  exchange: '',
  routingKey: 'celery',
  body: new Uint8Array(),
  contentType: 'application/json',
  contentEncoding: 'utf-8',
  headers: new Map(),
  properties: new Map(),
  priority: 0,
};

/** What we do not write, so only read. */
const READ_ONLY: Readonly<Record<string, string>> = {
  'enqueue-protocol-1': 'we publish protocol 2',
  'enqueue-headers-values': 'Python writes bytes as texts, and we have no decimals to send',
};

for (const version of CELERY_VERSIONS) {
  describe(`a message that Celery ${version} published over AMQP`, () => {
    const fixtures = loadAmqp<{ readonly messages: readonly Recorded[] }>(version, 'enqueue-');
    describe.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (name, fixture) => {
      const methods = taskMethods(fixture.wire, 'basic.publish');
      it('is on the wire as often as it means to be', () => {
        expect(methods).toHaveLength(fixture.means.messages.length);
      });

      for (const [at, message] of fixture.means.messages.entries()) {
        const method = methods[at] as Method;
        const exact = (fixture.exact.get('messages') as readonly ReadonlyMap<string, unknown>[])[at] ?? new Map();
        const unreadable = unreadableHere(message);

        it.skipIf(unreadable !== undefined)(`${at}: is read as what it means${unreadable ?? ''}`, () => {
          expectTask(method, message, exact, version);
        });

        it(`${at}: goes on with the same headers, byte for byte`, () => {
          const wire = toWire(deliveryOf(method));
          const moved = { ...BARE, headers: exactHeaders(wire) };
          expect(base64(toAmqp(moved).properties.headers)).toBe(headersOf(method).base64);
        });

        const skipped = READ_ONLY[name] ?? unreadable;
        const why = READ_ONLY[name] === undefined ? (unreadable ?? '') : ` [skipped: ${READ_ONLY[name]}]`;
        it.skipIf(skipped !== undefined)(`${at}: is written the same${why}`, () => {
          const ours = toAmqp(publicationOf(version, message, exact));
          expect({ exchange: ours.exchange, routing_key: ours.routingKey, mandatory: ours.mandatory, immediate: false }).toEqual(
            method.arguments,
          );
          expectProperties(ours.properties, method);
          if (message.contentType === 'application/json' && message.headers['compression'] === undefined) {
            expect(Buffer.from(ours.body).toString()).toBe((method.body as { readonly text: string }).text);
          }
        }); // prettier-ignore
      }
    });
  });

  describe(`a message that a worker of Celery ${version} had from RabbitMQ`, () => {
    const fixtures = loadAmqp<AmqpLife>(version, 'life-');
    it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s: is read as what it means', (_, fixture) => {
      const method = taskMethods(fixture.wire, 'basic.deliver')[0] as Method;
      const message = fixture.exact.get('message') as ReadonlyMap<string, unknown>;
      expectTask(method, fixture.means.message, message, version);
    }); // prettier-ignore

    const retries = fixtures.filter(({ means }) => means.outcome.kind === 'retry');
    it.each(retries.map((fixture) => [fixture.name, fixture] as const))('%s: is tried again as Celery does', (_, fixture) => {
      const wire = toWire(deliveryOf(taskMethods(fixture.wire, 'basic.deliver')[0] as Method));
      const method = taskMethods(fixture.wire, 'basic.publish')[0] as Method;
      const { headers: theirTable = new Uint8Array(), ...theirs } = propertiesOf(method);
      const theirHeaders = decodeTable(theirTable);
      const change = { retries: 1, eta: String(theirHeaders['eta']), origin: 'gen72@worker1', now: new Date(0) };
      const ours = toAmqp(retryOf(decodeTask(wire, OPTIONS), change));
      const { headers: table = new Uint8Array(), ...properties } = ours.properties;
      expect({ exchange: ours.exchange, routingKey: ours.routingKey, body: ours.body }).toEqual({
        exchange: method.arguments['exchange'],
        routingKey: method.arguments['routing_key'],
        body: deliveryOf(method).body,
      });
      expect(properties).toEqual(theirs);
      // 5.2 loses the headers it does not know, and who sent the task first.
      const origin = wire.headers['origin'];
      expect(decodeTable(table)).toEqual(version === '5.2' ? { ...wire.headers, ...theirHeaders, origin } : theirHeaders);
    }); // prettier-ignore
  });

  describe(`what Celery ${version} declares`, () => {
    const fixtures = new Map(
      ['enqueue-', 'start-', 'control-'].flatMap((prefix) =>
        loadAmqp<object>(version, prefix).map((fixture) => [fixture.name, fixture] as const),
      ),
    );

    it.each([...fixtures].filter(([name]) => TOPOLOGY[name] !== undefined))('%s', (name, fixture) => {
      const ours = unique(TOPOLOGY[name]?.(fixture) ?? []);
      // A queue with bindings is bound to the default exchange as well before kombu 5.5.
      if (name === 'enqueue-queue-bindings' && version !== '5.6')
        expect(declaredIn(fixture.wire)).toEqual(expect.arrayContaining([...ours]));
      else expect(ours).toEqual(declaredIn(fixture.wire));
    });

    const rest = [...fixtures].filter(([name]) => TOPOLOGY[name] === undefined);
    it.each(rest)('%s: the default queue, and nothing else', (_, fixture) => {
      expect(declaredIn(fixture.wire)).toEqual(declared([{ name: 'celery' }]));
    });
  });
}

describe('a task that waits in RabbitMQ', () => {
  const [whole, fraction] = ['enqueue-delayed', 'enqueue-delayed-fraction'].map((name) => {
    const fixture = loadAmqp<{ readonly messages: readonly Recorded[] }>('5.6', `${name}.json`)[0];
    return fixture?.means.messages[0];
  });
  it('is published where Celery publishes it', () => {
    expect(delayedRoute(5, 'slow.tasks')).toEqual({ exchange: whole?.exchange, routingKey: whole?.routingKey });
    // 00:02:30.5 seen from 00:01:25.636.
    expect(delayedRoute(64.864, 'slow.tasks')).toEqual({
      exchange: fraction?.exchange,
      routingKey: fraction?.routingKey,
    });
  });
});

type Making = (fixture: AmqpFixture<object>) => readonly Declaration[];

const EUROPE: AmqpQueue = { name: 'europe', exchange: 'orders', exchangeType: 'topic', routingKey: 'order.*.eu.#' };
const BILLS: AmqpQueue = {
  name: 'bills',
  exchange: 'mail',
  exchangeType: 'headers',
  routingKey: 'celery',
  bindingArguments: { 'x-match': 'all', kind: 'bill' },
};
const SLOW: AmqpQueue = {
  name: 'slow',
  exchange: 'slow',
  exchangeType: 'topic',
  routingKey: 'slow.tasks',
  queueArguments: { 'x-queue-type': 'quorum' },
};
const NODE = 'celery@worker1';

/** Our declarations for what a fixture's Python configured. */
const TOPOLOGY: Readonly<Record<string, Making>> = {
  'enqueue-queue': () => declared([{ name: 'mail' }]),
  'enqueue-queue-quorum': () => declared([{ name: 'mail' }], { taskCreateMissingQueueType: 'quorum' }),
  'enqueue-queue-topic': () => declared([{ name: 'mail' }], { taskCreateMissingQueueExchangeType: 'topic' }),
  'enqueue-default-queue': () => declared([{ name: 'home' }], { taskDefaultQueue: 'home' }),
  'enqueue-default-exchange': () =>
    declared([{ name: 'celery' }], {
      taskDefaultExchange: 'shop',
      taskDefaultExchangeType: 'topic',
      taskDefaultRoutingKey: 'shop.home',
    }),
  'enqueue-default-quorum': () => declared([{ name: 'celery' }], { taskDefaultQueueType: 'quorum' }),
  // Clients declare no levels: in these fixtures the caller does it, with the top one.
  'enqueue-delayed': () => delayedDeclarations().slice(0, 1),
  'enqueue-delayed-fraction': () => delayedDeclarations().slice(0, 1),
  'enqueue-delayed-direct': () => declared([{ name: 'celery' }], { taskDefaultQueueType: 'quorum' }),
  'enqueue-max-priority': () => declared([{ name: 'celery' }], { taskQueueMaxPriority: 10 }),
  'enqueue-topic': () => declared([EUROPE]),
  'enqueue-topic-routing-key': () => declared([EUROPE]),
  'enqueue-headers-exchange': () => declared([BILLS]),
  'enqueue-fanout': ({ frozen }) => declared([broadcastQueue('news', frozen.ids[0] ?? '')]),
  'enqueue-reply-to': ({ frozen }) => declared([resultQueue(frozen.oid), { name: 'celery' }]),
  'enqueue-queue-limits': () =>
    declared([
      {
        name: 'limited',
        exchange: 'limited',
        routingKey: 'limited',
        expires: 1.5,
        messageTtl: 30,
        maxLength: 100,
        maxLengthBytes: 2 ** 40,
        maxPriority: 5,
        queueArguments: { 'x-overflow': 'reject-publish' },
      },
    ]),
  'enqueue-queue-passing': () =>
    declared([
      {
        name: 'passing',
        exchange: 'passing',
        exchangeDurable: false,
        exchangeAutoDelete: true,
        routingKey: 'celery',
        durable: false,
        autoDelete: true,
      },
    ]),
  'enqueue-queue-exclusive': () =>
    declared([{ name: 'private', exchange: 'private', routingKey: 'celery', exclusive: true }]),
  'enqueue-queue-bindings': () =>
    declared([{ name: 'all', bindings: [{ exchange: 'orders', exchangeType: 'topic', routingKey: 'order.#' }] }]),
  'start-chatty': ({ frozen }) => [
    ...declared([pidboxReplyQueue(frozen.oid), { name: 'celery' }, pidboxQueue(NODE)]),
    // Gossip's events are forgotten after one interval of heartbeats.
    ...declared([eventQueue(frozen.ids.at(-1) ?? '', 'worker.#', { messageTtl: 2 })]),
  ],
  'start-queue': () => declared([{ name: 'mail' }, { name: 'celery' }]),
  'start-worker-direct': () => declared([{ name: 'celery' }, workerDirectQueue(NODE)]),
  'start-max-priority': () => declared([{ name: 'celery' }], { taskQueueMaxPriority: 10 }),
  'start-topics': ({ frozen }) =>
    declared([{ name: 'celery' }, EUROPE, BILLS, broadcastQueue('news', frozen.ids[0] ?? '')]),
  'start-quorum': () => [
    ...declared([{ name: 'celery' }], { taskDefaultQueueType: 'quorum' }),
    ...delayedDeclarations(),
  ],
  'start-delayed': ({ frozen }) => {
    const queues = [{ name: 'celery' }, SLOW, EUROPE, broadcastQueue('news', frozen.ids[0] ?? '')];
    return [...declared(queues), ...delayedDeclarations(), ...queues.flatMap(delayBindings)];
  },
  'start-delayed-classic': () => [
    ...declared([{ name: 'celery' }, SLOW]),
    ...delayedDeclarations('classic'),
    ...delayBindings(SLOW),
  ],
  'control-ping': controlled,
  'control-revoke': controlled,
};

function controlled({ frozen }: AmqpFixture<object>): readonly Declaration[] {
  return [...declared([pidboxReplyQueue(frozen.oid)]), ...queueDeclarations(pidboxQueue(NODE)).slice(0, 1)];
}

function declared(queues: readonly AmqpQueue[], settings: TopologySettings = {}): readonly Declaration[] {
  return queues.flatMap((queue) => queueDeclarations(withSettings(queue, settings)));
}

function unique(declarations: readonly Declaration[]): readonly Declaration[] {
  return [...new Map(declarations.map((each) => [JSON.stringify(each), each])).values()];
}

function expectTask(method: Method, message: Recorded, exact: ReadonlyMap<string, unknown>, version: string): void {
  const decoded = decodeTask(toWire(deliveryOf(method)), OPTIONS);
  const typed = { typed: version !== '5.2' && message.contentType === 'application/json' };
  const { hardLimit, softLimit } = message;
  expect({ ...decoded }).toMatchObject({
    id: message.id,
    task: message.task,
    protocol: message.protocol,
    args: valueOf(message.args, typed),
    kwargs: valueOf(message.kwargs, typed),
    retries: message.retries,
    hardLimitMs: hardLimit === null ? undefined : (valueOf(hardLimit, typed) as number) * 1000,
    softLimitMs: softLimit === null ? undefined : (valueOf(softLimit, typed) as number) * 1000,
  });
  expect(decoded.eta?.getTime()).toBe(millisOf(message.eta));
  expect(decoded.expires?.getTime()).toBe(millisOf(message.expires));
  expect(decoded.group).toBe(message.group ?? undefined);
  expect(decoded.groupIndex).toBe(message.groupIndex ?? undefined);
  expect(decoded.rootId).toBe(message.rootId ?? message.id);
  expect(decoded.parentId).toBe(message.parentId ?? undefined);
  expect(decoded.replyTo).toBe(message.replyTo);
  expect(decoded.priority).toBe(message.priority ?? 0);
  expect(decoded.exchange).toBe(message.exchange);
  expect(decoded.routingKey).toBe(message.routingKey);
  expect(decoded.redelivered).toBe(false);
  expect(decoded.shownAs).toBe(message.headers['shadow'] ?? message.task);
  expect(decoded.ignoreResult).toBe(message.headers['ignore_result']);
  expect(decoded.stamps).toEqual(message.headers['stamps'] ?? {});
  expect(decoded.stampedHeaders).toEqual(message.headers['stamped_headers'] ?? []);
  expect(decoded.embed).toEqual(embedOf(exact));
}

function expectProperties(ours: AmqpProperties, method: Method): void {
  const { headers: table = new Uint8Array(), ...properties } = ours;
  const { headers: recorded = new Uint8Array(), ...theirs } = propertiesOf(method);
  // Without a priority is priority 0; Celery leaves it out where a queue is given.
  expect(properties).toEqual({ priority: 0, ...theirs });
  expect(decodeTable(table)).toEqual(decodeTable(recorded));
  const letters = lettersOf(headersOf(method).fields);
  // 64 bits are `L` to py-amqp and `l` to RabbitMQ, who reads both; the lowest integer of 32 bits is one of 64 to py-amqp.
  const alike = JSON.parse(JSON.stringify(letters).replaceAll('"L"', '"l"').replace('["min","l"]', '["min","I"]'));
  expect(lettersIn(table)).toEqual(alike);
  if (JSON.stringify(letters) === JSON.stringify(alike)) expect(base64(table)).toBe(base64(recorded));
}

function base64(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('base64');
}
