import { expect, test } from 'vitest';
import { sidekiq, SidekiqClient } from '../../src/drivers/sidekiq/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { startRedis, until } from '../support/redis.ts';
import { startProgram } from './program.ts';
import { startProxy } from './proxy.ts';

const QUICK = { heartbeatInterval: 0.3, deadAfter: 1, rescueInterval: 0.3, poisonLimit: 100 };

test('a process that stands still until others have its jobs: each runs, and it goes on', async () => {
  await using redis = await startRedis();
  const store = redis.client({ maxRetriesPerRequest: null });
  await using client = new SidekiqClient({ url: redis.url });
  const options = { url: redis.url, concurrency: 5, ...QUICK };
  const first = await startProgram('sidekiq', options, options.url);
  await client.enqueueMany(
    'CountJob',
    Array.from({ length: 200 }, () => ({ args: [30] })),
  );
  await until('some are done', async () => (await store.hlen('count:node')) >= 20);
  first.child.kill('SIGSTOP');
  const second = await startProgram('sidekiq', options, options.url);
  await until('all are done, those it held too', async () => (await store.hlen('count:node')) === 200);
  first.child.kill('SIGCONT');
  await client.enqueueMany(
    'CountJob',
    Array.from({ length: 100 }, () => ({ args: [30] })),
  );
  await until('all of the next are done', async () => (await store.hlen('count:node')) === 300);
  await until('nothing is claimed', async () => (await store.keys('jobglot:sidekiq:claims:*')).length === 0);
  const runs = (await store.hvals('count:node')).map(Number);
  // Nobody can take back what a process was in the midst of: its slots, and what it held for them.
  expect(runs.filter((count) => count > 1).length).toBeLessThanOrEqual(15);
  expect(runs.every((count) => count <= 2)).toBe(true);

  first.child.kill('SIGTERM');
  second.child.kill('SIGTERM');
  await Promise.all([first.gone, second.gone]);
  expect([first.child.exitCode, second.child.exitCode]).toEqual([0, 0]);
  expect(await store.scard('jobglot:sidekiq:claimants')).toBe(0);
});

test('Redis that stands still again and again: nothing is lost, nothing runs twice, each retry is written once', async () => {
  await using redis = await startRedis();
  const store = redis.client({ maxRetriesPerRequest: null });
  await using client = new SidekiqClient({ url: redis.url });
  const ran = new Map<string, number>();
  const tasks = new Tasks().handle(defineTask<(number: number) => void>('Tenth'), async ({ id, args: [number] }) => {
    await pause(5);
    ran.set(id, (ran.get(id) ?? 0) + 1);
    if (number % 10 === 0) throw new Error('a tenth');
  });
  const worker = new Worker({ tasks, sources: [sidekiq({ url: redis.url, heartbeatInterval: 0.2 })] });
  await worker.start();
  await client.enqueueMany(
    'Tenth',
    Array.from({ length: 1_000 }, (_, index) => ({ args: [index] })),
  );
  for (const count of [100, 300, 600]) {
    await until(`${count} ran`, () => ran.size >= count);
    redis.freeze();
    await pause(1_000);
    redis.thaw();
  }
  await until('nothing waits, nothing is claimed', async () => {
    const claims = await store.keys('jobglot:sidekiq:claims:*');
    return claims.length === 0 && (await store.llen('queue:default')) === 0;
  });
  expect(ran.size).toBe(1_000);
  expect([...ran.values()].every((count) => count === 1)).toBe(true);
  expect(await store.zcard('retry')).toBe(100);
  await worker.stop();
});

test('what is due is moved once, by however many processes look', async () => {
  await using redis = await startRedis();
  const store = redis.client();
  await using client = new SidekiqClient({ url: redis.url });
  const tasks = new Tasks().handle(defineTask('Else'), () => undefined);
  const options = { url: redis.url, queues: ['other'], pollIntervalAverage: 0.05 };
  const workers = Array.from({ length: 4 }, () => new Worker({ tasks, sources: [sidekiq(options)] }));
  await Promise.all(workers.map((worker) => worker.start()));
  const at = new Date(Date.now() + 500);
  const pushed = await client.enqueueMany(
    'Waits',
    Array.from({ length: 1_500 }, () => ({ at })),
  );
  await until('all are moved', async () => (await store.zcard('schedule')) === 0);
  const jids = (await store.lrange('queue:default', 0, -1)).map((text) => (JSON.parse(text) as { jid: string }).jid);
  expect(jids.toSorted()).toEqual(pushed.map(({ jid }) => jid).toSorted());
  await Promise.all(workers.map((worker) => worker.stop()));
});

test('the answer to a claim is lost: the job runs all the same, once', async () => {
  await using redis = await startRedis();
  await using proxy = await startProxy(redis.port);
  const store = redis.client();
  const ran: unknown[] = [];
  const tasks = new Tasks().handle(defineTask('Ran'), ({ args: [number] }) => void ran.push(number));
  const worker = new Worker({ tasks, sources: [sidekiq({ url: proxy.url, heartbeatInterval: 0.2 })] });
  await worker.start();
  const dropped = proxy.dropAnswerWith('"args":[4711]');
  await store.lpush('queue:default', '{"class":"Ran","args":[4711],"jid":"a"}');
  await dropped;
  await until('it has run', () => ran.length > 0);
  await until('nothing is claimed', async () => (await store.keys('jobglot:sidekiq:claims:*')).length === 0);
  expect(ran).toEqual([4711]);
  await worker.stop();
});

test('connections are cut twenty times: no job is lost, each retry is written once', async () => {
  await using redis = await startRedis();
  await using proxy = await startProxy(redis.port);
  const store = redis.client({ maxRetriesPerRequest: null });
  const ran = new Set<number>();
  const tasks = new Tasks().handle(defineTask<(number: number) => void>('Third'), async ({ args: [number] }) => {
    await pause(1);
    ran.add(number);
    if (number % 3 === 0) throw new Error('a third');
  });
  const worker = new Worker({ tasks, sources: [sidekiq({ url: proxy.url, concurrency: 5, heartbeatInterval: 0.2 })] });
  await worker.start();
  const numbers = Array.from({ length: 1_500 }, (_, number) => number);
  for (let at = 0; at < 1_500; at += 150) {
    const jobs = numbers
      .slice(at, at + 150)
      .map((number) => `{"class":"Third","args":[${number}],"jid":"jid-${number}"}`);
    await store.lpush('queue:default', ...jobs);
    proxy.cut();
    await pause(20);
    proxy.cut();
  }
  await until('all have run', 60_000, () => ran.size === numbers.length);
  await until('nothing waits, nothing is claimed', 60_000, async () => {
    const claims = await store.keys('jobglot:sidekiq:claims:*');
    return claims.length === 0 && (await store.llen('queue:default')) === 0;
  });
  const retried = (await store.zrange('retry', '0', '-1')).map((text) => (JSON.parse(text) as { jid: string }).jid);
  expect(retried.toSorted()).toEqual(
    numbers
      .filter((number) => number % 3 === 0)
      .map((number) => `jid-${number}`)
      .toSorted(),
  );
  await worker.stop();
});
