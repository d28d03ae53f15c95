import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { ClientEvents, ClientMiddleware } from '../../src/client.ts';
import { rq, RqClient, type RqClientOptions } from '../../src/drivers/rq/index.ts';
import { defineTask, Tasks, Worker } from '../../src/index.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

/** What runs around sending, and what the store holds afterwards. */

const add = defineTask<(x: number, y: number) => number>('jobs.add');
const named = defineTask('jobs.named');

let server: RedisServer;
let raw: Redis;
const open: RqClient[] = [];

beforeAll(async () => {
  server = await startRedis();
  raw = server.client();
});
beforeEach(async () => {
  await raw.flushall();
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

function clientOf(...middleware: readonly ClientMiddleware[]): RqClient {
  return clientWith({ middleware });
}
function clientWith(options: Partial<RqClientOptions>): RqClient {
  const client = new RqClient({ url: server.url, ...options });
  open.push(client);
  return client;
}

const tracing: ClientMiddleware = (envelope, next) => {
  envelope.headers['traceparent'] = '00-1-2-01';
  return next();
};
const waiting = (queue: string): Promise<readonly string[]> => raw.lrange(`rq:queue:${queue}`, 0, -1);

it('a middleware sees a call in neutral words, and what it makes of it is what a worker gets', async () => {
  const seen: unknown[] = [];
  const client = clientOf((envelope, next) => {
    seen.push({ ...envelope, headers: { ...envelope.headers }, options: { ...envelope.options } });
    envelope.task = 'jobs.named';
    envelope.args = [1, 2];
    envelope.kwargs = { by: 'middleware' };
    envelope.queue = 'other';
    envelope.headers['tenant'] = 'b';
    envelope.options['description'] = 'changed';
    return next();
  });
  const job = await client.enqueue(add, { args: [3, 4], jobId: 'an-id', meta: { by: 'me' }, jobTimeout: 60 });
  expect(job.id).toBe('an-id');
  expect(seen).toEqual([
    {
      system: 'rq',
      id: 'an-id',
      task: 'jobs.add',
      args: [3, 4],
      kwargs: {},
      queue: undefined,
      at: undefined,
      headers: { by: 'me' },
      options: { jobTimeout: 60 },
    },
  ]);
  expect(await waiting('other')).toEqual(['an-id']);
  expect(await raw.hmget('rq:job:an-id', 'description', 'timeout')).toEqual(['changed', '60']);
  const tasks = new Tasks().handle(named, ({ args, kwargs, headers }) => ({ args, kwargs, headers }));
  await using worker = new Worker({ tasks, sources: [rq({ url: server.url, queues: ['other'] })] });
  await worker.start();
  expect(await job.get({ timeoutMs: 60_000 })).toEqual({
    args: [1, 2],
    kwargs: { by: 'middleware' },
    headers: { by: 'me', tenant: 'b' },
  });
});

it('the first middleware is the outermost', async () => {
  const order: string[] = [];
  const layer =
    (name: string): ClientMiddleware =>
    async ({ id }, next) => {
      order.push(`${name} in ${id}`);
      const receipt = await next();
      order.push(`${name} out`);
      return receipt;
    };
  await clientOf(layer('a')).use(layer('b')).enqueue('f', { jobId: '1' });
  expect(order).toEqual(['a in 1', 'b in 1', 'b out', 'a out']);
});

it('a middleware that does not call next sends nothing', async () => {
  const client = clientOf(() => undefined);
  const told: unknown[] = [];
  client.events.on('job:enqueued', (event) => told.push(event));
  await expect(client.enqueue('f')).rejects.toMatchObject({ name: 'NotEnqueuedError', code: 'not-enqueued' });
  await expect(client.enqueueMany('f', [{}, {}])).rejects.toMatchObject({ code: 'not-enqueued' });
  await client.open();
  expect(await raw.keys('rq:*')).toEqual([]);
  expect(told).toEqual([]);
});

it('a middleware delays a job', async () => {
  const at = new Date(Date.now() + 3_600_000);
  const client = clientOf((envelope, next) => {
    envelope.at = at;
    return next();
  });
  const job = await client.enqueue('f');
  expect(job.registered).toBe('scheduled');
  expect(await raw.zrange('rq:scheduled:default', '0', '-1')).toEqual([job.id]);
  expect(await waiting('default')).toEqual([]);
});

it('meta that a middleware adds stands beside keys that are no texts', async () => {
  const meta = new Map<unknown, unknown>([
    [7, 'seven'],
    ['own', 1],
  ]) as ReadonlyMap<string, unknown>;
  const job = await clientOf(tracing).enqueue('f', { meta });
  const [record] = await clientWith({}).jobs([job.id]);
  expect(record?.meta()).toEqual(
    new Map<unknown, unknown>([
      [7, 'seven'],
      ['own', 1],
      ['traceparent', '00-1-2-01'],
    ]),
  );
});

it('each of many jobs goes through middleware, in batches and in their order', async () => {
  let sent = 0;
  const client = clientOf(tracing, (envelope, next) => {
    envelope.args = [++sent];
    return next();
  });
  const jobs = await client.enqueueMany(
    'f',
    Array.from({ length: 7 }, () => ({})),
    { batchSize: 3 },
  );
  expect(await waiting('default')).toEqual(jobs.map(({ id }) => id));
  const records = await client.jobs(jobs.map(({ id }) => id));
  expect(records.map((record) => record.meta())).toEqual(jobs.map(() => ({ traceparent: '00-1-2-01' })));
  await expect(client.enqueueMany('f', [{}], { batchSize: 0 })).rejects.toThrow(
    'rq: enqueueMany: batchSize must be a whole number, 1 or more, not 0',
  );
});

it('a job that depends on another is sent after it, also where a middleware holds the other back', async () => {
  const order: (string | undefined)[] = [];
  let release = (): void => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const client = clientOf(async ({ id }, next) => {
    order.push(id);
    if (id === 'first') await held;
    return next();
  });
  const first = client.prepare('f', { jobId: 'first' });
  const second = client.prepare('f', { jobId: 'second', dependsOn: first });
  const other = client.prepare('f', { jobId: 'other' });
  const sending = client.enqueuePrepared([second, first, other]);
  setImmediate(() => release());
  expect((await sending).map(({ id, registered }) => [id, registered])).toEqual([
    ['second', 'deferred'],
    ['first', 'queued'],
    ['other', 'queued'],
  ]);
  expect(order).toEqual(['first', 'other', 'second']);
});

it('a job is not sent where a middleware has refused one that it depends on', async () => {
  for (const refused of [undefined, 'a receipt']) {
    const client = clientOf((envelope, next) => (envelope.id === 'first' ? refused : next()));
    const first = client.prepare('f', { jobId: 'first' });
    const prepared = [first, client.prepare('g', { jobId: 'second', dependsOn: first })];
    await expect(client.enqueuePrepared(prepared)).rejects.toThrow("rq: 'f' was not enqueued");
  }
  expect(await raw.keys('rq:job:*')).toEqual([]);
});

it('each job that Redis has taken is told, on the client and on diagnostics_channel', async () => {
  const told: ClientEvents['job:enqueued'][] = [];
  const published: unknown[] = [];
  const listener = (event: unknown): void => void published.push(event);
  const client = clientWith({});
  client.events.on('job:enqueued', (event) => told.push(event));
  subscribe('jobglot:job:enqueued', listener);
  try {
    const at = new Date(Date.now() + 60_000);
    await client.enqueue(add, { args: [1, 2], jobId: 'a' });
    await client.enqueueMany('f', [
      { jobId: 'b', at, queue: 'q' },
      { jobId: 'a', unique: true },
    ]);
    await expect(client.enqueue('f', { jobId: 'a', unique: true })).rejects.toMatchObject({ code: 'duplicate-job' });
    const [now, later] = [
      { system: 'rq', id: 'a', task: 'jobs.add', queue: 'default', at: undefined },
      { system: 'rq', id: 'b', task: 'f', queue: 'q', at },
    ];
    expect(told).toEqual([now, later]);
    expect(published).toEqual([now, later]);
  } finally {
    unsubscribe('jobglot:job:enqueued', listener);
  }
});
