import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { RqClient } from '../../src/drivers/rq/index.ts';
import { Postpone } from '../../src/index.ts';
import { type RqScene, startRqWorker } from '../faults/rq-scene.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { rqPython } from './support/rq-python.ts';

const environment = 'rq-2.10';
let redis: RedisServer;
let store: Redis;
let client: RqClient;

beforeAll(async () => {
  redis = await startRedis();
  store = redis.client();
  client = new RqClient({ url: redis.url });
});
beforeEach(async () => {
  await store.flushall();
});
afterAll(async () => {
  await client?.close();
  await redis?.[Symbol.asyncDispose]();
});

const SHOW = `
from rq.job import Job
from rq.registry import ScheduledJobRegistry
job = Job.fetch('held', connection=connection)
registry = ScheduledJobRegistry('default', connection=connection)
show([job.get_status(), job.args, job.origin, job.worker_name, job.started_at, job.retries_left, job.number_of_retries,
  [result.type.value for result in job.results()], registry.get_job_ids(), (registry.get_scheduled_time('held') - datetime.now(timezone.utc)).total_seconds() > 50])`;

function start(delays: number[], options: object = {}): Promise<RqScene & { readonly runs: number[] }> {
  const runs: number[] = [];
  const handlers = {
    'app.hold': ({ attempt }: { readonly attempt: number }) => {
      runs.push(attempt);
      const delayMs = delays.shift();
      if (delayMs !== undefined) throw new Postpone({ delayMs, reason: 'busy' });
      return 'ran';
    },
    'app.other': () => 'other',
  };
  return startRqWorker({ url: redis.url, concurrency: 1, ...options }, handlers).then((scene) => ({
    ...scene,
    [Symbol.asyncDispose]: () => scene[Symbol.asyncDispose](),
    runs,
  }));
}

test('Python sees an ordinary scheduled job that never ran, and the queue goes on', async () => {
  const scene = await start([60_000]);
  await client.enqueue('app.hold', { args: [1], jobId: 'held', retry: { max: 2 } });
  const other = await client.enqueue('app.other');
  expect(await other.get({ timeoutMs: 30_000 })).toBe('other');
  expect(await rqPython(environment, redis.url, SHOW)).toEqual([
    'scheduled',
    [1],
    'default',
    null,
    null,
    2,
    null,
    [],
    ['held'],
    true,
  ]);
  expect(await store.ttl('rq:job:held')).toBe(-1);
  await scene[Symbol.asyncDispose]();
  // The worker is gone; nothing of the job is.
  expect(await store.zrange('rq:scheduled:default', 0, '-1')).toEqual(['held']);
  expect(await store.keys('rq:execution*')).toEqual([]);
});

test('a worker of ours moves it when it is due, and counts no attempt', async () => {
  await using scene = await start([1_000, 1_000]);
  const job = await client.enqueue('app.hold', { ttl: 600 });
  expect(await job.get({ timeoutMs: 30_000 })).toBe('ran');
  expect(scene.runs).toEqual([1, 1, 1]);
  expect(await store.xlen(`rq:results:${job.id}`)).toBe(1);
});

test("where our scheduler is off, Python's moves it", async () => {
  await using scene = await start([1_000], { withScheduler: false });
  const job = await client.enqueue('app.hold');
  await until('it is due', async () => {
    const [, at] = await store.zrange('rq:scheduled:default', 0, '-1', 'WITHSCORES');
    return at !== undefined && Number(at) <= Date.now() / 1000;
  });
  expect(scene.runs).toEqual([1]);
  await rqPython(
    environment,
    redis.url,
    `
from rq.scheduler import RQScheduler
scheduler = RQScheduler(['default'], connection=connection)
scheduler.acquire_locks()
scheduler.enqueue_scheduled_jobs()
scheduler.release_locks()
show(None)`,
  );
  expect(await job.get({ timeoutMs: 30_000 })).toBe('ran');
});
