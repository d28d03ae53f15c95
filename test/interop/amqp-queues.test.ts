import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import type { CeleryJob } from '../../protocols/celery/message/message.ts';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { ConfigError, UnroutableError } from '../../src/errors.ts';
import { Retry } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import type { CeleryVersion, PythonCanvas } from '../support/python.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { interopTasks } from './apps/tasks.ts';
import { Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

const WAIT = { timeoutMs: PATIENCE_MS };
const PRIORITY = 'priority';
const EXCHANGES = 'exchanges: direct, topic, fanout, headers';
const BROADCAST = 'broadcast queues';
const DIRECT = 'worker_direct';
const CALLS = 'per-call exchange, routing key, priority, expiration, headers';

/** Ways to a queue, each with a queue of its own. */
const KINDS = [
  { name: 'k-direct', exchange: 'k-shop', routingKey: 'bill' },
  { name: 'k-topic', exchange: 'k-orders', exchangeType: 'topic', routingKey: 'order.*.new' },
  { name: 'k-wide-1', exchange: 'k-wide', exchangeType: 'fanout', routingKey: 'k-wide-1' },
  { name: 'k-wide-2', exchange: 'k-wide', exchangeType: 'fanout', routingKey: 'k-wide-2' },
  {
    name: 'k-all',
    exchange: 'k-kinds',
    routingKey: 'k-all',
    exchangeType: 'headers',
    bindingArguments: { 'x-match': 'all', kind: 'invoice', country: 'de' },
  },
  {
    name: 'k-any',
    exchange: 'k-kinds',
    routingKey: 'k-any',
    exchangeType: 'headers',
    bindingArguments: { 'x-match': 'any', kind: 'invoice', country: 'de' },
  },
  {
    name: 'k-several',
    bindings: [
      { exchange: 'k-orders', exchangeType: 'topic', routingKey: 'return.#' },
      { exchange: 'k-shop', routingKey: 'refund' },
    ],
  },
] as const satisfies CeleryOptions['queues'];

const KINDS_IN_PYTHON = `
from kombu import Exchange, Queue, binding
orders, shop, wide, kinds = Exchange('k-orders', 'topic'), Exchange('k-shop'), Exchange('k-wide', 'fanout'), Exchange('k-kinds', 'headers')
app.conf.task_queues = (
    Queue('k-direct', shop, routing_key='bill'),
    Queue('k-topic', orders, routing_key='order.*.new'),
    Queue('k-wide-1', wide, routing_key='k-wide-1'),
    Queue('k-wide-2', wide, routing_key='k-wide-2'),
    Queue('k-all', kinds, routing_key='k-all', binding_arguments={'x-match': 'all', 'kind': 'invoice', 'country': 'de'}),
    Queue('k-any', kinds, routing_key='k-any', binding_arguments={'x-match': 'any', 'kind': 'invoice', 'country': 'de'}),
    Queue('k-several', bindings=[binding(orders, routing_key='return.#'), binding(shop, routing_key='refund')]),
)
`;

/** What is sent, and the queues it comes to. */
const SENT = [
  { exchange: 'k-shop', key: 'bill', headers: {}, to: ['k-direct'] },
  { exchange: 'k-shop', key: 'refund', headers: {}, to: ['k-several'] },
  { exchange: 'k-orders', key: 'order.eu.new', headers: {}, to: ['k-topic'] },
  { exchange: 'k-orders', key: 'return.eu.late', headers: {}, to: ['k-several'] },
  { exchange: 'k-wide', key: 'whatever', headers: {}, to: ['k-wide-1', 'k-wide-2'] },
  { exchange: 'k-kinds', key: 'whatever', headers: { kind: 'invoice', country: 'de' }, to: ['k-all', 'k-any'] },
  { exchange: 'k-kinds', key: 'whatever', headers: { kind: 'invoice', country: 'fr' }, to: ['k-any'] },
] as const;

describe.each<CeleryVersion>(['5.2', '5.6'])('queues of RabbitMQ with Celery %s', (version) => {
  const setting = { version, broker: 'amqp' } as const;
  const toNode = facts('amqp-queues', setting, 'Python → Node');
  const toPython = facts('amqp-queues', setting, 'Node → Python');
  const both = facts('amqp-queues', setting, 'both');
  let stage: Stage;
  let folder: string;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker: 'amqp' });
    folder = temporaryFolder('jobglot-queues-');
  });
  afterEach(() => stage.nothingHeld());
  afterAll(() => stage[Symbol.asyncDispose]());

  function lines(path: string): readonly string[] {
    try {
      return readFileSync(path, 'utf8').trimEnd().split('\n');
    } catch {
      return [];
    }
  }

  /** Tasks with one more, `node.seen`, whose jobs are kept. */
  function seeing(): { readonly tasks: Tasks; readonly seen: CeleryJob[] } {
    const seen: CeleryJob[] = [];
    const tasks = interopTasks().handle(defineTask('node.seen'), (job) => {
      seen.push(job as unknown as CeleryJob);
    });
    return { tasks, seen };
  }

  toNode(
    PRIORITY,
    'from a queue with x-max-priority, the highest is run first, and equals in their order',
    async () => {
      const queue = stage.queue('node');
      await stage.run(
        `
sender = other(task_queue_max_priority=9)
for n in (1, 2):
    for priority in (0, 3, 9, 6):
        sender.send_task('node.seen', args=[priority, n], queue=queue, priority=priority)
`,
        { queue },
      );
      const { tasks, seen } = seeing();
      const order = [9, 6, 3, 0].flatMap((priority) => [1, 2].map((n) => [priority, n]));
      await using _ = await stage.node({
        tasks,
        queues: [queue],
        taskQueueMaxPriority: 9,
        concurrency: 1,
        prefetchMultiplier: 1,
      });
      await until('all have run', () => seen.length === order.length);
      expect(seen.map(({ args }) => args)).toEqual(order);
      expect((await stage.rabbit.queues(stage.vhost)).find(({ name }) => name === queue)?.arguments).toEqual({
        'x-max-priority': 9,
      });
    },
  );

  toPython(PRIORITY, 'what Node sends with priorities, Python runs highest first', async () => {
    const queue = stage.queue('python');
    const path = join(folder, 'priorities');
    await using client = stage.client({ taskDefaultQueue: queue, taskQueueMaxPriority: 9 });
    const results = [];
    for (const priority of [0, 3, 9, 6])
      results.push(await client.enqueue('py.write', { args: [path, `${priority}`], priority }));
    const config = { task_queue_max_priority: 9, worker_prefetch_multiplier: 1 };
    await using _ = await stage.worker({ queues: [queue], config });
    await Promise.all(results.map((result) => result.get(WAIT)));
    expect(lines(path)).toEqual(['9', '6', '3', '0']);
  });

  toNode(EXCHANGES, 'what Python sends to an exchange comes to the queues of Node that are bound for it', async () => {
    const { tasks, seen } = seeing();
    await using _ = await stage.node({ tasks, queues: KINDS });
    for (const { exchange, key, headers, to } of SENT) {
      seen.length = 0;
      const options = { exchange, routing_key: key, headers };
      await stage.python.send('node.seen', [], {}, options);
      await until(`all that ${exchange} ${key} goes to`, () => seen.length === to.length);
      expect({ exchange, key, to: seen.map((job) => job.queue).sort() }).toEqual({ exchange, key, to });
    }
    // One at a time and each to all its queues: had any come to more, it would have been counted with the next.
    await until('nothing is left', async () => (await stage.unacked()) === 0);
  });

  toPython(
    EXCHANGES,
    'what Node sends to an exchange comes to the queues of Python that are bound for it',
    async () => {
      const path = join(folder, 'exchanges');
      await using _ = await stage.worker({ prelude: KINDS_IN_PYTHON });
      await using client = stage.client();
      let expected = 0;
      for (const { exchange, key, headers, to } of SENT) {
        await client.enqueue('py.write', { args: [path, `${exchange} ${key}`], exchange, routingKey: key, headers });
        expected += to.length;
      }
      await until('all have run', () => lines(path).length === expected);
      expect([...lines(path)].sort()).toEqual(
        SENT.flatMap(({ exchange, key, to }) => to.map(() => `${exchange} ${key}`)).sort(),
      );
    },
  );

  toPython(
    EXCHANGES,
    'a queue known by its name is reached through its exchange, with its own key or that of the call',
    async () => {
      const name = stage.queue('feeds');
      const taskQueues = [{ name, exchange: `x-${name}`, exchangeType: 'topic', routingKey: 'feed.#' }] as const;
      const prelude = `
from kombu import Exchange, Queue
app.conf.task_queues = (Queue('${name}', Exchange('x-${name}', 'topic'), routing_key='feed.#'),)
`;
      await using _ = await stage.worker({ prelude });
      await using client = stage.client({
        taskQueues,
        taskRoutes: { 'py.context': { queue: name, routingKey: 'feed.import' } },
      });
      const info = async (options: object): Promise<unknown> =>
        ((await (await client.enqueue('py.context', options)).get(WAIT)) as Record<string, unknown>)['delivery_info'];
      expect(await info({})).toMatchObject({ exchange: `x-${name}`, routing_key: 'feed.import' });
      expect(await info({ queue: name, routingKey: 'feed.delete' })).toMatchObject({ routing_key: 'feed.delete' });
      expect(await info({ queue: name })).toMatchObject({ exchange: `x-${name}` });
    },
  );

  both(BROADCAST, 'a broadcast is run by every worker, of both languages, whoever sends it', async () => {
    const [first, second] = [seeing(), seeing()];
    const news = { name: 'news', exchangeType: 'fanout' } as const;
    await using _one = await stage.node({ tasks: first.tasks, queues: [news] });
    await using _two = await stage.node({ tasks: second.tasks, queues: [news] });
    const path = join(folder, 'news');
    const prelude = `
from kombu.common import Broadcast
app.conf.task_queues = (Broadcast('news'),)

@app.task(name='node.seen')
def seen(text):
    with open(${JSON.stringify(path)}, 'a') as file:
        file.write(text + '\\n')
`;
    await using _three = await stage.worker({ prelude });
    await stage.run(
      `
from kombu.common import Broadcast
sender = other(task_queues=(Broadcast('news'),))
sender.send_task('node.seen', args=['from python'], queue='news')
`,
    );
    await using client = stage.client();
    await client.enqueue('node.seen', { args: ['from node'], exchange: 'news', routingKey: 'any' });
    await using knowing = stage.client({ taskQueues: [news] });
    await knowing.enqueue('node.seen', { args: ['by name'], queue: 'news' });
    const sent = ['by name', 'from node', 'from python'];
    await until('all have heard', () => first.seen.length + second.seen.length + lines(path).length === 9);
    for (const { seen } of [first, second]) expect(seen.map(({ args }) => args[0]).sort()).toEqual(sent);
    expect([...lines(path)].sort()).toEqual(sent);
    const copies = (await stage.rabbit.queues(stage.vhost)).filter(({ name }) => name.startsWith('bcast.'));
    expect(copies).toHaveLength(3);
    const [one] = copies;
    for (const { name: _name, ...copy } of copies) {
      expect(copy).toEqual({ ...one, name: undefined });
    }
  });

  toNode(DIRECT, 'Python reaches one Node worker by its name', async () => {
    const [first, second] = [seeing(), seeing()];
    const queues = [stage.queue('shared')];
    await using _one = await stage.node({ tasks: first.tasks, queues, workerDirect: true, nodename: 'one@here' });
    await using _two = await stage.node({ tasks: second.tasks, queues, workerDirect: true, nodename: 'two@here' });
    await stage.run(
      `
from celery.utils.nodenames import worker_direct
for n in range(5):
    app.send_task('node.seen', args=[n], queue=worker_direct('two@here'))
`,
    );
    await until('the second has them', () => second.seen.length === 5);
    expect(first.seen).toEqual([]);
  });

  toPython(DIRECT, 'Node reaches one Python worker by its name', async () => {
    await using worker = await stage.worker({ queues: [stage.queue('shared')], config: { worker_direct: true } });
    await using client = stage.client();
    const result = await client.enqueue('py.add', { args: [1, 2], exchange: 'C.dq2', routingKey: worker.hostname });
    expect(await result.get(WAIT)).toBe(3);
  });

  both('dead-letter arguments', 'what is refused goes on to the dead-letter exchange of its queue', async () => {
    const name = stage.queue('mortal');
    const dead = { name: `${name}.dead`, exchange: `${name}.dead`, exchangeType: 'fanout' } as const;
    const mortal = {
      ...{ name, exchange: name, routingKey: name },
      ...{ deadLetterExchange: dead.exchange, deadLetterRoutingKey: 'refused' },
    } as const;
    const declaration = `
from kombu import Exchange, Queue
app.conf.task_queues = (Queue('${name}', Exchange('${name}'), routing_key='${name}',
    queue_arguments={'x-dead-letter-exchange': '${dead.exchange}', 'x-dead-letter-routing-key': 'refused'}),)
`;
    await using client = stage.client({ taskQueues: [mortal, dead] });
    await client.enqueue('py.reject', { queue: dead.name });
    expect(await stage.rabbit.purge(dead.name, stage.vhost)).toBe(1);
    {
      const { tasks } = seeing();
      await using node = await stage.node({ tasks, queues: [mortal] });
      const poison = node.worker.once('job:poison');
      await stage.run(
        `app.send_task('node.add', args=[1], queue=kombu.Queue(queue, no_declare=True), serializer='pickle')`,
        {
          queue: name,
        },
      );
      expect((await poison).kept).toContain(dead.exchange);
    }
    {
      await using _ = await stage.worker({ prelude: `${declaration}\napp.conf.task_acks_late = True` });
      await client.enqueue('py.reject', { queue: name });
      await until('both are there', async () => (await stage.waiting(dead.name)) === 2);
    }
    const deaths = (await stage.rabbit.get(dead.name, stage.vhost)).map(({ fields, properties }) => [
      fields.routingKey,
      properties.headers?.['x-first-death-queue'],
      properties.headers?.['x-first-death-reason'],
    ]);
    expect(deaths).toEqual([
      ['refused', name, 'rejected'],
      ['refused', name, 'rejected'],
    ]);
  });

  toNode(CALLS, 'priority, headers, exchange and routing key of a call reach the handler', async () => {
    const { tasks, seen } = seeing();
    await using _ = await stage.node({ tasks, queues: KINDS });
    const headers = { x_tenant: { name: 'é', n: [1, 2.5, null, true, 2n ** 40n] } };
    const options = { exchange: 'k-orders', routing_key: 'order.eu.new', priority: 7, headers };
    await stage.python.send('node.seen', [1], {}, options);
    await until('it has run', () => seen.length === 1);
    const { wire } = (seen[0] as CeleryJob).request;
    expect(wire.headers['x_tenant']).toEqual({ name: 'é', n: [1, 2.5, null, true, 2 ** 40] });
    expect(wire.properties).toMatchObject({
      priority: 7,
      delivery_info: { exchange: 'k-orders', routing_key: 'order.eu.new' },
    });
  });

  toPython(
    CALLS,
    'priority, headers, exchange, routing key and expiration of a call are what Python reads',
    async () => {
      const queue = stage.queue('python');
      await using client = stage.client();
      const headers = { x_tenant: { name: 'é', n: [1, 2.5, null, true, 2n ** 40n] } };
      await client.enqueue('py.context', { queue, priority: 7, headers, expires: 60 });
      const [message] = await stage.rabbit.get(queue, stage.vhost);
      expect(Number(message?.properties.expiration)).toBeGreaterThan(59_000);
      expect(message?.properties).toMatchObject({ priority: 7, deliveryMode: 2, contentType: 'application/json' });
      await stage.rabbit.purge(queue, stage.vhost);
      await using _ = await stage.worker({ prelude: KINDS_IN_PYTHON });
      const call = { exchange: 'k-orders', routingKey: 'order.eu.new', priority: 7, headers, expires: 60 } as const;
      const context = (await (await client.enqueue('py.context', call)).get(WAIT)) as Record<string, unknown>;
      expect(context['delivery_info']).toMatchObject({
        exchange: 'k-orders',
        routing_key: 'order.eu.new',
        priority: 7,
      });
      expect(context['x_tenant']).toEqual({ name: 'é', n: [1, 2.5, null, true, 2 ** 40] });
    },
  );

  toPython(CALLS, 'what no queue takes is an error, and not lost without a word', async () => {
    await using client = stage.client({ taskQueues: KINDS, taskPublishRetry: false });
    await client.enqueue('py.add', { args: [1, 2], queue: 'k-topic', routingKey: 'order.eu.new' });
    expect(await stage.rabbit.purge('k-topic', stage.vhost)).toBe(1);
    await expect(
      client.enqueue('py.add', { args: [1, 2], exchange: 'k-orders', routingKey: 'nobody.listens' }),
    ).rejects.toThrow(UnroutableError);
  });

  toNode(
    CALLS,
    'of several links, one that no queue takes is set aside; the task and the others end as ever',
    async () => {
      const { tasks, seen } = seeing();
      await using node = await stage.node({ tasks, taskQueues: KINDS });
      const link = (name: string, options: Readonly<Record<string, unknown>>): PythonCanvas => ({
        task: 'node.seen',
        args: [name],
        options,
      });
      for (const [exchange, limit] of [
        ['k-orders', 1],
        // RabbitMQ closes the channel over an exchange that is not there; what was sent beside it is sent again.
        ['nowhere', 2],
      ] as const) {
        seen.length = 0;
        const { id } = await stage.python.apply({
          task: 'node.add',
          args: [1, 2],
          options: { queue: node.queue },
          link: [
            link('first', { queue: node.queue }),
            link('lost', { exchange, routing_key: 'nobody.listens' }),
            link('last', { queue: node.queue }),
          ],
        });
        expect(await stage.python.value(id)).toBe(3);
        const count = (name: string): number => seen.filter(({ args }) => args[1] === name).length;
        await until('the links have run', () => count('first') > 0 && count('last') > 0);
        await stage.nothingHeld();
        expect(await stage.waiting(node.queue)).toBe(0);
        for (const name of ['first', 'last']) expect(count(name)).toBeLessThanOrEqual(limit);
        expect(count('lost')).toBe(0);
        const kept = await stage.rabbit.get(`jobglot.quarantine.${exchange}`, stage.vhost);
        expect(kept.map(({ properties }) => properties.headers)).toEqual([
          expect.objectContaining({ task: 'node.seen', 'x-jobglot-code': 'unroutable' }),
        ]);
      }
    },
  );

  toNode('countdown and eta', 'more tasks that wait than may be sent ahead do not hold up the others', async () => {
    const queue = stage.queue('node');
    const count = 30;
    {
      await using _ = await stage.node({ queues: [queue], concurrency: 2, prefetchMultiplier: 1 });
      for (let n = 0; n < count; n++) await stage.python.send('node.add', [n, 1], {}, { queue, countdown: 600 });
      const id = await stage.python.send('node.add', [1, 2], {}, { queue });
      expect(await stage.python.value(id)).toBe(3);
      await until('all others are held', async () => (await stage.unacked()) === count);
    }
    await until('they are back', async () => (await stage.waiting(queue)) === count);
    await stage.rabbit.purge(queue, stage.vhost);
  });

  both('expires', 'what expires in its queue is dropped by RabbitMQ, and run by nobody', async () => {
    const { tasks, seen } = seeing();
    const [ours, theirs] = [stage.queue('node'), stage.queue('python')];
    await stage.python.send('node.seen', ['too late'], {}, { queue: ours, expires: 0.05 });
    await using client = stage.client();
    await client.enqueue('py.add', { args: [1, 2], queue: theirs, expires: 0.05 });
    for (const queue of [ours, theirs])
      await until('it is dropped', async () => (await stage.rabbit.messages(queue, stage.vhost)).ready === 0);
    await using _ = await stage.node({ tasks, queues: [ours] });
    await stage.python.send('node.seen', ['in time'], {}, { queue: ours, expires: 60 });
    await until('it has run', () => seen.length > 0);
    expect(seen.map(({ args }) => args)).toEqual([['in time']]);
  });

  toNode('retries', 'a retry has the time left as its expiration, and its other properties as they were', async () => {
    const queue = stage.queue('node');
    const tasks = new Tasks().handle(defineTask('node.again'), () => {
      throw new Retry({ delayMs: 600_000 });
    });
    const retried = async (options: object): Promise<Readonly<Record<string, unknown>>> => {
      await stage.python.send('node.again', [], {}, { queue, priority: 5, ...options });
      {
        await using node = await stage.node({ tasks, queues: [queue] });
        const settled = node.settled('node.again');
        await settled;
        await until('it waits for its time', async () => (await stage.unacked()) === 1);
      }
      await until('it is back', async () => (await stage.waiting(queue)) === 1);
      const [message] = await stage.rabbit.get(queue, stage.vhost);
      await stage.rabbit.purge(queue, stage.vhost);
      return message?.properties as unknown as Readonly<Record<string, unknown>>;
    };
    const plain = await retried({});
    expect(plain).toMatchObject({ priority: 5, deliveryMode: 2, expiration: undefined });
    // The task may run for a minute yet: its message may wait no longer.
    const expiring = await retried({ expires: 60 });
    expect(Number(expiring['expiration'])).toBeGreaterThan(10_000);
    expect(Number(expiring['expiration'])).toBeLessThan(60_000);
    // Time to live of the message alone: the retry waits as long as it must.
    const brief = await retried({ expiration: 30 });
    expect(brief).toMatchObject({ priority: 5, expiration: undefined });
  });

  both('queues declared by others', 'noDeclare takes a queue as it is; without it, a difference is told', async () => {
    const name = stage.queue('theirs');
    await stage.run(
      `
with app.connection_for_write() as connection:
    kombu.Queue(name, kombu.Exchange(name), routing_key=name, queue_arguments={'x-max-length': 7}).bind(connection.default_channel).declare()
`,
      { name },
    );
    await expect(stage.node({ queues: [name] })).rejects.toThrow(ConfigError);
    await expect(stage.node({ queues: [name] })).rejects.toThrow(/noDeclare/);
    await using _ = await stage.node({ queues: [{ name, noDeclare: true }] });
    await using client = stage.client({ taskQueues: [{ name, noDeclare: true }] });
    expect(await (await client.enqueue('node.add', { args: [1, 2], queue: name })).get(WAIT)).toBe(3);
    await using strict = stage.client({ taskPublishRetry: false });
    await expect(strict.enqueue('node.add', { args: [1, 2], queue: name })).rejects.toThrow(/noDeclare/);
    const other = await strict.enqueue('node.add', { args: [3, 4], exchange: name, routingKey: name });
    expect(await other.get(WAIT)).toBe(7);
    const missing = { name: stage.queue('missing'), noDeclare: true };
    await expect(stage.node({ queues: [missing] })).rejects.toThrow(/does not exist/);
    expect((await stage.rabbit.queues(stage.vhost)).map((queue) => queue.name)).not.toContain(missing.name);
  });
});
