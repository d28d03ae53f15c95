import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { resque, ResqueClient, type ResqueOptions } from '../../src/drivers/resque/index.ts';
import { Postpone } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let server: RedisServer;
let redis: Redis;
let client: ResqueClient;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
beforeEach(() => {
  client = new ResqueClient({ url: server.url, defaultQueue: 'default' });
  open.push(client);
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

interface TestWorker {
  readonly worker: Worker;
  /** What the middleware met, and what it let through. */
  readonly met: { readonly word: string; readonly attempt: number; readonly at: number }[];
  readonly ran: string[];
}

/** A worker whose middleware postpones each job named `later…`, as often as `times` says. */
async function startWorker(options: Partial<ResqueOptions>, delayMs: number, times = 1): Promise<TestWorker> {
  const met: TestWorker['met'] = [];
  const ran: string[] = [];
  const limit: Middleware = (job, next) => {
    const word = String(job.args[0]);
    met.push({ word, attempt: job.attempt, at: Date.now() });
    if (word.startsWith('later') && met.filter((one) => one.word === word).length <= times)
      throw new Postpone({ delayMs, reason: 'over the limit' });
    return next();
  };
  const tasks = new Tasks().handle(defineTask('WordJob'), ({ args: [word] }) => void ran.push(String(word)));
  const source = resque({ url: server.url, queues: ['default'], concurrency: 1, processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source], middleware: [limit] });
  open.push({ [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 0 }) });
  await worker.start();
  return { worker, met, ran };
}

const claims = async (): Promise<readonly string[]> => {
  const all: string[] = [];
  for (const key of await redis.keys('resque:jobglot:claims:*')) all.push(...(await redis.hvals(key)));
  return all;
};
const LATER = '{"class":"WordJob","args":["later"]}';

const MODES: readonly (readonly [string, Partial<ResqueOptions>])[] = [
  ['with a scheduler', { scheduler: true }],
  ['without a scheduler', {}],
  ['without a scheduler, polling', { fetch: 'poll', interval: 5 }],
];

test.each(MODES)('%s: a postponed job runs when its time has come, and is met twice', async (_, options) => {
  await client.enqueue('WordJob', { args: ['later'] });
  const { met, ran, worker } = await startWorker(options, 1_200);
  const postponed = worker.once('job:settled', ({ outcome }) => outcome.kind === 'postpone');
  await client.enqueue('WordJob', { args: ['now'] });
  expect((await postponed).disposition.state).toBe('postponed');
  await until('it has run', () => ran.includes('later'));
  expect(ran).toEqual(['now', 'later']);
  const [first, second] = met.filter(({ word }) => word === 'later');
  expect(met.filter(({ word }) => word === 'later')).toHaveLength(2);
  // A whole second of resque-scheduler is rounded up, never down.
  expect(second!.at - first!.at).toBeGreaterThanOrEqual(1_199);
  expect(second!.attempt).toBe(1);
  await until('both are counted', async () => (await redis.get('resque:stat:processed')) === '2');
  expect(await redis.get('resque:stat:failed')).toBeNull();
  expect(await redis.llen('resque:failed')).toBe(0);
  expect(await claims()).toEqual([]);
});

test.each(MODES)(
  '%s: a job postponed by a second each time is met at most twice in two seconds',
  async (_, options) => {
    await client.enqueue('WordJob', { args: ['later'] });
    const { met, worker } = await startWorker(options, 1_000, 1_000);
    await until('it was met', () => met.length > 0);
    const from = met[0]!.at;
    await until('two seconds have passed', () => Date.now() >= from + 2_000);
    expect(met.filter(({ at }) => at < from + 2_000).length).toBeLessThanOrEqual(2);
    await worker.stop();
  },
);

test('with a scheduler it waits as resque-scheduler keeps a delayed job, with the same bytes', async () => {
  await client.enqueue('WordJob', { args: ['later'] });
  const { worker } = await startWorker({ scheduler: { run: false } }, 60_000);
  const { disposition } = await worker.once('job:settled');
  const at = (disposition as { readonly at: Date }).at;
  const second = Math.ceil(at.getTime() / 1000);
  const item = '{"class":"WordJob","args":["later"],"queue":"default"}';
  expect(await redis.zrange('resque:delayed_queue_schedule', '0', '-1', 'WITHSCORES')).toEqual([
    `${second}`,
    `${second}`,
  ]);
  expect(await redis.lrange(`resque:delayed:${second}`, 0, -1)).toEqual([item]);
  expect(await redis.smembers(`resque:timestamps:${item}`)).toEqual([`delayed:${second}`]);
  expect(await redis.keys('resque:*resque-retry*')).toEqual([]);
  expect(await claims()).toEqual([]);
  // As the user of Ruby would take it back.
  expect(await client.removeDelayed('WordJob', { args: ['later'] })).toBe(1);
});

test('without a scheduler it stays claimed, and is back in its queue when the worker stops', async () => {
  await client.enqueue('WordJob', { args: ['later'] });
  const { worker } = await startWorker({}, 60_000);
  await worker.once('job:settled');
  expect(await claims()).toEqual([LATER]);
  expect(await redis.lrange('resque:queue:default', 0, -1)).toEqual([]);
  await until('its worker is shown idle', async () => (await redis.keys('resque:worker:*[^d]')).length === 0);
  await worker.stop();
  expect(await redis.lrange('resque:queue:default', 0, -1)).toEqual([LATER]);
  expect(await claims()).toEqual([]);
});

test('a process that dies while it keeps a postponed job loses nothing: another runs the job', async () => {
  await client.enqueue('WordJob', { args: ['later'] });
  const first = await startWorker({ deadAfter: 1 }, 60_000);
  await first.worker.once('job:settled');
  // As after a kill: the claims stay, and the sign of life is gone.
  const [key] = await redis.keys('resque:jobglot:claims:*');
  const dead = 'dead-000000';
  await redis.rename(key!, `resque:jobglot:claims:${dead}`);
  await redis.sadd('resque:jobglot:claimants', dead);
  const second = await startWorker({ rescueInterval: 0.05 }, 0, 0);
  await until('it has run', () => second.ran.includes('later'));
  await until('nothing is claimed', async () => (await claims()).length === 0);
});

test('while every worker is paused, no postponed job is run', async () => {
  await client.enqueue('WordJob', { args: ['later'] });
  const { worker, ran, met } = await startWorker({ interval: 0.05, fetch: 'poll' }, 300);
  await worker.once('job:settled');
  await client.pauseAll();
  const from = met[0]!.at;
  await until('its time has come', () => Date.now() > from + 600);
  expect(ran).toEqual([]);
  await client.resumeAll();
  await until('it has run', () => ran.length === 1);
});

test('a thousand postponed jobs hold up no other', { timeout: 60_000 }, async () => {
  const strange = Array.from({ length: 1_200 }, (_, number) => `{"class":"WordJob","args":["later-${number}"]}`);
  await redis.sadd('resque:queues', 'default');
  await redis.rpush('resque:queue:default', ...strange, '{"class":"WordJob","args":["now"]}');
  const { ran, worker } = await startWorker({ concurrency: 20 }, 60_000, 1_000_000);
  await until('the one behind them has run', () => ran.includes('now'));
  await worker.stop();
  expect((await redis.lrange('resque:queue:default', 0, -1)).toSorted()).toEqual(strange.toSorted());
});
