import { randomUUID } from 'node:crypto';
import { deflateSync, inflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import * as pickle from '../../protocols/formats/pickle/index.ts';
import { dumps } from '../../protocols/rq/serializers.ts';
import type { RqOptions } from '../../src/drivers/rq/index.ts';
import { Retry } from '../../src/signals.ts';
import { PythonRq } from '../support/python-rq.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { type RqScene, startRqWorker } from './rq-scene.ts';

/** What a worker is told from outside, and what it tells of what it cannot run. */
let server: RedisServer;
let redis: Redis;
let ran: string[];
let gates: Map<string, () => void>;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await redis.flushall();
  ran = [];
  gates = new Map();
});

function startWorker(options: Partial<RqOptions> = {}): Promise<RqScene> {
  return startRqWorker(
    { url: server.url, queues: ['q'], name: 'w', ...options },
    {
      ok: ({ id }) => void ran.push(id),
      again: () => {
        throw new Retry({ delayMs: 0, cause: new TypeError('not yet') });
      },
      states: (_, context) => context.update('PROGRESS', { done: 1 }),
      gate: ({ id }, { signal }) =>
        new Promise((resolve, reject) => {
          gates.set(id, () => resolve(null));
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        }),
    },
  );
}

async function put(
  func: string,
  { fields = {}, instance = null, queue = 'q' }: { fields?: object; instance?: unknown; queue?: string } = {},
): Promise<string> {
  const id = randomUUID() as string;
  await redis.hset(`rq:job:${id}`, {
    data: deflateSync(dumps('pickle', [func, instance, [], {}])),
    origin: queue,
    status: 'queued',
    timeout: '180',
    created_at: '2026-11-21T00:00:00.000000Z',
    ...fields,
  });
  await redis.rpush(`rq:queue:${queue}`, id);
  return id;
}

const status = (id: string): Promise<string | null> => redis.hget(`rq:job:${id}`, 'status');
const reaches = (id: string, state: string): Promise<void> =>
  until(`${id} is ${state}`, async () => (await status(id)) === state);

async function reason(id: string): Promise<string> {
  const [entry] = await redis.xrevrange(`rq:results:${id}`, '+', '-', 'COUNT', 1);
  const flat = entry?.[1] ?? [];
  return inflateSync(Buffer.from(flat[flat.indexOf('exc_string') + 1] ?? '', 'base64')).toString();
}

it('stop-execution ends the run it names, and no other', async () => {
  await using _ = await startWorker();
  const [one, other] = [await put('gate'), await put('gate')];
  await until('both run', () => gates.size === 2);
  const [execution] = await redis.zrange(`rq:executions:${one}`, 0, '-1');
  const tell = (job_id: string, execution_id: unknown): Promise<number> =>
    redis.publish('rq:pubsub:w', JSON.stringify({ command: 'stop-execution', job_id, execution_id }));
  await tell(other, execution);
  await tell(one, execution);
  await reaches(one, 'stopped');
  expect(await status(other)).toBe('started');
});

it('a method of a Python object fails clearly where it is to be rejected, and waits for Python else', async () => {
  const instance = new pickle.PyObject(new pickle.PyGlobal('app.models', 'Account'), new pickle.Tuple(), 'new');
  instance.state = { id: 7 };
  const id = await put('ok', { instance });
  {
    await using _ = await startWorker({ unknownTask: 'reject' });
    await reaches(id, 'failed');
    expect(await reason(id)).toContain("'ok' is a method of a Python object");
    expect(await redis.zscore('rq:failed:q', id)).not.toBeNull();
  }
  const left = await put('ok', { instance });
  await using _ = await startWorker({ unknownTaskDelayMs: 10 });
  await reaches(await put('ok'), 'finished');
  expect(['queued', 'started']).toContain(await status(left));
  expect(ran).not.toContain(left);
});

it('a job with a rate limit is left to the workers of RQ that keep it', async () => {
  const id = await put('ok', { fields: { rate_limit_key: 'k', rate_limit_concurrency: '1' } });
  await using scene = await startWorker({ unknownTaskDelayMs: 10_000 });
  await until('it is told', () => scene.lines.some(({ message }) => message.includes('it has a rate limit')));
  await scene.worker.stop();
  expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual([id]);
});

it('each queue is served in a random order, where it is told to', async () => {
  for (let n = 0; n < 40; n++)
    for (const queue of ['a', 'b']) await put('ok', { queue, fields: { description: queue } });
  await using scene = await startWorker({ queues: ['a', 'b'], concurrency: 1, dequeueStrategy: 'random', burst: true });
  await until('it has stopped', () => scene.worker.state === 'stopped');
  expect(ran).toHaveLength(80);
  const served: string[] = [];
  for (const id of ran) served.push((await redis.hget(`rq:job:${id}`, 'origin')) ?? '');
  // Neither strictly one after the other.
  expect(served.lastIndexOf('a')).toBeGreaterThan(served.indexOf('b'));
  expect(served.lastIndexOf('b')).toBeGreaterThan(served.indexOf('a'));
});

it('a worker that runs its last jobs shows since when', async () => {
  await using scene = await startWorker();
  const id = await put('gate');
  await until('it runs', () => gates.has(id));
  const stopped = scene.worker.stop();
  await until('it is shown', async () => (await redis.hexists('rq:worker:w', 'shutdown_requested_date')) === 1);
  gates.get(id)?.();
  await stopped;
  expect(await status(id)).toBe('finished');
});

it('a run that asks for another each time has failed after three, and Python reads why', async () => {
  await using python = await PythonRq.start('2.10', server.url);
  const id = await put('again');
  await using _ = await startWorker();
  await reaches(id, 'failed');
  const source = `
job = Job.fetch(id, connection=connection)
result = [[r.type.name for r in job.results()], job.latest_result().return_value.max, job.get_status().value]`;
  expect(await python.run(source, { id })).toEqual([
    ['MAX_RETRIES_EXCEEDED', 'RETRIED', 'RETRIED', 'RETRIED'],
    3,
    'failed',
  ]);
});

it('a state of its own is refused, and the handler is told where to put it', async () => {
  const id = await put('states');
  await using _ = await startWorker();
  await reaches(id, 'failed');
  expect(await reason(id)).toContain('saveMeta()');
});

it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])(
  'a function, a callback, a queue called %s is nobody here',
  async (name) => {
    const [func, called, queued] = [
      await put(name),
      await put('ok', { fields: { success_callback_name: name, failure_callback_name: name } }),
      await put('ok', { queue: name }),
    ];
    await using _ = await startWorker({ queues: ['q', name], unknownTask: 'reject', unknownCallback: 'skip' });
    await reaches(func, 'failed');
    expect(await reason(func)).toContain(`ValueError: Invalid attribute name: ${name}`);
    await reaches(called, 'finished');
    await reaches(queued, 'finished');
    expect(ran.sort()).toEqual([called, queued].sort());
  },
);
