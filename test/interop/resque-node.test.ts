import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodeFailure } from '../../protocols/resque/failure.ts';
import { resque, ResqueClient, type ResqueOptions, ResqueScheduler } from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { NodeResque, type NeighbourOptions } from './support/node-resque.ts';

let server: RedisServer;
let redis: Redis;
let client: ResqueClient;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
beforeEach(() => {
  client = new ResqueClient({ url: server.url, defaultQueue: 'mixed' });
  open.push(client);
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

async function neighbour(options: Omit<NeighbourOptions, 'port'> = {}): Promise<NodeResque> {
  const one = await NodeResque.start({ port: server.port, ...options });
  open.push(one);
  return one;
}

async function startWorker(
  options: Partial<ResqueOptions> = {},
): Promise<{ readonly ran: unknown[][]; readonly worker: Worker }> {
  const ran: unknown[][] = [];
  const tasks = new Tasks()
    .handle(defineTask('Echo'), ({ args }) => void ran.push([...args]))
    .handle(defineTask<(message: string) => void>('Boom'), ({ args: [message] }) => {
      throw new TypeError(message);
    });
  const source = resque({ url: server.url, queues: ['mixed'], concurrency: 3, processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source] });
  open.push(worker);
  await worker.start();
  return { ran, worker };
}

describe('node-resque on the other side', () => {
  test('what it enqueues is run here, and what is enqueued here is run there', async () => {
    const args = [1, 'zwölf 🎉', null, { a: [1.5, true] }, []];
    const theirs = await neighbour();
    await theirs.call('enqueue', 'mixed', 'Echo', args);
    const { ran, worker } = await startWorker();
    await until('it has run', () => ran.length === 1);
    expect(ran).toEqual([args]);
    await worker.stop();

    const other = await neighbour({ worker: { queues: ['mixed'] } });
    await client.enqueue('Echo', { args });
    await until('it has run there', () => other.ran.length === 1);
    expect(other.ran).toEqual([args]);
  });

  test('both work one queue, and each job is run once', async () => {
    const theirs = await neighbour({ worker: { queues: ['mixed'] } });
    const { ran } = await startWorker();
    const numbers = Array.from({ length: 300 }, (_, number) => number);
    await Promise.all(
      numbers.map((number) =>
        number % 2 === 0
          ? client.enqueue('Echo', { args: [number] })
          : theirs.call('enqueue', 'mixed', 'Echo', [number]),
      ),
    );
    await until('all have run', () => ran.length + theirs.ran.length >= numbers.length);
    const seen = [...ran, ...theirs.ran].map(([number]) => number as number).sort((a, b) => a - b);
    expect(seen).toEqual(numbers);
    await until('all are counted', async () => (await redis.get('resque:stat:processed')) === '300');
  });

  test('a failure of either is read by the other, and retried', async () => {
    const theirs = await neighbour({ worker: { queues: ['there'] } });
    const { worker } = await startWorker();
    await theirs.call('enqueue', 'mixed', 'Boom', ['here']);
    await client.enqueue('Boom', { queue: 'there', args: ['there'] });
    await until('both have failed', async () => (await redis.llen('resque:failed')) === 2);
    await worker.stop();
    const texts = await redis.lrangeBuffer('resque:failed', 0, -1);
    const failures = texts.map((text) => decodeFailure(text));
    expect(failures.map(({ class: name, error }) => [name, error]).sort()).toEqual([
      ['Boom', 'here'],
      ['Boom', 'there'],
    ]);
    const read = await theirs.call<{ error: string; exception: string; queue: string }[]>('failed', 0, -1);
    expect(read.find(({ error }) => error === 'here')).toMatchObject({ exception: 'TypeError', queue: 'mixed' });
    await theirs.call(
      'retryAndRemoveFailed',
      read.find(({ error }) => error === 'here'),
    );
    expect(await redis.llen('resque:failed')).toBe(1);
    expect(await client.size('mixed')).toBe(1);
  });

  test('the workers of both are on one list, and what they do can be read by both', async () => {
    const theirs = await neighbour({ worker: { queues: ['there'], name: 'elsewhere:4711' } });
    await startWorker({ hostname: 'here' });
    const ids = await redis.smembers('resque:workers');
    expect(ids.filter((id) => id.startsWith('here-'))).toHaveLength(3);
    expect(ids).toContain('elsewhere:4711:there');
    const known = await theirs.call<Record<string, string>>('workers');
    expect(Object.keys(known)).toHaveLength(4);
    expect(Object.values(known).sort()).toEqual(['mixed', 'mixed', 'mixed', 'there']);
  });
});

describe('delayed jobs', () => {
  test('each moves what the other has delayed', async () => {
    const theirs = await neighbour({ scheduler: true, worker: { queues: ['there'] } });
    await client.enqueue('Echo', { queue: 'there', args: ['from here'], in: 1 });
    await until('theirs moved and ran it', () => theirs.ran.length === 1);
    expect(theirs.ran).toEqual([['from here']]);
    await theirs[Symbol.asyncDispose]();
    open.splice(open.indexOf(theirs), 1);

    const other = await neighbour();
    const { ran } = await startWorker({ scheduler: true });
    await other.call('enqueueIn', 1_000, 'mixed', 'Echo', ['from there']);
    await until('ours moved and ran it', () => ran.length === 1);
    expect(ran).toEqual([['from there']]);
    expect(await redis.keys('resque:timestamps:*')).toEqual([]);
    expect(await redis.keys('resque:delayed:*')).toEqual([]);
    expect(await redis.zcard('resque:delayed_queue_schedule')).toBe(0);
  });

  test('schedulers of both at once: each job is moved once', async () => {
    const theirs = await neighbour({ scheduler: true });
    const stop = new AbortController();
    const scheduler = new ResqueScheduler({ url: server.url });
    const running = scheduler.run(stop.signal);
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    const at = new Date(Math.ceil(Date.now() / 1000) * 1000 + 1_000);
    await Promise.all(
      numbers.map((number) =>
        number % 2 === 0
          ? client.enqueue('Echo', { queue: 'due', args: [number], at })
          : theirs.call('enqueueAt', at.getTime(), 'due', 'Echo', [number]),
      ),
    );
    await until('all are moved', async () => (await redis.llen('resque:queue:due')) >= numbers.length);
    await until('nothing is delayed', async () => (await redis.zcard('resque:delayed_queue_schedule')) === 0);
    const moved = (await redis.lrange('resque:queue:due', 0, -1)).map(
      (text) => (JSON.parse(text) as { args: [number] }).args[0],
    );
    expect(moved.sort((a, b) => a - b)).toEqual(numbers);
    stop.abort();
    await running;
  });

  test('what was delayed by either is taken back by the other', async () => {
    const theirs = await neighbour();
    await client.enqueue('Echo', { args: ['x'], in: 600 });
    // node-resque writes the members in another order, and looks for its own text only.
    const [item] = await redis.keys('resque:timestamps:*');
    expect(item).toBe('resque:timestamps:{"class":"Echo","args":["x"],"queue":"mixed"}');
    expect(await client.removeDelayed('Echo', { args: ['x'] })).toBe(1);
    await theirs.call('enqueueIn', 600_000, 'mixed', 'Echo', ['y']);
    expect(await theirs.call('delDelayed', 'mixed', 'Echo', ['y'])).toHaveLength(1);
    expect(await redis.keys('resque:timestamps:*')).toEqual([]);
  });
});
