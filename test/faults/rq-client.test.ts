import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { RqClient, RqCron } from '../../src/drivers/rq/index.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { type Proxy, startProxy } from './proxy.ts';

/** A client whose answers are lost on the way, and whose connections are cut. */
let redis: RedisServer;
let raw: Redis;
let proxy: Proxy;
let client: RqClient;

beforeAll(async () => {
  redis = await startRedis();
  raw = redis.client();
  proxy = await startProxy(redis.port);
});
beforeEach(async () => {
  await raw.flushall();
  await client?.close();
  client = new RqClient({ url: proxy.url });
  await client.open();
});
afterAll(async () => {
  await client?.close();
  await proxy?.[Symbol.asyncDispose]();
  await redis?.[Symbol.asyncDispose]();
});

/** The answer to a job that is registered: it is queued, and has no results. */
const QUEUED = ':1\r\n$0\r\n';

describe('when the answer is lost', () => {
  test('a job is in its queue once', async () => {
    const dropped = proxy.dropAnswerWith(QUEUED);
    const job = await client.enqueue('f');
    await dropped;
    expect(job.registered).toBe('queued');
    expect(await raw.lrange('rq:queue:default', 0, -1)).toEqual([job.id]);
  });

  test('many jobs are there once, in their order', async () => {
    const dropped = proxy.dropAnswerWith(QUEUED);
    const jobs = await client.enqueueMany(
      'f',
      Array.from({ length: 700 }, (_, at) => ({ args: [at] })),
    );
    await dropped;
    expect(await raw.lrange('rq:queue:default', 0, -1)).toEqual(jobs.map(({ id }) => id));
  });

  test('a job that waits for another, and one that waits for its time, are told to do so', async () => {
    const first = await client.enqueue('f');
    for (const [call, state, answer] of [
      [{ dependsOn: first }, 'deferred', ':3\r\n$0\r\n'],
      [{ in: 60 }, 'scheduled', ':2\r\n$0\r\n'],
    ] as const) {
      const dropped = proxy.dropAnswerWith(answer);
      const job = await client.enqueue('f', call);
      await dropped;
      expect(job.registered).toBe(state);
      expect(await client.queue().registry(state).ids()).toEqual([job.id]);
    }
  });

  test('large jobs are sent in parts', async () => {
    const text = 'x'.repeat(100_000);
    const jobs = await client.enqueueMany(
      'f',
      // What repeats takes no room in Redis; this does not.
      Array.from({ length: 60 }, () => ({ args: [randomBytes(75_000).toString('base64'), text] })),
    );
    expect(await raw.llen('rq:queue:default')).toBe(jobs.length);
  });

  test('a job with an id of its own is told to be unknown, and not sent again', async () => {
    const dropped = proxy.dropAnswerWith(QUEUED);
    await expect(client.enqueue('f', { jobId: 'own' })).rejects.toMatchObject({ code: 'connection' });
    await dropped;
    expect(await raw.lrange('rq:queue:default', 0, -1)).toEqual(['own']);
  });

  test('a run of a cron is sent once', async () => {
    await using cron = new RqCron({ url: proxy.url, jobs: [{ func: 'f', queueName: 'cron', interval: 1 }] });
    await cron.start();
    // Nothing else answers 0 alone before it.
    await proxy.dropAnswerWith(':0\r\n');
    const length = (): Promise<number> => raw.llen('rq:queue:cron');
    await until('two more runs', async () => (await length()) >= 4);
    await cron.stop();
    const times = (await client.queue('cron').jobs()).map(({ job }) => job.createdAt?.getTime() ?? 0);
    for (const [at, time] of times.entries())
      if (at > 0) expect(time - (times[at - 1] as number)).toBeGreaterThanOrEqual(1000);
  });
});

test('who waits for a result hears of it though the connections were cut', async () => {
  const job = await client.enqueue('f');
  const before = proxy.accepted;
  const waiting = job.get({ timeoutMs: 60_000 });
  await until('it waits', () => proxy.accepted >= before + 2);
  proxy.cut();
  // As a worker of Python's would write it.
  await raw
    .multi()
    .hset(`rq:job:${job.id}`, 'status', 'finished')
    .xadd(`rq:results:${job.id}`, '*', 'type', '1', 'worker_name', 'w', 'return_value', 'gAVLBS4=')
    .exec();
  expect(await waiting).toBe(5);
});

test('what Redis refuses is told, and the client goes on', async () => {
  await raw.set('rq:job:text', 'not a hash');
  await expect(client.enqueue('f', { jobId: 'text' })).rejects.toThrow(/WRONGTYPE/);
  expect(await raw.llen('rq:queue:default')).toBe(0);
  await expect(client.job('text').fetch()).rejects.toThrow(/WRONGTYPE/);
  const after = await client.enqueue('f', { dependsOn: 'text' });
  expect(after.registered).toBe('queued');
});
