import { expect, test } from 'vitest';
import { resque } from '../../src/drivers/resque/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** A Redis that stands still in the middle of everything. */

/** A worker that counts what it runs; stopped at the end. */
async function counting(counts: Map<number, number>, url: string): Promise<Worker & AsyncDisposable> {
  const tasks = new Tasks()
    .handle(defineTask<(number: number) => void>('CountJob'), async ({ args: [number] }) => {
      counts.set(number, (counts.get(number) ?? 0) + 1);
      await pause(20);
    })
    .handle(defineTask<(number: number) => void>('FailJob'), async ({ args: [number] }) => {
      counts.set(number, (counts.get(number) ?? 0) + 1);
      await pause(20);
      throw new TypeError(`job ${number}`);
    });
  // A freeze lasts longer than a process may be silent: everybody's sign of life is gone when Redis goes on.
  const source = resque({
    url,
    queues: ['*'],
    concurrency: 10,
    prefetch: 5,
    processTitle: false,
    ...{ deadAfter: 2, rescueInterval: 0.2, heartbeatInterval: 1 },
  });
  const worker = new Worker({ tasks, sources: [source] });
  await worker.start();
  return Object.assign(worker, { [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 5_000 }) });
}

test('Redis stands still again and again under two workers: no job is lost, each failure is recorded once, and they go on', async () => {
  await using redis = await startRedis();
  const store = redis.client({ maxRetriesPerRequest: null });
  const numbers = Array.from({ length: 1_200 }, (_, number) => number);
  const counts = new Map<number, number>();
  await store.sadd('resque:queues', 'default');
  await store.rpush(
    'resque:queue:default',
    ...numbers.map((number) => `{"class":"${number % 4 === 0 ? 'FailJob' : 'CountJob'}","args":[${number}]}`),
  );
  await using first = await counting(counts, redis.url);
  await using second = await counting(counts, redis.url);
  for (const at of [100, 400, 700]) {
    await until(`${at} ran`, () => counts.size >= at);
    redis.freeze();
    await pause(2_500);
    redis.thaw();
  }
  await until('all have run', () => counts.size === numbers.length);
  await until('nothing waits and nothing is claimed', async () => {
    const claims = await store.keys('resque:jobglot:claims:*');
    return claims.length === 0 && (await store.llen('resque:queue:default')) === 0;
  });
  const failed = (await store.lrange('resque:failed', 0, -1)).map(
    (text) => (JSON.parse(text) as { payload: { args: [number] } }).payload.args[0],
  );
  expect(failed.toSorted((a, b) => a - b)).toEqual(numbers.filter((number) => number % 4 === 0));
  expect([...counts.values()].filter((times) => times !== 1)).toEqual([]);
  // Nobody died: no job has a death to its name.
  expect(await store.keys('resque:jobglot:rescues:*')).toEqual([]);
  expect(await store.keys('resque:jobglot:quarantine:*')).toEqual([]);
  expect([first.state, second.state]).toEqual(['running', 'running']);
  // What is shown of them is true again.
  await until('both are on the list and wait', async () => {
    const working = (await store.keys('resque:worker:*')).filter((key) => !key.endsWith(':started'));
    return working.length === 0 && (await store.scard('resque:workers')) === 20;
  });
  expect(await store.get('resque:stat:processed')).toBe(String(numbers.length));
});
