import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { RqClient, type RqOptions } from '../../src/drivers/rq/index.ts';
import { pause } from '../../src/source.ts';
import type { Handler } from '../../src/task.ts';
import { startRedis, until } from '../support/redis.ts';
import { startProxy } from './proxy.ts';
import { type RqScene, startRqWorker } from './rq-scene.ts';

/** Connections that break and servers that go away under a worker on RQ: what was under way is told once, and nothing is left over. */

interface Runs {
  readonly counts: Map<string, number>;
  readonly handlers: Readonly<Record<string, Handler>>;
}

function counted(during: () => unknown = () => undefined): Runs {
  const counts = new Map<string, number>();
  return {
    counts,
    handlers: {
      'app.count': async ({ id, args: [ms = 0] }) => {
        counts.set(id, (counts.get(id) ?? 0) + 1);
        await pause(Number(ms));
        await during();
        return id;
      },
    },
  };
}

function start(url: string, runs: Runs, options: Partial<RqOptions> = {}): Promise<RqScene> {
  return startRqWorker({ url, concurrency: 10, abandonedInterval: 1, ...options }, runs.handlers);
}

/** All of them have ended well, each with one result, and nothing says that anything runs. */
async function endedOnce(store: Redis, ids: readonly string[]): Promise<void> {
  await until('all have ended', async () => (await store.zcard('rq:finished:default')) >= ids.length);
  await until('nothing runs', async () => (await store.zcard('rq:wip:default')) === 0);
  for (const id of ids) {
    expect([id, await store.hget(`rq:job:${id}`, 'status')]).toEqual([id, 'finished']);
    expect([id, await store.xlen(`rq:results:${id}`)]).toEqual([id, 1]);
  }
  expect(await store.keys('rq:execution*')).toEqual([]);
  expect(await store.exists('rq:failed:default', 'rq:queue:default', 'rq:queue:default:intermediate')).toBe(0);
}

const successes = async (store: Redis): Promise<string | null> => {
  const [key = ''] = await store.smembers('rq:workers');
  return store.hget(key, 'successful_job_count');
};

describe('an answer that is lost', () => {
  test('of a claim: the same worker has the job again, and runs it once', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using client = new RqClient({ url: redis.url });
    const runs = counted();
    await using _ = await start(proxy.url, runs);
    const before = await client.enqueue('app.count');
    await before.get({ timeoutMs: 30_000 });
    const dropped = proxy.dropAnswerWith('lost-1');
    const lost = await client.enqueue('app.count', { jobId: 'lost-1' });
    await dropped;
    expect(await lost.get({ timeoutMs: 30_000 })).toBe('lost-1');
    await endedOnce(redis.client(), [before.id, 'lost-1']);
    expect(runs.counts).toEqual(
      new Map([
        [before.id, 1],
        ['lost-1', 1],
      ]),
    );
  });

  test('of an end: it is written once, and counted once', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using client = new RqClient({ url: redis.url });
    let dropped: Promise<void> | undefined;
    // What SETTLE answers for one job that is done.
    const runs = counted(() => ((dropped = proxy.dropAnswerWith('*1\r\n:1\r\n')), undefined));
    await using scene = await start(proxy.url, runs);
    const settled = scene.worker.once('job:settled');
    const job = await client.enqueue('app.count');
    await settled;
    await dropped;
    const store = redis.client();
    await endedOnce(store, [job.id]);
    expect(runs.counts.get(job.id)).toBe(1);
    expect(await successes(store)).toBe('1');
  });
});

describe('Redis goes away and comes back', () => {
  test('while jobs run: each has run once, and the worker is registered as before', async () => {
    await using redis = await startRedis({ persistence: true });
    const runs = counted();
    await using client = new RqClient({ url: redis.url });
    const ids = (
      await client.enqueueMany(
        'app.count',
        Array.from({ length: 30 }, () => ({ args: [300] })),
      )
    ).map(({ id }) => id);
    await using scene = await start(redis.url, runs);
    await until('some run', () => runs.counts.size >= 10);
    await redis.restart();
    const store = redis.client();
    await endedOnce(store, ids);
    expect([...runs.counts.values()].every((count) => count === 1)).toBe(true);
    expect(await store.smembers('rq:workers')).toHaveLength(1);
    expect(scene.worker.state).toBe('running');
    const after = await client.enqueue('app.count');
    expect(await after.get({ timeoutMs: 30_000 })).toBe(after.id);
  });

  test('with all it knew: the worker registers anew, and goes on', async () => {
    await using redis = await startRedis();
    const runs = counted();
    await using _ = await start(redis.url, runs, { jobMonitoringInterval: 1 });
    await redis.restart();
    const store = redis.client();
    await until('it is registered', async () => (await store.scard('rq:workers')) === 1);
    await using client = new RqClient({ url: redis.url });
    const job = await client.enqueue('app.count');
    expect(await job.get({ timeoutMs: 30_000 })).toBe(job.id);
    await endedOnce(store, [job.id]);
  });
});

test('a network that is silent for a while and comes back: nothing is lost, and nothing is left as started', async () => {
  await using redis = await startRedis();
  await using proxy = await startProxy(redis.port);
  await using client = new RqClient({ url: redis.url });
  const runs = counted();
  await using _ = await start(proxy.url, runs, { redis: { socketTimeoutMs: 1_000 } });
  const calls = Array.from({ length: 200 }, () => ({ args: [20] }));
  const ids = (await client.enqueueMany('app.count', calls)).map(({ id }) => id);
  await until('some ran', () => runs.counts.size > 20);
  proxy.goSilentForAll();
  await pause(3_000);
  proxy.comeBack();
  await endedOnce(redis.client(), ids);
  expect([...runs.counts.values()].filter((count) => count > 1)).toEqual([]);
});

test('connections that are cut again and again: nothing is lost, and nothing is left as started', async () => {
  await using redis = await startRedis();
  await using proxy = await startProxy(redis.port);
  await using client = new RqClient({ url: redis.url });
  const runs = counted();
  await using _ = await start(proxy.url, runs);
  const calls = Array.from({ length: 500 }, () => ({ args: [5] }));
  const ids = (await client.enqueueMany('app.count', calls)).map(({ id }) => id);
  for (const cutAt of [30, 120, 240, 360]) {
    await until(`${cutAt} ran`, () => runs.counts.size >= cutAt);
    proxy.cut();
  }
  await endedOnce(redis.client(), ids);
  expect([...runs.counts.values()].filter((count) => count > 1)).toEqual([]);
});
