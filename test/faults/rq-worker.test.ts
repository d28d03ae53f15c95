import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { deflateSync, inflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { dumps, loads } from '../../protocols/rq/serializers.ts';
import { currentJob, rq, type RqOptions } from '../../src/drivers/rq/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProxy } from './proxy.ts';

let server: RedisServer;
let redis: Redis;
const workers: Worker[] = [];
/** Handlers wait here until a test lets them go. */
let gates: Map<string, () => void>;
let ran: string[];

const tasks = new Tasks()
  .handle(defineTask('ok'), ({ id }) => {
    ran.push(id);
    return 'done';
  })
  .handle(defineTask('boom'), ({ id }) => {
    ran.push(id);
    throw new TypeError('boom');
  })
  .handle(defineTask('hostile'), () => ({
    get value() {
      throw new TypeError('look away');
    },
  }))
  .handle(defineTask('progress'), async (job) => {
    const own = currentJob(job);
    const saved = await own.saveMeta({ ...(own.meta as Readonly<Record<string, unknown>>), done: 0.5 });
    return [own.hash.description, saved];
  })
  .handle(defineTask('gate'), async ({ id }, { signal }) => {
    ran.push(id);
    await new Promise<void>((resolve, reject) => {
      gates.set(id, resolve);
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
    return 'through';
  });

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
  gates = new Map();
  ran = [];
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop({ timeoutMs: 0 })));
});

async function startWorker(options: Partial<RqOptions> = {}): Promise<Worker> {
  const source = rq({ url: server.url, queues: ['q'], concurrency: 4, abandonedInterval: 0.2, ...options });
  const worker = new Worker({ tasks, sources: [source], abortGraceMs: 200 });
  workers.push(worker);
  await worker.start();
  return worker;
}

type Fields = Readonly<Record<string, string | Buffer>>;

/** A job as a stranger writes it. */
async function put(
  func: string,
  fields: Fields = {},
  { id = randomUUID() as string, queue = 'q' } = {},
): Promise<string> {
  const data = deflateSync(dumps('pickle', [func, null, [], {}]));
  const hash: Fields = { data, origin: queue, status: 'queued', timeout: '180', created_at: date(), ...fields };
  await redis.hset(`rq:job:${id}`, ...Object.entries(hash).flat());
  await redis.rpush(`rq:queue:${queue}`, id);
  return id;
}

const date = (): string => `${new Date().toISOString().slice(0, -1)}000Z`;
const status = (id: string): Promise<string | null> => redis.hget(`rq:job:${id}`, 'status');
const reaches = (id: string, state: string): Promise<void> =>
  until(`${id} is ${state}`, async () => (await status(id)) === state);
const started = (id: string): Promise<void> => until(`${id} has started`, () => ran.includes(id));

async function reason(id: string): Promise<string> {
  const [entry] = await redis.xrevrangeBuffer(`rq:results:${id}`, '+', '-', 'COUNT', 1);
  const flat = (entry?.[1] ?? []) as Buffer[];
  const at = flat.findIndex((name) => String(name) === 'exc_string');
  return inflateSync(Buffer.from(String(flat[at + 1]), 'base64')).toString();
}

/** What a worker that died in the middle of a job leaves behind. */
async function die(
  id: string,
  { worker, deadline }: { readonly worker: string; readonly deadline: number },
): Promise<void> {
  const execution = randomUUID().replaceAll('-', '');
  await redis.lrem('rq:queue:q', 1, id);
  await redis.hset(`rq:job:${id}`, 'status', 'started', 'worker_name', worker, 'started_at', date());
  await redis.zadd('rq:wip:q', deadline, `${id}:${execution}`);
  await redis.zadd(`rq:executions:${id}`, deadline + 60, execution);
  await redis.hset(`rq:execution:${id}:${execution}`, 'id', execution, 'created_at', '1.0', 'last_heartbeat', '1.0');
  await redis.sadd(`rq:worker:${worker}:executions`, `${id}:${execution}`);
}

const soon = (): number => Math.floor(Date.now() / 1000) + 90;
const past = (): number => Math.floor(Date.now() / 1000) - 5;

async function nothingRuns(): Promise<void> {
  expect(await redis.keys('rq:execution*')).toEqual([]);
  expect(await redis.exists('rq:wip:q')).toBe(0);
  expect(await redis.keys('rq:worker:*:executions')).toEqual([]);
}

describe('a run whose worker is gone', () => {
  it('of a Python worker is failed once its deadline has passed, as RQ fails it', async () => {
    const id = await put('ok');
    await die(id, { worker: 'python', deadline: past() });
    await startWorker();
    await reaches(id, 'failed');
    expect(await reason(id)).toMatch(/^Moved to FailedJobRegistry, due to AbandonedJobError, at \d{4}-/);
    expect(await redis.zscore('rq:failed:q', id)).not.toBeNull();
    expect(await redis.exists('rq:wip:q')).toBe(0);
    expect(ran).toEqual([]);
  });
  it('runs again where the job has retries left', async () => {
    const id = await put('ok', { retries_left: '2' });
    await die(id, { worker: 'python', deadline: past() });
    await startWorker();
    await reaches(id, 'finished');
    expect(await redis.hget(`rq:job:${id}`, 'retries_left')).toBe('1');
  });
  it('runs again where the worker is told to', async () => {
    const id = await put('ok');
    await die(id, { worker: 'python', deadline: past() });
    await startWorker({ abandonedJobs: 'requeue' });
    await reaches(id, 'finished');
  });
  it('of RQ 1, which has no name, is failed too', async () => {
    const id = await put('ok', { status: 'started' });
    await redis.lrem('rq:queue:q', 1, id);
    await redis.zadd('rq:wip:q', past(), id);
    await startWorker();
    await reaches(id, 'failed');
    expect(await redis.exists('rq:wip:q')).toBe(0);
  });
  it('of a worker of ours is recovered when that worker has no connection, long before the deadline', async () => {
    const id = await put('ok', { retries_left: '1' });
    await die(id, { worker: 'ghost', deadline: soon() });
    await redis.hset('rq:worker:ghost', 'version', 'jobglot 0.1.0', 'birth', date(), 'queues', 'q');
    await redis.sadd('rq:workers', 'rq:worker:ghost');
    // It has been missed for a minute.
    await redis.set('jobglot:rq:missed:ghost', Date.now() - 60_000);
    await startWorker();
    await reaches(id, 'finished');
    await nothingRuns();
  });
  it('of a Python worker is not touched before its deadline', async () => {
    const id = await put('ok');
    await die(id, { worker: 'python', deadline: soon() });
    await redis.hset('rq:worker:python', 'version', '2.10.0', 'birth', date());
    await redis.sadd('rq:workers', 'rq:worker:python');
    await redis.set('jobglot:rq:missed:python', Date.now() - 60_000);
    await startWorker();
    const other = await put('ok');
    await reaches(other, 'finished');
    await until('somebody has looked', async () => (await redis.exists('jobglot:rq:watch:q')) === 1);
    await until('again', async () => (await redis.exists('jobglot:rq:watch:q')) === 0);
    expect(await status(id)).toBe('started');
  });
  it('releases the jobs that wait for it and allow its failure', async () => {
    const id = await put('ok');
    await die(id, { worker: 'python', deadline: past() });
    const child = await put('ok', { status: 'deferred', allow_dependency_failures: '1' });
    await redis.lrem('rq:queue:q', 1, child);
    await redis.zadd('rq:deferred:q', 1, child);
    await redis.sadd(`rq:job:${id}:dependents`, child);
    await redis.sadd(`rq:job::${child}:dependencies`, id);
    await startWorker();
    await reaches(child, 'finished');
    expect(await redis.exists('rq:deferred:q')).toBe(0);
  });
  it('calls the callback that is known here, and leaves the job to Python where it is not', async () => {
    const known = await put('ok', { failure_callback_name: 'cb.known' });
    const foreign = await put('ok', { failure_callback_name: 'cb.foreign' });
    for (const id of [known, foreign]) await die(id, { worker: 'python', deadline: past() });
    const seen: string[] = [];
    await startWorker({
      callbacks: {
        'cb.known': (call) => {
          if (call.event === 'failure') seen.push(`${call.job.id} ${call.error.type}`);
        },
      },
    });
    await reaches(known, 'failed');
    expect(seen).toEqual([`${known} AbandonedJobError`]);
    expect(await status(foreign)).toBe('started');
  });
});

it('an id that a Python worker took and never started goes back to its queue after a minute', async () => {
  const id = await put('ok');
  await redis.lmove('rq:queue:q', 'rq:queue:q:intermediate', 'LEFT', 'RIGHT');
  await redis.set(`rq:queue:q:intermediate:first_seen:${id}`, String(Date.now() / 1000 - 61));
  const fresh = await put('ok');
  await redis.lmove('rq:queue:q', 'rq:queue:q:intermediate', 'LEFT', 'RIGHT');
  await startWorker();
  await reaches(id, 'finished');
  expect(await redis.lrange('rq:queue:q:intermediate', 0, -1)).toEqual([fresh]);
  expect(await redis.ttl(`rq:queue:q:intermediate:first_seen:${fresh}`)).toBeGreaterThan(0);
});

it('a job that was deferred although what it waits for has failed already, which it allows, runs', async () => {
  const parent = await put('ok', { status: 'failed' });
  const other = await put('ok', { status: 'canceled' });
  await redis.del('rq:queue:q');
  const children = [
    await put('ok', { status: 'deferred', allow_dependency_failures: '1' }),
    await put('ok', { status: 'deferred' }),
    await put('ok', { status: 'deferred', allow_dependency_failures: '1' }),
    await put('ok', { status: 'deferred', allow_dependency_failures: '1' }),
  ];
  await redis.del('rq:queue:q');
  for (const [at, on] of [parent, parent, other, 'gone'].entries()) {
    const child = children[at]!;
    await redis.zadd('rq:deferred:q', past(), child);
    await redis.sadd(`rq:job:${on}:dependents`, child);
    await redis.sadd(`rq:job::${child}:dependencies`, on);
  }
  await startWorker();
  await reaches(children[0]!, 'finished');
  expect(await redis.smembers(`rq:job:${parent}:dependents`)).toEqual([children[1]]);
  for (const child of children.slice(1)) expect(await status(child)).toBe('deferred');
});

describe('a run that was taken from its worker', () => {
  it('by the one who counted it as abandoned is not written', async () => {
    const worker = await startWorker();
    const id = await put('gate');
    await started(id);
    const [member] = await redis.zrange('rq:wip:q', 0, '-1');
    await redis.zrem('rq:wip:q', String(member));
    await redis.hset(`rq:job:${id}`, 'status', 'failed');
    const settled = worker.once('job:settled');
    gates.get(id)?.();
    expect((await settled).disposition.state).toBe('requeued');
    expect(await status(id)).toBe('failed');
    expect(await redis.exists(`rq:results:${id}`)).toBe(0);
    await nothingRuns();
  });
  it('by an RQ 1 that took off what it does not understand is written all the same', async () => {
    await startWorker();
    const id = await put('gate');
    await started(id);
    await redis.del('rq:wip:q');
    gates.get(id)?.();
    await reaches(id, 'finished');
    await nothingRuns();
  });
  it('by a deletion of its job does not bring the job back', async () => {
    const worker = await startWorker();
    const id = await put('gate');
    await started(id);
    await redis.del(`rq:job:${id}`);
    const settled = worker.once('job:settled');
    gates.get(id)?.();
    expect((await settled).disposition.state).toBe('discarded');
    expect(await redis.exists(`rq:job:${id}`)).toBe(0);
    expect(await redis.exists(`rq:results:${id}`)).toBe(0);
    await nothingRuns();
  });
});

describe('what no worker can run', () => {
  const DATA = deflateSync(dumps('pickle', ['ok', null, [], {}]));
  it.each([
    ['a timeout that is no number', { data: DATA, timeout: '180.5' }, /timeout/],
    ['a status of its own', { data: DATA, status: 'running' }, /status/],
    ['a date with an offset', { data: DATA, created_at: '2026-11-20T00:00:00+00:00' }, /created_at/],
    ['an empty flag', { data: DATA, enqueue_at_front: '' }, /enqueue_at_front/],
    ['dependencies that are no JSON', { data: DATA, dependency_ids: 'a' }, /dependency_ids/],
    ['a pickle that is cut off', { data: DATA.subarray(0, 9) }, /pickle/],
    ['empty data', { data: '' }, /pickle/],
    ['a bomb', { data: deflateSync(Buffer.alloc(2 ** 21)) }, /more than the 1048576 allowed/],
    ['no call', { data: deflateSync(dumps('pickle', 7)) }, /list of four/],
  ] as const)('%s: it fails, with the reason, and the worker goes on', async (_, fields, why) => {
    const worker = await startWorker({ limits: { maxBytes: 2 ** 20 } });
    const poison = worker.once('job:poison');
    const id = await put('ok', fields as Fields);
    expect((await poison).reason).toMatch(why);
    await reaches(id, 'failed');
    expect(await reason(id)).toMatch(why);
    expect(await redis.zscore('rq:failed:q', id)).not.toBeNull();
    for (const field of Object.keys(fields).filter((name) => name !== 'data'))
      expect(await redis.hget(`rq:job:${id}`, `jobglot:broken:${field}`)).toBe((fields as Fields)[field]);
    await reaches(await put('ok'), 'finished');
    await nothingRuns();
  });
  it.each([
    ['an id with a colon', 'a:b', async () => void (await put('ok', {}, { id: 'a:b' }))],
    [
      'a key that is no hash',
      'text',
      async () => {
        await redis.set('rq:job:text', 'x');
        await redis.rpush('rq:queue:q', 'text');
      },
    ],
    [
      'a hash without data',
      'bare',
      async () => {
        await redis.hset('rq:job:bare', 'status', 'queued');
        await redis.rpush('rq:queue:q', 'bare');
      },
    ],
  ])('%s: the id is kept in quarantine, and the worker goes on', async (_, id, arrange) => {
    const worker = await startWorker();
    const poison = worker.once('job:poison');
    await arrange();
    expect(await poison).toMatchObject({ system: 'rq', queue: 'q', id });
    await until('it is kept', async () => (await redis.lrange('jobglot:rq:quarantine:q', 0, -1)).includes(id));
    await reaches(await put('ok'), 'finished');
    expect(await redis.exists('rq:failed:q')).toBe(0);
    await nothingRuns();
  });
  it('an id without a job is taken off, as RQ does', async () => {
    await redis.rpush('rq:queue:q', 'expired');
    await startWorker();
    await reaches(await put('ok'), 'finished');
    expect(await redis.llen('rq:queue:q')).toBe(0);
  });
});

describe('a function that nobody handles here', () => {
  it('is failed, or forwarded, as the worker is told', async () => {
    await startWorker({ unknownTask: 'reject' });
    const id = await put('other.func');
    await reaches(id, 'failed');
    expect(await reason(id)).toContain('ValueError: Invalid attribute name: other.func');
    await workers[0]!.stop();
    await startWorker({ unknownTask: { forward: 'python' } });
    const next = await put('other.func');
    await until('it is forwarded', async () => (await redis.llen('rq:queue:python')) === 1);
    expect(await redis.hmget(`rq:job:${next}`, 'status', 'origin', 'started_at')).toEqual(['queued', 'python', '']);
    expect(await redis.sismember('rq:queues', 'rq:queue:python')).toBe(1);
  });
  it('and a job with a callback of Python goes back, unless told otherwise', async () => {
    await startWorker({ unknownTaskDelayMs: 10_000 });
    const left = await put('ok', { success_callback_name: 'py.done' });
    await until('it is held', async () => (await status(left)) === 'started');
    await workers[0]!.stop();
    expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual([left]);
    expect(await redis.hmget(`rq:job:${left}`, 'status', 'worker_name')).toEqual(['queued', '']);
    await startWorker({ unknownCallback: 'skip' });
    await reaches(left, 'finished');
  });
});

describe('callbacks', () => {
  it('are called by name; a success whose callback throws has failed', async () => {
    const seen: string[] = [];
    await startWorker({
      callbacks: {
        'cb.done': (call) => void seen.push(call.event === 'success' ? `value ${String(call.value)}` : call.event),
        'cb.fails': () => {
          throw new RangeError('callback');
        },
        'cb.failed': (call) => void seen.push(call.event === 'failure' ? call.error.message : call.event),
      },
    });
    const good = await put('ok', { success_callback_name: 'cb.done' });
    await reaches(good, 'finished');
    const bad = await put('ok', { success_callback_name: 'cb.fails', failure_callback_name: 'cb.failed' });
    await reaches(bad, 'failed');
    expect(await reason(bad)).toContain('RangeError: callback');
    const twice = await put('boom', { failure_callback_name: 'cb.failed', retries_left: '1' });
    await reaches(twice, 'failed');
    expect(seen).toEqual(['value done', 'callback', 'boom', 'boom']);
  });
});

it('workers that claim ahead come and go: no job is lost, and none runs twice', async () => {
  const ids: string[] = [];
  for (let n = 0; n < 600; n++) ids.push(await put('ok'));
  for (let n = 1; ran.length < ids.length; n++) {
    const worker = await startWorker({ concurrency: 40 });
    await until('some more have run', () => ran.length >= Math.min(n * 60, ids.length));
    await worker.stop();
  }
  await until('all are finished', async () => (await redis.zcard('rq:finished:q')) === ids.length);
  expect([...ran].sort()).toEqual([...ids].sort());
  await nothingRuns();
});

it('jobs that do not end in time go back to the head of their queue in their order', async () => {
  const ids = [await put('gate'), await put('gate'), await put('gate')];
  const last = await put('ok', { status: 'queued' });
  const worker = await startWorker({ concurrency: 3 });
  for (const id of ids) await started(id);
  await worker.stop({ timeoutMs: 0 });
  expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual([...ids, last]);
  await nothingRuns();
});

it('a handler sees its job as RQ has it, and stores its progress in meta', async () => {
  await startWorker();
  const id = await put('progress', { description: 'half', meta: dumps('pickle', { by: 'me' }) });
  await reaches(id, 'finished');
  expect(loads((await redis.hgetBuffer(`rq:job:${id}`, 'meta'))!)).toEqual({ by: 'me', done: 0.5 });
  expect(() => currentJob({ id, task: 'x', args: [], kwargs: {}, queue: 'q', attempt: 1 })).toThrow(/no job of an RQ/);
});

it('a value that cannot even be looked at fails its job', async () => {
  await startWorker();
  const id = await put('hostile');
  await reaches(id, 'failed');
  expect(await reason(id)).toContain('TypeError: look away');
  await nothingRuns();
});

describe('webhooks', () => {
  it('are sent once the job has ended, for its status, and not for a run that is tried again', async () => {
    const heard: string[] = [];
    const http = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += String(chunk)));
      request.on('end', () => {
        heard.push(`${request.method} ${request.url} ${String(request.headers['x-key'])} ${body}`);
        response.end();
      });
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const { port } = http.address() as AddressInfo;
    const hook = (path: string, job_status: string, method: string): object => ({
      url: `http://127.0.0.1:${port}/${path}`,
      job_status,
      method,
      headers: { 'x-key': 'k' },
      timeout: 10,
    });
    const webhooks = JSON.stringify([hook('done', 'finished', 'GET'), hook('failed', 'failed', 'POST'), { url: 7 }]);
    try {
      await startWorker();
      await put('ok', { webhooks });
      const id = await put('boom', { webhooks, retries_left: '1' });
      await until('both were heard', () => heard.length === 2);
      heard.sort();
      expect(heard[0]).toBe('GET /done k ');
      const [request, body] = [heard[1]!.slice(0, 15), JSON.parse(heard[1]!.slice(15)) as Record<string, unknown>];
      expect(request).toBe('POST /failed k ');
      expect(body).toMatchObject({
        job_id: id,
        func_name: 'boom',
        status: 'failed',
        exc_info: expect.stringMatching(/TypeError: boom\n$/) as string,
      });
    } finally {
      http.close();
    }
  });
});

describe('a worker stops by itself', () => {
  const stopped = (worker: Worker): Promise<void> => until('the worker has stopped', () => worker.state === 'stopped');

  it('when its queues are empty, in a burst, and not before what runs has ended', async () => {
    const gate = await put('gate');
    const ids = [await put('ok'), await put('stranger')];
    await redis.zadd('rq:scheduled:q', 1, await put('ok', { status: 'scheduled' }));
    const worker = await startWorker({ burst: true });
    await started(gate);
    await reaches(ids[0]!, 'finished');
    expect(worker.state).toBe('running');
    gates.get(gate)?.();
    await stopped(worker);
    expect(await status(gate)).toBe('finished');
    expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual([ids[1]]);
    expect(await redis.smembers('rq:workers')).toEqual([]);
  });
  it('after so many jobs', async () => {
    const ids = [await put('ok'), await put('ok'), await put('ok')];
    await stopped(await startWorker({ maxJobs: 2 }));
    expect(ran).toEqual(ids.slice(0, 2));
    expect(await redis.lrange('rq:queue:q', 0, -1)).toEqual(ids.slice(2));
  });
  it('after so long without a job', async () => {
    await stopped(await startWorker({ maxIdleTime: 0.2 }));
  });
});

describe('a worker', () => {
  it('takes nothing while it is suspended, and shows it', async () => {
    await redis.set('rq:suspended', '1');
    await startWorker({ name: 'w' });
    const id = await put('ok');
    await until('it shows it', async () => (await redis.hget('rq:worker:w', 'state')) === 'suspended');
    expect(await status(id)).toBe('queued');
    await redis.del('rq:suspended');
    await reaches(id, 'finished');
    await until('it shows it', async () => (await redis.hget('rq:worker:w', 'state')) === 'idle');
  });
  it('of a name that lives already does not start', async () => {
    await startWorker({ name: 'w' });
    await expect(startWorker({ name: 'w' })).rejects.toThrow(/a worker named 'w' already/);
    expect(await redis.smembers('rq:workers')).toEqual(['rq:worker:w']);
    expect(await redis.hexists('rq:worker:w', 'death')).toBe(0);
  });
  it('has the name of one that was killed at once, and recovers what that one ran', async () => {
    const id = await put('ok');
    await die(id, { worker: 'w', deadline: soon() });
    await redis.hset('rq:worker:w', 'version', 'jobglot 0.1.0', 'birth', date());
    await startWorker({ name: 'w' });
    await reaches(await put('ok'), 'finished');
    expect(await redis.hget('rq:worker:w', 'pid')).toBe(String(process.pid));
    await reaches(id, 'failed');
    await nothingRuns();
    await redis.hset('rq:worker:python', 'version', '2.10.0', 'birth', date());
    await expect(startWorker({ name: 'python' })).rejects.toThrow(/a worker named 'python' already/);
  });
  it('shows itself as RQ does, with all that it runs', async () => {
    await startWorker({ name: 'w', queues: ['q', 'r'] });
    const [first, second] = [await put('gate'), await put('gate', {}, { queue: 'r' })];
    await started(first);
    await started(second);
    await until('it is busy', async () => (await redis.hget('rq:worker:w', 'state')) === 'busy');
    expect(await redis.hgetall('rq:worker:w')).toMatchObject({
      queues: 'q,r',
      pid: String(process.pid),
      current_job: first,
      ip_address: expect.stringMatching(/:\d+$/) as string,
    });
    expect((await redis.smembers('rq:worker:w:executions')).map((one) => one.split(':')[0]).sort()).toEqual(
      [first, second].sort(),
    );
    for (const queue of ['q', 'r']) expect(await redis.smembers(`rq:workers:${queue}`)).toEqual(['rq:worker:w']);
    gates.get(first)?.();
    await until('the other is current', async () => (await redis.hget('rq:worker:w', 'current_job')) === second);
  });
  it('takes one of each queue in turn, where it is told to', async () => {
    for (let n = 0; n < 3; n++) {
      await put('ok', {}, { id: `a${n}`, queue: 'a' });
      await put('ok', {}, { id: `b${n}`, queue: 'b' });
    }
    await startWorker({ queues: ['a', 'b'], concurrency: 1, dequeueStrategy: 'round_robin', burst: true });
    await until('all ran', () => ran.length === 6);
    expect(ran).toEqual(['a0', 'b0', 'a1', 'b1', 'a2', 'b2']);
  });
  it('gives its run a sign of life, and says so of itself', async () => {
    await startWorker({ name: 'w', jobMonitoringInterval: 1 });
    const id = await put('gate');
    await started(id);
    const [member, before] = await redis.zrange('rq:wip:q', 0, '-1', 'WITHSCORES');
    await until('the deadline is later', async () => (await redis.zscore('rq:wip:q', String(member))) !== before);
    expect(await redis.ttl('rq:worker:w')).toBeGreaterThan(55);
    expect(Number(await redis.hget('rq:worker:w', 'current_job_working_time'))).toBeGreaterThan(0);
  });
  it('is shown for as long as it says while it has no job, and for as long as its runs while it has some', async () => {
    await startWorker({ name: 'w', workerTtl: 300, jobMonitoringInterval: 1 });
    await startWorker({ name: 'default', queues: ['x'] });
    const ttl = (): Promise<number> => redis.ttl('rq:worker:w');
    await until('it is born', async () => (await ttl()) > 300);
    expect(await ttl()).toBeLessThanOrEqual(360);
    expect(await redis.ttl('rq:worker:default')).toBeLessThanOrEqual(90);
    await started(await put('gate'));
    await until('its next sign of life', async () => (await ttl()) <= 61);
    expect(await redis.ttl('rq:worker:w:executions')).toBeLessThanOrEqual(61);
    gates.get(ran[0]!)?.();
    await until('it is idle again', async () => (await ttl()) > 300);
  });
  it('gives signs of life before its own key is gone', async () => {
    await startWorker({ name: 'w', workerTtl: 1, jobMonitoringInterval: 600 });
    const birth = await redis.hget('rq:worker:w', 'last_heartbeat');
    await until('another one', async () => (await redis.hget('rq:worker:w', 'last_heartbeat')) !== birth);
    expect(await redis.ttl('rq:worker:w')).toBeLessThanOrEqual(61);
  });
  it('stops a job when told to, and calls what the job names for that', async () => {
    const seen: string[] = [];
    await startWorker({ name: 'w', callbacks: { 'cb.stopped': ({ event }) => void seen.push(event) } });
    const id = await put('gate', { stopped_callback_name: 'cb.stopped', retries_left: '3' });
    await started(id);
    await redis.publish('rq:pubsub:w', 'not JSON');
    await redis.publish('rq:pubsub:w', JSON.stringify({ command: 'stop-job', job_id: id }));
    await reaches(id, 'stopped');
    expect(await reason(id)).toBe('Job stopped by user, work-horse terminated.');
    expect(seen).toEqual(['stopped']);
    const killed = await put('gate', { failure_callback_name: 'cb.stopped' });
    await started(killed);
    await redis.publish('rq:pubsub:w', '{"command": "kill-horse"}');
    await reaches(killed, 'failed');
    expect(await reason(killed)).toContain('Work-horse terminated unexpectedly');
    // As in RQ, nobody is called for it.
    expect(seen).toEqual(['stopped']);
  });
});

describe('an answer that is lost with its connection', () => {
  it('to a claim: what it took is given back by the same worker, and runs once', async () => {
    await using proxy = await startProxy(server.port);
    const dropped = proxy.dropAnswerWith('lose-this-answer');
    await startWorker({ url: proxy.url, name: 'w' });
    const ids = [await put('ok', { description: 'lose-this-answer' }), await put('ok')];
    await dropped;
    for (const id of ids) await reaches(id, 'finished');
    expect([...ran].sort()).toEqual([...ids].sort());
    await nothingRuns();
    // Before its way to Redis is gone.
    await workers[0]!.stop({ timeoutMs: 0 });
  });
  it('to a settle: it is written once, and told as what it was', async () => {
    await using proxy = await startProxy(server.port);
    const worker = await startWorker({ url: proxy.url, name: 'w', withScheduler: false });
    const id = await put('gate');
    await started(id);
    const settled = worker.once('job:settled');
    // One item, done.
    const dropped = proxy.dropAnswerWith('*1\r\n:1\r\n');
    gates.get(id)?.();
    await dropped;
    expect((await settled).disposition.state).toBe('succeeded');
    expect(await redis.xlen(`rq:results:${id}`)).toBe(1);
    expect(await redis.hget('rq:worker:w', 'successful_job_count')).toBe('1');
    await nothingRuns();
    await worker.stop({ timeoutMs: 0 });
  });
  it('of all connections: an idle worker hears of pushes again', async () => {
    await using proxy = await startProxy(server.port);
    await startWorker({ url: proxy.url, name: 'w' });
    await reaches(await put('ok'), 'finished');
    proxy.cut();
    await reaches(await put('ok'), 'finished');
    const id = await put('gate');
    await started(id);
    await until('it hears commands again', async () => (await redis.pubsub('NUMSUB', 'rq:pubsub:w'))[1] === 1);
    await redis.publish('rq:pubsub:w', JSON.stringify({ command: 'stop-job', job_id: id }));
    await reaches(id, 'stopped');
    await workers[0]!.stop({ timeoutMs: 0 });
  });
});
