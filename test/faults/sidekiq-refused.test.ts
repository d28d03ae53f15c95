import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { sidekiq, type SidekiqOptions } from '../../src/drivers/sidekiq/index.ts';
import { createLogger } from '../../src/log.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

/** Writes that the server refuses, for whatever reason: a script that fails is not undone, and no job may be lost by it. */
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

async function startWorker(options: Partial<SidekiqOptions> = {}): Promise<Worker> {
  const tasks = new Tasks()
    .handle(defineTask('Boom'), () => {
      throw new Error('boom');
    })
    .handle(
      defineTask('Later'),
      () => {
        throw new Error('later');
      },
      { retry: { delayMs: () => Number.NaN } },
    )
    .handle(defineTask('Ok'), () => 1);
  const worker = new Worker({
    tasks,
    sources: [sidekiq({ url: server.url, heartbeatInterval: 0.2, rescueInterval: 0.05, ...options })],
    log: createLogger({ level: 'info', stream: { write: () => undefined } }),
    abortGraceMs: 100,
  });
  workers.push(worker);
  await worker.start();
  return worker;
}

const job = (name: string, jid: string, more = ''): string =>
  `{"class":"${name}","args":[],"jid":"${jid}","queue":"default"${more}}`;

test('a queue whose key is no list: what was fetched before it runs', async () => {
  await redis.set('queue:odd', 'no list');
  await redis.lpush('queue:default', job('Ok', 'a'));
  const worker = await startWorker({ queues: ['default', 'odd'] });
  await worker.once('job:settled');
  expect(await redis.get('queue:odd')).toBe('no list');
});

test('a retry set that is no set: the job stays a claim until it can be written', async () => {
  await redis.set('retry', 'no set');
  const worker = await startWorker();
  const refused = worker.once('job:unsettled');
  await redis.lpush('queue:default', job('Boom', 'a'));
  await refused;
  const [claims] = await redis.keys('jobglot:sidekiq:claims:*');
  expect(await redis.hvals(claims!)).toEqual([job('Boom', 'a')]);
  await redis.del('retry');
  await until('it is to be retried', async () => (await redis.zcard('retry')) === 1);
  expect(await redis.exists(claims!)).toBe(0);
});

test('a dead process whose queue is no list any more: its job stays a claim until it can be given back', async () => {
  await redis.set('queue:odd', 'no list');
  await redis.sadd('jobglot:sidekiq:claimants', 'gone:1:dead');
  await redis.hset('jobglot:sidekiq:claims:gone:1:dead', '1:odd', job('Ok', 'a'));
  await redis.hset('jobglot:sidekiq:claims:gone:1:dead', '2:default', job('Ok', 'b'));
  const worker = await startWorker();
  await worker.once('job:settled');
  expect(await redis.hvals('jobglot:sidekiq:claims:gone:1:dead')).toEqual([job('Ok', 'a')]);
  await redis.del('queue:odd');
  await until('it is back', async () => (await redis.lrange('queue:odd', 0, -1)).length === 1);
});

test.each(['schedule', 'retry'] as const)(
  'due in %s for a queue that is no list: it is dead, and the others go on',
  async (set) => {
    await redis.set('queue:odd', 'no list');
    const odd = job('Ok', 'a').replace('default', 'odd');
    await redis.zadd(set, 1, odd, 2, job('Ok', 'b'));
    const worker = await startWorker();
    await worker.once('job:settled', ({ job: { id } }) => id === 'b');
    const [dead] = await redis.zrange('dead', '0', '-1');
    expect(JSON.parse(dead!)).toMatchObject({ jid: 'a', queue: 'odd' });
    expect(await redis.exists(set)).toBe(0);
  },
);

test('a delay that is no number is that of Sidekiq', async () => {
  const worker = await startWorker();
  await redis.lpush('queue:default', job('Later', 'a'));
  const { disposition } = await worker.once('job:settled');
  expect(disposition.state).toBe('retrying');
  expect(await redis.zcard('retry')).toBe(1);
});

test.each(['"retry":1e9,"retry_count":10000000', '"retry_count":-10000000000', '"retry_count":-1e300'])(
  'a count that is no count (%s): it is to be retried, at a time that can be shown',
  async (members) => {
    const worker = await startWorker();
    await redis.lpush('queue:default', job('Boom', 'a', `,${members}`));
    await worker.once('job:settled');
    expect(await redis.zrange('retry', '0', '-1', 'WITHSCORES')).toEqual([expect.any(String), '8640000000000']);
    await redis.lpush('queue:default', job('Ok', 'b'));
    await worker.once('job:settled', ({ job: { id } }) => id === 'b');
  },
);
