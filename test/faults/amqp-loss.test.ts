import { expect, test } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { startRabbit } from '../support/rabbit.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';
import { consumed, holds, send, SETTLED_TWICE } from './rabbit-scene.ts';

/** What is left of the work when processes die and RabbitMQ is started again. Counted in Redis, where the results are too. */
test.each(['classic', 'quorum'] as const)(
  '5,000 tasks on a %s queue, three SIGKILLs of the worker and a restart of RabbitMQ: every task ran, every result is there',
  { timeout: 300_000 },
  async (type) => {
    await using rabbit = await startRabbit();
    await using redis = await startRedis();
    const client = redis.client({ maxRetriesPerRequest: null });
    const COUNT = 5_000;
    const ids = Array.from({ length: COUNT }, (_, index) => `task-${index}`);
    const options: CeleryOptions = {
      broker: rabbit.url,
      backend: redis.url,
      queues: [{ name: 'loss', queueType: type }],
      acksLate: true,
      concurrency: 50,
      workerEnableRemoteControl: false,
      brokerNativeDelayedDeliveryQueueType: 'classic',
    };
    let worker = await startProgram('celery', options, redis.url);
    await consumed(rabbit, 'loss');
    await send(rabbit, 'loss', ...ids.map((id) => ({ id, task: 'count', args: [10] })));
    const results = async (): Promise<number> => (await client.keys('celery-task-meta-*')).length;
    for (const killAt of [500, 1_500, 2_500]) {
      await until(`${killAt} results`, 60_000, async () => (await results()) >= killAt);
      await worker.kill();
      worker = await startProgram('celery', options, redis.url);
    }
    await until('3,500 results', 60_000, async () => (await results()) >= 3_500);
    await rabbit.restart();
    const from = performance.now();
    await until('all results', 60_000, async () => (await results()) >= COUNT);
    const seconds = ((performance.now() - from) / 1000).toFixed(1);
    await holds(rabbit, 'loss', 0, 0);
    const runs = await client.hgetall('runs');
    expect(Object.keys(runs).length).toBe(COUNT);
    const metas = (await client.mget(ids.map((id) => `celery-task-meta-${id}`))) as string[];
    expect(metas.every((meta) => meta.startsWith('{"status": "SUCCESS"'))).toBe(true);
    const again = Object.values(runs).filter((count) => Number(count) > 1).length;
    // Never more than what RabbitMQ had sent ahead when a process or RabbitMQ itself died.
    expect(again).toBeLessThanOrEqual(4 * 200);
    console.log(`5,000 tasks (${type}), 3 SIGKILLs, 1 restart: ${again} ran more than once; done in ${seconds} s`);
    await worker.stop();
    expect(worker.child.exitCode, worker.log()).toBe(0);
    expect(rabbit.log()).not.toMatch(SETTLED_TWICE);
  },
);
