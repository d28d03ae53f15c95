import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { type CeleryClient, type CeleryOptions } from '../../src/drivers/celery/index.ts';
import { Retry } from '../../src/signals.ts';
import { defineTask, type Tasks } from '../../src/task.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { interopTasks } from './apps/tasks.ts';
import { Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

const WAIT = { timeoutMs: PATIENCE_MS };
const DELAYED = 'native delayed delivery';
const QUORUM = 'quorum queues';

/** Long enough that nobody waits for it: 2^9 + 64 + 16 + 8 seconds. */
const LONG = 600;
const LEVEL = 'celery_delayed_9';

/** Two workers' queues, each reached through a topic exchange; the first is the default. */
const PYTHON_QUEUES = `
from kombu import Exchange, Queue
quorum = {'x-queue-type': 'quorum'}
orders = Exchange('orders', 'topic')
app.conf.task_queues = (
    Queue('node', orders, routing_key='to.node', queue_arguments=quorum),
    Queue('python', orders, routing_key='to.python', queue_arguments=quorum),
    Queue('late', Exchange('late', 'direct'), routing_key='late', queue_arguments=quorum),
)
app.conf.task_default_queue = 'node'
`;
/** Celery sends a retry that waits to the default queue, whatever its task's own was. */
const PYTHON_WORKER = `${PYTHON_QUEUES}\napp.conf.task_default_queue = 'python'`;
const ORDERS = { exchange: 'orders', exchangeType: 'topic', queueType: 'quorum' } as const;
const NODE_QUEUES = [
  { name: 'node', routingKey: 'to.node', ...ORDERS },
  { name: 'python', routingKey: 'to.python', ...ORDERS },
  { name: 'late', exchange: 'late', routingKey: 'late', queueType: 'quorum' },
] as const satisfies CeleryOptions['taskQueues'];

describe.each(['5.6'] as const)('quorum queues with Celery %s', (version) => {
  const setting = { version, broker: 'amqp' } as const;
  const toNode = facts('amqp-delayed', setting, 'Python → Node');
  const toPython = facts('amqp-delayed', setting, 'Node → Python');
  let stage: Stage;
  let client: CeleryClient;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker: 'amqp' });
    await stage.python.run(PYTHON_QUEUES);
    client = stage.client({ taskQueues: NODE_QUEUES, taskDefaultQueue: 'python' });
  });
  afterEach(() => stage.nothingHeld());
  afterAll(async () => {
    await client.close();
    await stage[Symbol.asyncDispose]();
  });

  function node(tasks: Tasks = interopTasks()): ReturnType<Stage['node']> {
    return stage.node({ tasks, taskQueues: NODE_QUEUES, queues: ['node', 'late'] });
  }

  /** The one message that waits at a level: its way there, and when it is due. */
  async function waiting(
    level = LEVEL,
  ): Promise<{ readonly exchange: string; readonly key: string; readonly eta: string }> {
    await until(`a message waits in ${level}`, async () => (await stage.waiting(level)) === 1);
    const [message] = await stage.rabbit.get(level, stage.vhost);
    await stage.rabbit.purge(level, stage.vhost);
    return {
      exchange: message?.fields.exchange ?? '',
      key: message?.fields.routingKey ?? '',
      eta: String(message?.properties.headers?.['eta']),
    };
  }

  /** As LONG seconds, or a little less by the time it was sent, before this key. */
  function delayOf(key: string, rest: string): number {
    const digits = key.split('.').slice(0, 28);
    expect(key.slice(28 * 2)).toBe(rest);
    return Number.parseInt(digits.join(''), 2);
  }

  toNode(QUORUM, 'tasks of Python are run from a quorum queue, results and retries included', async () => {
    await using _ = await node();
    const ids = await Promise.all(
      Array.from({ length: 50 }, (_, n) => stage.python.send('node.add', [n, 1], {}, { queue: 'node' })),
    );
    for (const [n, id] of ids.entries()) expect(await stage.python.value(id)).toBe(n + 1);
    const retried = await stage.python.send('node.retry_twice', [0.05], {}, { queue: 'node' });
    expect(await stage.python.value(retried)).toBe(2);
  });

  toPython(QUORUM, 'tasks of Node are run from a quorum queue, results and retries included', async () => {
    await using _ = await stage.worker({ prelude: PYTHON_WORKER, queues: ['python'] });
    const results = await client.enqueueMany(
      'py.add',
      Array.from({ length: 50 }, (_, n) => ({ args: [n, 1] })),
    );
    expect(await Promise.all(results.map((result) => result.get(WAIT)))).toEqual(results.map((_, n) => n + 1));
    expect(await (await client.enqueue('py.retry_twice', { args: [1] })).get(WAIT)).toBe(2);
  });

  toNode(DELAYED, 'what Python sends with a countdown waits in RabbitMQ, and Node runs it when it is due', async () => {
    const ran: number[] = [];
    const tasks = interopTasks().handle(defineTask('node.when'), () => void ran.push(Date.now()));
    await using worker = await node(tasks);
    await stage.python.send('node.when', [], {}, { queue: 'node', countdown: LONG });
    const { key } = await waiting();
    expect(delayOf(key, 'to.node')).toBe(LONG);
    expect(await stage.unacked()).toBe(0);
    const before = Date.now();
    const settled = worker.settled('node.when');
    const id = await stage.python.send('node.when', [], {}, { queue: 'node', countdown: 2.5 });
    await settled;
    expect(ran).toHaveLength(1);
    expect((ran[0] as number) - before).toBeGreaterThanOrEqual(2_450);
    expect(await stage.python.value(id)).toBeNull();
  });

  toPython(DELAYED, 'what Node sends with a countdown lies where that of Python does', async () => {
    await using _ = await node();
    await stage.python.send('py.add', [1, 2], {}, { queue: 'python', countdown: LONG });
    const theirs = await waiting();
    await client.enqueue('py.add', { args: [1, 2], countdown: LONG });
    const ours = await waiting();
    expect(ours.exchange).toBe(theirs.exchange);
    expect(LONG - delayOf(ours.key, 'to.python')).toBeLessThanOrEqual(1);
    expect(delayOf(theirs.key, 'to.python')).toBe(LONG);
    expect(Math.abs(Date.parse(ours.eta) - Date.now() - LONG * 1000)).toBeLessThan(30_000);
  });

  toPython(
    DELAYED,
    'what Node sends with a countdown is run by Python when it is due, under a second too',
    async () => {
      await using _ = await stage.worker({ prelude: PYTHON_WORKER, queues: ['python'] });
      const before = Date.now();
      const [soon, late] = [
        await client.enqueue('py.value', { args: ['__import__("time").time()'], countdown: 0.4 }),
        await client.enqueue('py.context', { countdown: 2.5 }),
      ];
      expect(((await soon.get(WAIT)) as number) * 1000 - before).toBeGreaterThanOrEqual(390);
      const context = (await late.get(WAIT)) as Readonly<Record<string, unknown>>;
      expect(Date.now() - before).toBeGreaterThanOrEqual(2_450);
      expect(context['delivery_info']).toMatchObject({ routing_key: expect.stringMatching(/\.to\.python$/) });
    },
  );

  toPython(DELAYED, 'an exchange and a key of the call are kept over the wait', async () => {
    await using _ = await stage.worker({ prelude: PYTHON_WORKER, queues: ['python'] });
    const result = await client.enqueue('py.add', {
      args: [1, 2],
      exchange: 'orders',
      routingKey: 'to.python',
      countdown: 1.2,
    });
    expect(await result.get(WAIT)).toBe(3);
  });

  toNode(
    DELAYED,
    'a retry of Node waits in RabbitMQ too, whether its task had waited there before or not',
    async () => {
      const tasks = interopTasks().handle(defineTask('node.later'), () => {
        throw new Retry({ delayMs: LONG * 1000 });
      });
      await using worker = await node(tasks);
      for (const options of [{}, { countdown: 1 }, { countdown: 2 }]) {
        const settled = worker.settled('node.later');
        await stage.python.send('node.later', [], {}, { queue: 'node', ...options });
        await settled;
        const { key } = await waiting();
        expect(LONG - delayOf(key, 'to.node')).toBeLessThanOrEqual(1);
      }
    },
  );

  toNode(DELAYED, 'to a direct exchange, a task waits in the worker, as in Celery', async () => {
    {
      await using _ = await node();
      await stage.python.send('node.add', [1, 2], {}, { queue: 'late', countdown: LONG });
      await until('Node holds it', async () => (await stage.unacked()) === 1);
    }
    await until('it is back', async () => (await stage.waiting('late')) === 1);
    await client.enqueue('node.add', { args: [1, 2], queue: 'late', countdown: LONG });
    await until('it is beside the other', async () => (await stage.waiting('late')) === 2);
    await stage.rabbit.purge('late', stage.vhost);
  });

  toNode(
    QUORUM,
    'more tasks that wait than may be sent ahead do not hold up the others, where each consumer has its count',
    async () => {
      const queue = 'late';
      const count = 30;
      {
        await using _ = await stage.node({
          taskQueues: NODE_QUEUES,
          queues: [queue],
          concurrency: 2,
          prefetchMultiplier: 1,
        });
        for (let n = 0; n < count; n++) await stage.python.send('node.add', [n, 1], {}, { queue, countdown: 600 });
        const id = await stage.python.send('node.add', [1, 2], {}, { queue });
        expect(await stage.python.value(id)).toBe(3);
        await until('all others are held', async () => (await stage.unacked()) === count);
      }
      await until('they are back', async () => (await stage.waiting(queue)) === count);
      await stage.rabbit.purge(queue, stage.vhost);
    },
  );
});
