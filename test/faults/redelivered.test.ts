import { describe, expect, test } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { startPythonWorker } from '../support/python.ts';
import { startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';
import { startProxy } from './proxy.ts';
import { consumed, holds, send } from './rabbit-scene.ts';
import { message, type Scene, startWorker } from './scene.ts';

/**
 * A worker dies between the result and the acknowledgement: the broker is silent when its handler ends, the result store is not. With
 * `workerDeduplicateSuccessfulTasks` the next worker does not run the task again; without, it does, as late ack says.
 */
const ID = 'done-1';
const OPTIONS = { acksLate: true, concurrency: 2, workerEnableRemoteControl: false, heartbeatInterval: false } as const;

describe('a worker that is killed after the result and before the ack', () => {
  test.each([
    { deduplicate: true, times: 'once' },
    { deduplicate: false, times: 'twice' },
  ])('over Redis: deduplicate $deduplicate, the handler runs $times', async ({ deduplicate }) => {
    await using redis = await startRedis();
    await using results = await startRedis();
    await using proxy = await startProxy(redis.port);
    const client = redis.client();
    const brokerTransportOptions = { visibilityTimeout: 2 };
    const options: CeleryOptions = { broker: proxy.url, backend: results.url, ...OPTIONS, brokerTransportOptions };
    await client.lpush('celery', message({ id: ID, task: 'gated' }));
    await dieBeforeAck(options, results, proxy);
    expect(await client.hlen('unacked')).toBe(1);
    await using next = await nextWorker({ ...options, broker: redis.url }, results, deduplicate);
    await until('its claim came back and is settled', async () => (await client.hlen('unacked')) === 0);
    expect(await client.llen('celery')).toBe(0);
    await expectRuns(results, next, deduplicate);
  });

  test.each([
    { deduplicate: true, times: 'once', type: 'classic' as const },
    { deduplicate: true, times: 'once', type: 'quorum' as const },
    { deduplicate: false, times: 'twice', type: 'classic' as const },
  ])(
    'over a $type queue of RabbitMQ: deduplicate $deduplicate, the handler runs $times',
    async ({ deduplicate, type }) => {
      await using rabbit = await startRabbit();
      await using results = await startRedis();
      await using proxy = await startProxy(rabbit.port);
      const queues = [{ name: 'again', queueType: type }];
      const broker = `amqp://guest:guest@127.0.0.1:${proxy.port}//`;
      const options: CeleryOptions = { broker, backend: results.url, queues, ...OPTIONS };
      await dieBeforeAck(options, results, proxy, async () => {
        await consumed(rabbit, 'again');
        await send(rabbit, 'again', { id: ID, task: 'gated' });
      });
      await holds(rabbit, 'again', 1, 0);
      await using next = await nextWorker({ ...options, broker: rabbit.url }, results, deduplicate);
      await holds(rabbit, 'again', 0, 0);
      await expectRuns(results, next, deduplicate);
    },
  );
});

test('what Python has stored counts here, and what is stored here counts in Python', async () => {
  await using redis = await startRedis();
  const client = redis.client();
  await using python = await startPythonWorker('5.6', {
    broker: redis.url,
    backend: redis.url,
    config: { task_acks_late: true, worker_deduplicate_successful_tasks: true },
    prelude: "@app.task(name='gated')\ndef gated():\n    return 'by Python'",
  });
  const options: CeleryOptions = { broker: redis.url, backend: redis.url, queues: ['node'], ...OPTIONS };
  await using node = await nextWorker(options, redis, true);
  const stored = (id: string): Promise<void> =>
    until(`${id} has a result`, async () => (await client.exists(`celery-task-meta-${id}`)) === 1);
  const again = (id: string, queue: string): string => {
    const info = { exchange: '', routing_key: queue, redelivered: true };
    return message({ id, task: 'gated', queue, headers: { redelivered: true }, properties: { delivery_info: info } });
  };
  await client.lpush('celery', message({ id: 'python-1', task: 'gated' }));
  await client.lpush('node', message({ id: 'node-1', task: 'gated', queue: 'node' }));
  await stored('python-1');
  await stored('node-1');
  await client.lpush('node', again('python-1', 'node'));
  await client.lpush('celery', again('node-1', 'celery'));
  await until('Node has left it alone', () =>
    node.lines.some(
      ({ message: words, fields }) => words.includes('does not run again') && fields['id'] === 'python-1',
    ),
  );
  await until('Python has left it alone', () =>
    /gated\[node-1\] Task already completed successfully/.test(python.log()),
  );
  await until('all is settled', async () => (await client.hlen('unacked')) === 0);
  expect(await client.hgetall('runs')).toEqual({ 'node-1': '1' });
});

test('a backend that cannot be asked is told of at the start', async () => {
  await using scene = await startWorker(
    { broker: 'memory://redelivered', acksLate: true, workerDeduplicateSuccessfulTasks: true },
    {},
  );
  expect(scene.lines.map(({ message: words }) => words)).toContainEqual(
    expect.stringContaining('workerDeduplicateSuccessfulTasks has no effect'),
  );
});

/** A worker runs the task; the broker falls silent, the task ends, its result is stored, and the worker is killed. */
async function dieBeforeAck(
  options: CeleryOptions,
  results: RedisServer,
  proxy: Awaited<ReturnType<typeof startProxy>>,
  ready: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const store = results.client();
  const worker = await startProgram('celery', options, results.url);
  await ready();
  await until('it runs', async () => (await store.hget('runs', ID)) === '1');
  proxy.goSilentForAll();
  await store.set('gate', 'open');
  await until('its result is stored', async () => (await store.exists(`celery-task-meta-${ID}`)) === 1);
  await worker.kill();
  // What the proxy has not passed on is lost with the connection.
  proxy.cut();
}

function nextWorker(options: CeleryOptions, results: RedisServer, deduplicate: boolean): Promise<Scene> {
  const store = results.client();
  return startWorker(
    { ...options, workerDeduplicateSuccessfulTasks: deduplicate },
    {
      gated: ({ id }) => store.hincrby('runs', id, 1),
    },
  );
}

async function expectRuns(results: RedisServer, next: Scene, deduplicate: boolean): Promise<void> {
  const store = results.client();
  await until('it is over', () => next.worker.running.length === 0);
  expect(await store.hget('runs', ID)).toBe(deduplicate ? '1' : '2');
  // A SUCCESS is never written over.
  expect(JSON.parse((await store.get(`celery-task-meta-${ID}`)) ?? '')).toMatchObject({ status: 'SUCCESS', result: 1 });
  const said = next.lines.filter(({ message: words }) => words.includes('does not run again'));
  expect(said.map(({ fields }) => fields['id'])).toEqual(deduplicate ? [ID] : []);
}
