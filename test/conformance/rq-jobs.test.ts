import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rq, RqClient } from '../../src/drivers/rq/index.ts';
import { defineTask, Retry, Tasks, Worker } from '../../src/index.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';

/** What a person does to jobs that a worker of ours runs, and what becomes of them. */

const add = defineTask<(x: number, y: number) => number>('jobs.add');
const hang = defineTask<() => string>('jobs.hang');
const deaf = defineTask<() => string>('jobs.deaf');
const again = defineTask<(times: number) => number>('jobs.again');
const fail = defineTask<(message: string) => never>('jobs.fail');

let server: RedisServer;
let raw: Redis;
let client: RqClient;
let worker: Worker;
/** Lets `deaf` end. */
let release: () => void;

beforeAll(async () => {
  server = await startRedis();
  raw = server.client();
  client = new RqClient({ url: server.url });
});
afterAll(async () => {
  await client?.close();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await raw.flushall();
  const held = new Promise<void>((resolve) => (release = resolve));
  let runs = 0;
  const tasks = new Tasks()
    .handle(add, ({ args: [x, y] }) => x + y)
    .handle(
      hang,
      (_, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    )
    .handle(deaf, () => held.then(() => 'ended'))
    .handle(again, ({ args: [times] }) => {
      if (++runs <= times) throw new Retry({ delayMs: 0 });
      return runs;
    })
    .handle(fail, ({ args: [message] }) => {
      throw new TypeError(message);
    });
  worker = new Worker({ tasks, sources: [rq({ url: server.url, concurrency: 5, name: 'w1' })] });
  await worker.start();
});
afterEach(async () => {
  release();
  await worker.stop({ timeoutMs: 0 });
});

const started = (id: string): Promise<void> =>
  until('the job runs', async () => (await client.job(id).status()) === 'started');

it('a thousand jobs are awaited at once', async () => {
  const jobs = await client.enqueueMany(
    add,
    Array.from({ length: 1000 }, (_, at) => ({ args: [at, 1] as [number, number] })),
  );
  expect(await Promise.all(jobs.map((job) => job.get({ timeoutMs: 60_000 })))).toEqual(jobs.map((_, at) => at + 1));
});

it('a failure brings the stack, and the class of the error', async () => {
  const job = await client.enqueue(fail, { args: ['no\nnot at all'] });
  await expect(job.get({ timeoutMs: 60_000 })).rejects.toMatchObject({
    name: 'RemoteError',
    type: 'TypeError',
    args: ['no\nnot at all'],
    traceback: expect.stringContaining('rq-jobs.test.ts'),
  });
});

it('a job that its handler has run again is awaited until it ends, and its history told', async () => {
  const job = await client.enqueue(again, { args: [2] });
  expect(await job.get({ timeoutMs: 60_000 })).toBe(3);
  const history = await job.results();
  expect(history.map(({ type }) => type)).toEqual(['successful', 'retried', 'retried']);
  expect(history[0]?.value()).toBe(3);
  expect(history[0]?.workerName).toBe('w1');
});

it('one that is stopped ends at once, as stopped', async () => {
  const job = await client.enqueue(hang);
  const waiting = expect(job.get({ timeoutMs: 60_000 })).rejects.toMatchObject({
    code: 'remote',
    message: expect.stringMatching(/stopped by user/),
  });
  await started(job.id);
  expect(await job.stop()).toBe(true);
  await waiting;
  expect(await job.status()).toBe('stopped');
  await expect(job.stop()).rejects.toMatchObject({ code: 'invalid-operation' });
  await job.requeue();
  await started(job.id);
  expect(await client.queue().counts()).toMatchObject({ queued: 0, started: 1, failed: 0 });
});

describe('one that runs', () => {
  it('and is canceled stays so, whatever its handler comes to', async () => {
    const job = await client.enqueue(deaf);
    const after = await client.enqueue(add, { args: [1, 1], dependsOn: job });
    const waiting = expect(job.get({ timeoutMs: 60_000 })).rejects.toMatchObject({ code: 'canceled' });
    await started(job.id);
    await job.cancel();
    await waiting;
    release();
    expect(await (await client.enqueue(add, { args: [2, 2] })).get({ timeoutMs: 60_000 })).toBe(4);
    await until('the run is over', async () => (await raw.scard('rq:worker:w1:executions')) === 0);
    expect(await job.status()).toBe('canceled');
    expect(await job.results()).toEqual([]);
    expect(await after.status()).toBe('deferred');
  });

  it('and is deleted does not come back', async () => {
    const job = await client.enqueue(deaf, { group: 'g' });
    const waiting = expect(job.get({ timeoutMs: 60_000 })).rejects.toMatchObject({ code: 'no-such-job' });
    await started(job.id);
    expect(await job.delete()).toBe(true);
    await waiting;
    release();
    await until('the run is over', async () => (await raw.scard('rq:worker:w1:executions')) === 0);
    expect(await raw.keys(`*${job.id}*`)).toEqual([]);
    expect(await client.group('g')).toEqual([]);
  });
});

it('a result that is not kept ends the waiting', async () => {
  const job = await client.enqueue(add, { args: [1, 1], resultTtl: 0 });
  await expect(job.get({ timeoutMs: 60_000 })).rejects.toMatchObject({ code: 'no-such-job' });
});

it('what waits for a chain of jobs runs when the last of them has ended', async () => {
  const chain = [client.prepare(add, { args: [0, 0] })];
  for (let at = 1; at < 20; at++) chain.push(client.prepare(add, { args: [at, 0], dependsOn: chain.slice(-1) }));
  const jobs = await client.enqueuePrepared(chain);
  expect(await jobs.at(-1)?.get({ timeoutMs: 60_000 })).toBe(19);
  expect(await client.queue().counts()).toMatchObject({ finished: 20, deferred: 0 });
});

it('a call with other types does not compile', async () => {
  const job = await client.enqueue(add, { args: [1, 1] });
  const sum: number = await job.get({ timeoutMs: 60_000 });
  expect(sum).toBe(2);
  // @ts-expect-error a text is no number
  void (() => client.enqueue(add, { args: ['1', 1] }));
  // @ts-expect-error one argument is missing
  void (() => client.prepare(add, { args: [1] }));
  // @ts-expect-error not an option of RQ
  void (() => client.enqueue(add, { args: [1, 1], countdown: 1 }));
});
