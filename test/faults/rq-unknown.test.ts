import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { RqClient } from '../../src/drivers/rq/index.ts';
import { startRedis, until } from '../support/redis.ts';
import { startRqWorker } from './rq-scene.ts';

/** Calls of commands that Redis has run, scripts counted as one. */
async function calls(store: Redis): Promise<number> {
  const info = await store.info('commandstats');
  return [...info.matchAll(/^cmdstat_(?:evalsha|eval):calls=(\d+)/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}

test('1,000 unknown tasks ahead of 10 known ones are all left to others, and cost little afterwards', async () => {
  await using redis = await startRedis();
  await using client = new RqClient({ url: redis.url });
  const store = redis.client();
  await client.enqueueMany(
    'python.only',
    Array.from({ length: 1_000 }, () => ({})),
  );
  const jobs = await client.enqueueMany(
    'app.known',
    Array.from({ length: 10 }, () => ({})),
  );
  const ran: number[] = [];
  const handler = (): string => (ran.push(performance.now()), 'ran');
  await using _ = await startRqWorker({ url: redis.url, concurrency: 10 }, { 'app.known': handler });
  const started = performance.now();
  for (const job of jobs) expect(await job.get({ timeoutMs: 30_000 })).toBe('ran');
  expect(ran).toHaveLength(10);
  console.log(
    `10 known jobs behind 1,000 unknown ones ran ${Math.round(Math.max(...ran) - started)} ms after the start`,
  );
  // The unknown ones are held by this worker or stand in the queue: none is lost, none has failed.
  const left = async (): Promise<number> =>
    (await store.llen('rq:queue:default')) + (await store.zcard('rq:wip:default'));
  await until('all of the others are there', async () => (await left()) === 1_000);
  expect(await store.exists('rq:failed:default')).toBe(0);
  // The pause of each has doubled a few times by now.
  const before = await calls(store);
  const at = performance.now();
  await until('five seconds have passed', () => Promise.resolve(performance.now() - at > 5_000));
  const perSecond = ((await calls(store)) - before) / ((performance.now() - at) / 1_000);
  expect(perSecond).toBeLessThan(150);
  expect(await left()).toBe(1_000);
});
