import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { resque, type ResqueOptions } from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let server: RedisServer;
let redis: Redis;
const workers: Worker[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop({ timeoutMs: 0 });
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

interface Running {
  readonly worker: Worker;
  readonly ran: unknown[];
  /** How often an unknown task went back. */
  readonly returned: () => number;
}

async function startWorker(options: Partial<ResqueOptions> = {}): Promise<Running> {
  const ran: unknown[] = [];
  let returned = 0;
  const tasks = new Tasks().handle(defineTask('OkJob'), ({ args: [word] }) => void ran.push(word));
  const source = resque({ url: server.url, queues: ['default'], processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source] });
  worker.on('job:settled', ({ outcome }) => {
    if (outcome.kind === 'unknown') returned += 1;
  });
  workers.push(worker);
  await worker.start();
  return { worker, ran, returned: () => returned };
}

/** How many scripts the server has run. */
async function scripts(): Promise<number> {
  const stats = await redis.info('commandstats');
  const calls = [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].map(([, count]) => Number(count));
  return calls.reduce((sum, count) => sum + count, 0);
}

const waiting = (): Promise<readonly string[]> => redis.lrange('resque:queue:default', 0, -1);

async function claimed(): Promise<number> {
  let sum = 0;
  for (const key of await redis.keys('resque:jobglot:claims:*')) sum += await redis.hlen(key);
  return sum;
}

const THEIRS = Array.from({ length: 1_000 }, (_, number) => `{"class":"TheirJob","args":[${number}]}`);

test.each([{ concurrency: 1 }, { concurrency: 10, fetch: 'poll' as const }])(
  'ten jobs behind a thousand unknown ones run in their order, before any of those comes round: %j',
  async (options) => {
    const known = Array.from({ length: 10 }, (_, number) => `{"class":"OkJob","args":[${number}]}`);
    await redis.rpush('resque:queue:default', ...THEIRS, ...known);
    // A pause that does not end during the test: what has run by then was not held up by it.
    const { ran, returned, worker } = await startWorker({ ...options, unknownTaskDelayMs: 600_000 });
    await until('the ten have run', () => ran.length === 10);
    expect(ran).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(returned()).toBe(0);
    await until('the ten are settled', async () => (await claimed()) === 1_000);
    await worker.stop();
    expect(await waiting()).toEqual(THEIRS);
    expect(await redis.get('resque:stat:failed')).toBeNull();
  },
);

test('a thousand unknown jobs go round ever more slowly, and each round costs a claim and a write for each', async () => {
  await redis.sadd('resque:queues', 'default');
  await redis.rpush('resque:queue:default', ...THEIRS);
  const before = await scripts();
  const from = Date.now();
  const { returned, worker } = await startWorker({ unknownTaskDelayMs: 200 });
  await until('three seconds have passed', () => Date.now() > from + 3_000);
  // After pauses of 200, 400, 800 and 1,600 ms; with a pause that stays the same it were 15 times.
  expect(returned()).toBeLessThanOrEqual(4_000);
  expect(returned()).toBeGreaterThanOrEqual(1_000);
  expect((await scripts()) - before).toBeLessThan(2 * returned() + 1_200);
  await worker.stop();
  expect((await waiting()).toSorted()).toEqual(THEIRS.toSorted());
  expect(await claimed()).toBe(0);
});

test('an unknown job is rejected as Ruby rejects it: a NameError on the failure list', async () => {
  await redis.rpush('resque:queue:default', '{"class":"TheirJob","args":[1]}');
  await startWorker({ unknownTask: 'reject' });
  await until('it is on the list', async () => (await redis.llen('resque:failed')) === 1);
  expect(JSON.parse((await redis.lindex('resque:failed', 0)) ?? '')).toMatchObject({
    exception: 'NameError',
    error: 'uninitialized constant TheirJob',
    payload: { class: 'TheirJob', args: [1] },
    queue: 'default',
  });
  await until('it is counted', async () => (await redis.get('resque:stat:failed')) === '1');
  expect(await redis.get('resque:stat:processed')).toBe('1');
  expect(await claimed()).toBe(0);
});

test('an unknown job is held until the worker stops, or forwarded with the same bytes', async () => {
  const odd = '{ "args": [1.0], "class": "TheirJob", "x": null }';
  await redis.rpush('resque:queue:default', odd);
  const holding = await startWorker({ unknownTask: 'hold', unknownTaskDelayMs: 1 });
  await until('it is claimed', async () => (await claimed()) === 1);
  await holding.worker.stop();
  expect(await waiting()).toEqual([odd]);
  await startWorker({ unknownTask: { forward: 'others' } });
  await until('it is there', async () => (await redis.llen('resque:queue:others')) === 1);
  expect(await redis.lrange('resque:queue:others', 0, -1)).toEqual([odd]);
  expect(await redis.smembers('resque:queues')).toContain('others');
});
