import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { celery, CeleryClient, type CeleryOptions, type CelerySource } from '../../src/drivers/celery/index.ts';
import { defineTask, type TaskOptions, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { tally } from '../support/tally.ts';
import { PATIENCE_MS } from '../support/until.ts';

let redis: RedisServer;
let store: Redis;
let client: CeleryClient;
let workers: Worker[];
let runs: { readonly task: string; readonly arg: unknown; readonly at: number }[];
let gate: Promise<void>;
let open: () => void;

beforeEach(async () => {
  redis = await startRedis();
  store = redis.client();
  client = new CeleryClient({ broker: redis.url, backend: redis.urlOf(1) });
  workers = [];
  runs = [];
  gate = new Promise((resolve) => (open = resolve));
});
afterEach(async () => {
  for (const worker of workers) await worker.stop({ timeoutMs: 0 });
  await client.close();
  await redis[Symbol.asyncDispose]();
});

async function work(
  options: Partial<CeleryOptions> = {},
  limited: TaskOptions = {},
): Promise<{ readonly worker: Worker; readonly source: CelerySource }> {
  const note = ({ task, args: [arg] }: { readonly task: string; readonly args: readonly unknown[] }): void => {
    runs.push({ task, arg, at: Date.now() });
  };
  const tasks = new Tasks()
    .handle(defineTask('limited'), note, limited)
    .handle(defineTask('free'), note)
    .handle(defineTask('gated'), async (job) => {
      note(job);
      await gate;
    });
  const source = celery({ broker: redis.url, backend: redis.urlOf(1), ...options });
  const worker = new Worker({ tasks, sources: [source], abortGraceMs: 100 });
  workers.push(worker);
  await worker.start();
  return { worker, source };
}

const send = async (task: string, count: number): Promise<readonly string[]> =>
  (
    await client.enqueueMany(
      task,
      Array.from({ length: count }, (_, number) => ({ args: [number] })),
    )
  ).map(({ id }) => id);
const ran = (task: string): typeof runs => runs.filter((run) => run.task === task);
const have = (task: string, count: number): Promise<void> =>
  until(`${count} runs of ${task}`, () => ran(task).length >= count);

describe('a rate limit', () => {
  /** No run came before its turn. A late one says nothing of the next, which is then closer to it. */
  const inTurn = (task: string, from: number, everyMs: number): void => {
    for (const [turn, { at }] of ran(task).entries()) expect(at - from).toBeGreaterThanOrEqual(turn * everyMs - 10);
  };

  test('spaces the runs of its task evenly, in their order, and holds up no other task', async () => {
    await send('limited', 4);
    await send('free', 100);
    const from = Date.now();
    await work({ concurrency: 2 }, { rateLimit: '1/s' });
    await have('limited', 4);
    inTurn('limited', from, 1_000);
    expect(ran('limited').map(({ arg }) => arg)).toEqual([0, 1, 2, 3]);
    // The last turn is after three seconds.
    expect(runs.slice(0, -1).filter(({ task }) => task === 'free')).toHaveLength(100);
  });

  test('is not used up by a task whose time is far off', async () => {
    await client.enqueue('limited', { args: ['later'], countdown: 3600 });
    await send('limited', 2);
    await work({}, { rateLimit: '10/s' });
    await have('limited', 2);
    expect(ran('limited').map(({ arg }) => arg)).toEqual([0, 1]);
  });

  test('loses no turn to messages that are parked', async () => {
    await send('limited', 6);
    await using parked = await tally(store, /^ZADD$/i, 'jobglot:parked');
    const from = Date.now();
    await work({ etaLimit: 2 }, { rateLimit: '4/s' });
    await have('limited', 6);
    await until('some were parked', () => parked.count > 0);
    inTurn('limited', from, 250);
    // Six turns are 1.25 s; a parked one is looked for once a second.
    expect(Date.now() - from).toBeLessThan(20_000);
    await until('nothing is left', async () => (await store.exists('celery', 'unacked', 'jobglot:parked')) === 0);
  });

  test('taskDefaultRateLimit is for every task without one of its own', async () => {
    await send('free', 3);
    await send('limited', 30);
    const from = Date.now();
    await work({ taskDefaultRateLimit: 4 }, { rateLimit: 0 });
    await have('limited', 30);
    await have('free', 3);
    inTurn('free', from, 250);
  });
});

describe('a revoked id', () => {
  test.each([
    ['waiting', {}],
    ['held for its ETA', { countdown: 2 }],
  ])('%s is not run; REVOKED with TaskRevokedError is stored, and the message is gone', async (_, call) => {
    const { source } = await work({ concurrency: 1 });
    const taskId = 'revoked-before-it-came';
    if (!('countdown' in call)) source.revoked.add(taskId);
    const result = await client.enqueue('free', { args: [1], taskId, ...call });
    if ('countdown' in call) {
      await until('it is held', async () => (await store.hlen('unacked')) === 1);
      source.revoked.add(taskId);
    }
    await expect(result.get({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject({
      type: 'TaskRevokedError',
      args: ['revoked'],
    });
    const stored = JSON.parse((await redis.client({ db: 1 }).get(`celery-task-meta-${taskId}`))!) as object;
    expect(stored).toMatchObject({
      status: 'REVOKED',
      result: { exc_type: 'TaskRevokedError', exc_module: 'celery.exceptions', exc_message: ['revoked'] },
    });
    await until('nothing is left', async () => (await store.exists('celery', 'unacked')) === 0);
    expect(runs).toEqual([]);
  });
});

describe('prefetch: concurrency times multiplier', () => {
  const SHARES = [
    [1, 1],
    [2, 1],
    [2, 4],
    [3, 2],
  ] as const;

  test.each(SHARES)(
    '%i × %i are claimed while handlers run, with late acknowledgement',
    async (concurrency, multiplier) => {
      await send('gated', 40);
      await work({ concurrency, prefetchMultiplier: multiplier, acksLate: true });
      const bound = concurrency * multiplier;
      await have('gated', concurrency);
      await until('it has its share', async () => (await store.hlen('unacked')) === bound);
      expect(await store.llen('celery')).toBe(40 - bound);
      expect(ran('gated')).toHaveLength(concurrency);
      open();
      await have('gated', 40);
      await until('nothing is left', async () => (await store.exists('celery', 'unacked')) === 0);
    },
  );

  test.each(SHARES)('%i × %i is never exceeded, with early acknowledgement', async (concurrency, multiplier) => {
    await send('gated', 200);
    open();
    await work({ concurrency, prefetchMultiplier: multiplier });
    let most = 0;
    while (ran('gated').length < 200) most = Math.max(most, await store.hlen('unacked'));
    expect(most).toBeLessThanOrEqual(concurrency * multiplier);
    await until('nothing is left', async () => (await store.exists('celery', 'unacked')) === 0);
  });
});

describe('etaLimit', () => {
  test('messages beyond it wait in Redis, not in memory, and run at their time', async () => {
    const calls = Array.from({ length: 8 }, (_, number) => ({ args: [number], countdown: 3 }));
    const at = Date.now();
    await client.enqueueMany('free', calls);
    const { worker } = await work({ etaLimit: 3 });
    await until('five are parked', async () => (await store.zcard('jobglot:parked')) === 5);
    expect(await store.hlen('unacked')).toBe(3);
    expect(await store.hlen('jobglot:parked:messages')).toBe(5);
    await have('free', 8);
    for (const run of ran('free')) expect(run.at - at).toBeGreaterThanOrEqual(2_990);
    expect(runs.map(({ arg }) => arg).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await until(
      'nothing is left',
      async () => (await store.exists('celery', 'unacked', 'jobglot:parked', 'jobglot:parked:messages')) === 0,
    );
    await worker.stop();
  });

  test('what is parked outlives the worker, byte for byte, and any worker brings it back', async () => {
    await client.enqueue('free', { args: ['x'], countdown: 3 });
    const [message] = await store.lrange('celery', 0, -1);
    const { worker } = await work({ etaLimit: 0 });
    await until('it is parked', async () => (await store.zcard('jobglot:parked')) === 1);
    await worker.stop();
    expect(await store.hvals('jobglot:parked:messages')).toEqual([`celery\0${message}`]);
    expect(await store.exists('celery', 'unacked')).toBe(0);
    await work();
    await have('free', 1);
  });

  test('a worker that stops gives back what it holds for later, and leaves what is parked', async () => {
    const calls = Array.from({ length: 5 }, (_, number) => ({ args: [number], countdown: 3600 }));
    await client.enqueueMany('free', calls);
    const { worker } = await work({ etaLimit: 2 });
    await until('three are parked', async () => (await store.zcard('jobglot:parked')) === 3);
    await worker.stop();
    expect(await store.llen('celery')).toBe(2);
    expect(await store.zcard('jobglot:parked')).toBe(3);
    expect(await store.exists('unacked', 'unacked_index')).toBe(0);
  });
});

test('a message larger than maxMessageBytes is set aside whole, and the next one runs', async () => {
  await client.enqueue('free', { args: ['x'.repeat(5_000)] });
  const [message] = await store.lrange('celery', 0, -1);
  await send('free', 1);
  const { worker } = await work({ brokerTransportOptions: { maxMessageBytes: 4_000 } });
  await have('free', 1);
  expect(await store.lrange('jobglot:quarantine:celery', 0, -1)).toEqual([message]);
  const [why] = await store.lrange('jobglot:quarantine:celery:why', 0, -1);
  expect(JSON.parse(why!)).toMatchObject({ code: 'too-large', queue: 'celery', bytes: message!.length });
  await worker.stop();
});
