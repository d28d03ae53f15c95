import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { ClientMiddleware } from '../../src/client.ts';
import { enqueueHooks, resque, ResqueClient, type ResqueClientOptions } from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let server: RedisServer;
let redis: Redis;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

function clientOf(options: Partial<ResqueClientOptions> = {}): ResqueClient {
  const client = new ResqueClient({ url: server.url, defaultQueue: 'default', ...options });
  open.push(client);
  return client;
}

const queued = (queue = 'default'): Promise<readonly string[]> => redis.lrange(`resque:queue:${queue}`, 0, -1);

test('middleware changes, refuses and delays a job, the first one outermost, and hooks see what is sent', async () => {
  const log: string[] = [];
  const tag =
    (name: string): ClientMiddleware =>
    async (envelope, next) => {
      log.push(`${name} ${envelope.task} ${JSON.stringify(envelope.args)}`);
      const receipt = await next();
      log.push(`${name} ${String(receipt)}`);
      return receipt;
    };
  const client = clientOf({
    middleware: [tag('outer')],
    hooks: {
      A: { beforeEnqueue: (...args) => args[0] !== 'no', afterSchedule: () => void log.push('scheduled') },
    },
  })
    .use((envelope, next) => {
      if (envelope.args[0] === 'drop') return undefined;
      if (envelope.args[0] === 'move') envelope.queue = 'elsewhere';
      if (envelope.args[0] === 'wait') envelope.at = new Date(4_000_000_000_000);
      envelope.headers['trace'] = '1-2';
      return next();
    })
    .use(tag('inner'));
  expect(await client.enqueue('A', { args: ['yes'] })).toBe(true);
  expect(await client.enqueue('A', { args: ['no'] })).toBe(false);
  expect(log).toEqual([
    ...['outer A ["yes"]', 'inner A ["yes"]', 'inner true', 'outer true'],
    ...['outer A ["no"]', 'inner A ["no"]', 'inner false', 'outer false'],
  ]);
  await expect(client.enqueue('A', { args: ['drop'] })).rejects.toThrow(
    "resque: 'A' was not enqueued: a client middleware did not call next()",
  );
  await client.enqueue('A', { args: ['move'] });
  await client.enqueue('A', { args: ['wait'] });
  expect(await queued()).toEqual(['{"class":"A","args":["yes"],"trace":"1-2"}']);
  expect(await queued('elsewhere')).toEqual(['{"class":"A","args":["move"],"trace":"1-2"}']);
  expect(await redis.lrange('resque:delayed:4000000000', 0, -1)).toEqual([
    '{"class":"A","args":["wait"],"trace":"1-2","queue":"default"}',
  ]);
  expect(log.at(-3)).toBe('scheduled');
});

test('hooks of a class are middleware like any other', async () => {
  const client = clientOf().use(enqueueHooks({ A: { beforeEnqueue: () => false } }));
  expect(await client.enqueue('A')).toBe(false);
  expect(await client.enqueue('B')).toBe(true);
  expect(await queued()).toEqual(['{"class":"B","args":[]}']);
});

test('performLater and performAllLater go through middleware and hooks too', async () => {
  const client = clientOf({ hooks: { ShipJob: { beforeEnqueue: (number) => number !== 2 } } }).use((envelope, next) => {
    expect(envelope).toMatchObject({ system: 'resque', task: 'ShipJob', options: { locale: 'fr' } });
    envelope.headers['__otel_headers'] = { traceparent: '00-1' };
    return next();
  });
  const jobId = '4f9d6a6e-7a43-4cf0-9e1c-2f1d7a6b5c01';
  expect(await client.performLater('ShipJob', { args: [1], jobId, locale: 'fr' })).toBe(jobId);
  const ids = await client.performAllLater(
    'ShipJob',
    [2, 3].map((number) => ({ args: [number], locale: 'fr' })),
  );
  expect(ids).toEqual([undefined, expect.any(String)]);
  const sent = (await queued()).map((text) => (JSON.parse(text) as { args: [Record<string, unknown>] }).args[0]);
  expect(sent).toMatchObject([
    { job_id: jobId, arguments: [1], __otel_headers: { traceparent: '00-1' } },
    { job_id: ids[1], arguments: [3], __otel_headers: { traceparent: '00-1' } },
  ]);
});

test('job:enqueued says what Redis has, and nothing of what was refused', async () => {
  const client = clientOf({ hooks: { No: { beforeEnqueue: () => false } } });
  const events: unknown[] = [];
  client.events.on('job:enqueued', (event) => events.push(event));
  await client.enqueue('A', { id: 'one' });
  await client.enqueue('No');
  const at = new Date(4_000_000_000_000);
  await client.enqueue('A', { at, queue: 'late' });
  const id = await client.performLater('ShipJob');
  expect(events).toEqual([
    { system: 'resque', id: 'one', task: 'A', queue: 'default', at: undefined },
    { system: 'resque', id: undefined, task: 'A', queue: 'late', at },
    { system: 'resque', id, task: 'ShipJob', queue: 'default', at: undefined },
  ]);
});

test('enqueueMany sends in few trips, with a receipt for each call in its order', async () => {
  const client = clientOf();
  await client.size('default');
  const before = (await redis.info('commandstats')).match(/cmdstat_rpush:calls=(\d+)/)?.[1] ?? '0';
  const calls = Array.from({ length: 2_500 }, (_, number) => ({ args: [number] }));
  expect(await client.enqueueMany('A', calls)).toEqual(calls.map(() => true));
  const after = (await redis.info('commandstats')).match(/cmdstat_rpush:calls=(\d+)/)?.[1] ?? '0';
  expect(Number(after) - Number(before)).toBe(3);
  expect((await queued()).map((text) => (JSON.parse(text) as { args: number[] }).args[0])).toEqual(
    calls.map((_, at) => at),
  );
  const hooked = clientOf({ hooks: { B: { beforeEnqueue: (number) => number !== 1 } } });
  expect(
    await hooked.enqueueMany('B', [{ args: [0] }, { args: [1] }, { args: [2], in: 3_600 }], { batchSize: 2 }),
  ).toEqual([true, false, true]);
  await expect(client.enqueueMany('A', [{ args: [1] }, { args: 2 as never }])).rejects.toThrow('args must be a list');
  await expect(client.enqueueMany('A', [], { batchSize: 0 })).rejects.toThrow('batchSize must be a whole number');
  expect(await queued()).toHaveLength(2_501);
});

test('headers come to the handler, now and delayed, and survive Ruby', async () => {
  const client = clientOf();
  const seen: unknown[] = [];
  const tasks = new Tasks().handle(defineTask('A'), ({ headers }) => void seen.push(headers));
  const source = resque({ url: server.url, queues: ['default'], scheduler: true, processTitle: false });
  const worker = new Worker({ tasks, sources: [source] });
  open.push({ [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 0 }) });
  await worker.start();
  await client.enqueue('A', { headers: { tenant: 7, trace: { id: 'é' } } });
  await until('one has run', () => seen.length === 1);
  await client.enqueue('A', { headers: { tenant: 8 }, id: 'x', in: 1 });
  await until('two have run', () => seen.length === 2);
  await client.enqueue('A');
  await until('three have run', () => seen.length === 3);
  expect(seen).toEqual([{ tenant: 7, trace: { id: 'é' } }, { tenant: 8 }, undefined]);
  await expect(client.enqueue('A', { headers: { queue: 'x' } })).rejects.toThrow("a header cannot be named 'queue'");
  await expect(client.enqueue('A', { headers: { at: new Date() } })).rejects.toThrow('headers.at');
});
