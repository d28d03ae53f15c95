import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { resque, type ResqueOptions, ResqueScheduler } from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';
import { type Proxy, startProxy } from './proxy.ts';

let server: RedisServer;
let redis: Redis;
let proxy: Proxy;
const workers: Worker[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client({ maxRetriesPerRequest: null });
  proxy = await startProxy(server.port);
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop({ timeoutMs: 0 });
  await redis.flushall();
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function startWorker(options: Partial<ResqueOptions> = {}): Promise<Map<number, number>> {
  const runs = new Map<number, number>();
  const count = (number: number): void => void runs.set(number, (runs.get(number) ?? 0) + 1);
  const tasks = new Tasks()
    .handle(defineTask<(number: number) => void>('OkJob'), async ({ args: [number] }) => {
      count(number);
      await sleep(1);
    })
    .handle(defineTask<(number: number) => void>('FailJob'), ({ args: [number] }) => {
      count(number);
      throw new TypeError(`job ${number}`);
    });
  const source = resque({ url: proxy.url, queues: ['*'], concurrency: 5, processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source] });
  workers.push(worker);
  await worker.start();
  return runs;
}

const idle = (): Promise<void> =>
  until('nothing waits and nothing is claimed', 60_000, async () => {
    const claims = await redis.keys('resque:jobglot:claims:*');
    return claims.length === 0 && (await redis.llen('resque:queue:default')) === 0;
  });

async function push(className: string, numbers: readonly number[]): Promise<void> {
  await redis.sadd('resque:queues', 'default');
  await redis.rpush('resque:queue:default', ...numbers.map((number) => `{"class":"${className}","args":[${number}]}`));
}

test('the answer to a claim is lost: the job runs all the same, once', async () => {
  const runs = await startWorker();
  const dropped = proxy.dropAnswerWith('"args":[4711]');
  await push('OkJob', [4711]);
  await dropped;
  await until('it has run', () => runs.get(4711) === 1);
  await idle();
  expect(runs.get(4711)).toBe(1);
});

test('connections are cut twenty times: no job is lost, and each failure is recorded once', async () => {
  const runs = await startWorker();
  const fine = Array.from({ length: 1_500 }, (_, number) => number);
  const failing = Array.from({ length: 500 }, (_, number) => 10_000 + number);
  for (let at = 0; at < 500; at += 50) {
    await push('OkJob', fine.slice(at * 3, at * 3 + 150));
    await push('FailJob', failing.slice(at, at + 50));
    proxy.cut();
    await sleep(20);
    proxy.cut();
  }
  await until('all have run', 60_000, () => runs.size === 2_000);
  await idle();
  expect([...runs.keys()].sort((a, b) => a - b)).toEqual([...fine, ...failing]);
  const failed = (await redis.lrange('resque:failed', 0, -1)).map(
    (text) => (JSON.parse(text) as { payload: { args: [number] } }).payload.args[0],
  );
  expect(failed.toSorted((a, b) => a - b)).toEqual(failing);
  // What was shown of them is gone too.
  await until('nobody is shown at work', async () =>
    (await redis.keys('resque:worker:*')).every((key) => key.endsWith(':started')),
  );
});

test('two schedulers, connections cut and the lead passed on under them: each delayed job is moved once', async () => {
  const lock = 'resque:resque:resque_scheduler_master_lock';
  const COUNT = 3_000;
  const numbers = Array.from({ length: COUNT }, (_, number) => number);
  for (const number of numbers) {
    const second = 1 + (number % 4);
    const item = `{"class":"OkJob","args":[${number}],"queue":"default"}`;
    void redis.rpush(`resque:delayed:${second}`, item);
    void redis.sadd(`resque:timestamps:${item}`, `delayed:${second}`);
  }
  await redis.zadd('resque:delayed_queue_schedule', 1, '1', 2, '2', 3, '3', 4, '4');
  const stop = new AbortController();
  const running = [1, 2].map(() => new ResqueScheduler({ url: proxy.url, interval: 0.05 }).run(stop.signal));
  const moved = (): Promise<number> => redis.llen('resque:queue:default');
  for (const share of [0.1, 0.3, 0.5, 0.7]) {
    await until('some are moved', async () => (await moved()) >= share * COUNT);
    proxy.cut();
    // As if its time were up: both may move the same second now.
    await redis.del(lock);
  }
  await until('all are moved', async () => (await redis.zcard('resque:delayed_queue_schedule')) === 0);
  stop.abort();
  await Promise.all(running);
  const texts = await redis.lrange('resque:queue:default', 0, -1);
  const seen = texts.map((text) => (JSON.parse(text) as { args: [number] }).args[0]);
  expect(seen.toSorted((a, b) => a - b)).toEqual(numbers);
  expect(await redis.keys('resque:timestamps:*')).toEqual([]);
  expect(await redis.keys('resque:delayed:*')).toEqual([]);
  expect(await redis.exists(lock)).toBe(0);
});

test(
  'a process that stood still for longer than it may is taken for dead; when it goes on, it undoes nothing',
  { timeout: 120_000 },
  async () => {
    const numbers = Array.from({ length: 60 }, (_, number) => number);
    await redis.rpush(
      'resque:queue:default',
      ...numbers.map((number) => `{"class":"CountJob","args":[${number},true,200]}`),
    );
    const options: ResqueOptions = {
      url: server.url,
      queues: ['default'],
      concurrency: 10,
      ...{ deadAfter: 1, rescueInterval: 0.2, poisonLimit: 10 },
    };
    const first = await startProgram('resque', options, options.url);
    await until('some have run', async () => (await redis.hlen('runs')) >= 10);
    first.child.kill('SIGSTOP');
    const second = await startProgram('resque', options, options.url);
    await until('all have run', 60_000, async () => (await redis.hlen('runs')) === numbers.length);
    first.child.kill('SIGCONT');
    await until('it is on the list again', async () => (await redis.scard('resque:workers')) === 20);
    await idle();
    for (const { child } of [first, second]) child.kill('SIGTERM');
    await Promise.all([first.gone, second.gone]);
    const failed = (await redis.lrange('resque:failed', 0, -1)).map(
      (text) => (JSON.parse(text) as { payload: { args: [number] } }).payload.args[0],
    );
    // Recorded once each, though some ran twice.
    expect(failed.toSorted((a, b) => a - b)).toEqual(numbers);
    expect(await redis.smembers('resque:workers')).toEqual([]);
    expect(await redis.smembers('resque:jobglot:claimants')).toEqual([]);
  },
);
