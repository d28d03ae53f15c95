import { expect, test } from 'vitest';
import { RqClient } from '../../src/drivers/rq/index.ts';
import { pause } from '../../src/source.ts';
import { startRedis, until } from '../support/redis.ts';
import { type RqScene, startRqWorker } from './rq-scene.ts';

/** A Redis that stands still in the middle of everything, and many jobs at once. */

function counting(counts: Map<string, number>, url: string, concurrency: number, ms: number): Promise<RqScene> {
  return startRqWorker(
    { url, concurrency, abandonedInterval: 1, abandonedJobs: 'requeue' },
    {
      'app.count': async ({ id }) => {
        counts.set(id, (counts.get(id) ?? 0) + 1);
        await pause(ms);
        return id;
      },
    },
  );
}

test('Redis stands still again and again under two workers: every job ends once, and nothing is left as started', async () => {
  await using redis = await startRedis();
  const store = redis.client();
  await using client = new RqClient({ url: redis.url });
  const counts = new Map<string, number>();
  const calls = Array.from({ length: 800 }, () => ({ resultTtl: 5_000 }));
  const ids = (await client.enqueueMany('app.count', calls)).map(({ id }) => id);
  await using first = await counting(counts, redis.url, 10, 20);
  await using second = await counting(counts, redis.url, 10, 20);
  for (const at of [100, 300, 500]) {
    await until(`${at} ran`, () => counts.size >= at);
    redis.freeze();
    await pause(2_500);
    redis.thaw();
  }
  await until('all have ended', async () => (await store.zcard('rq:finished:default')) >= ids.length);
  await until('nothing runs', async () => (await store.exists('rq:wip:default')) === 0);
  for (const id of ids) {
    expect([id, await store.hget(`rq:job:${id}`, 'status'), await store.xlen(`rq:results:${id}`)]).toEqual([
      id,
      'finished',
      1,
    ]);
  }
  expect([...counts.values()].filter((times) => times !== 1)).toEqual([]);
  expect(await store.exists('rq:failed:default', 'rq:queue:default')).toBe(0);
  expect([first.worker.state, second.worker.state]).toEqual(['running', 'running']);
});

test('ten thousand slots and ten thousand jobs: each runs once', { timeout: 120_000 }, async () => {
  await using redis = await startRedis();
  const store = redis.client();
  await using client = new RqClient({ url: redis.url });
  const counts = new Map<string, number>();
  await client.enqueueMany(
    'app.count',
    Array.from({ length: 10_000 }, () => ({})),
  );
  await using _ = await counting(counts, redis.url, 10_000, 200);
  await until('all have ended', async () => (await store.zcard('rq:finished:default')) >= 10_000);
  expect([...counts.values()].filter((times) => times !== 1)).toEqual([]);
  expect(await store.exists('rq:wip:default', 'rq:queue:default')).toBe(0);
});
