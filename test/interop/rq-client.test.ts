import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { encode, TimeDelta, Tuple } from '../../protocols/formats/pickle/index.ts';
import { float } from '../../protocols/formats/values.ts';
import { callString } from '../../protocols/rq/description.ts';
import { RqClient } from '../../src/drivers/rq/client.ts';
import { defineTask } from '../../src/index.ts';
import { temporaryFolder } from '../support/folder.ts';
import { type RedisServer, startRedis, until } from '../support/redis.ts';
import { rqBurst, rqPython } from './support/rq-python.ts';

const add = defineTask<(x: number, y: number) => number>('rq_client_jobs.add');
const fail = defineTask<(message: string) => never>('rq_client_jobs.fail');
const nothing = defineTask<() => null>('rq_client_jobs.nothing');

let redis: RedisServer;
let raw: Redis;
let client: RqClient;

beforeAll(async () => {
  redis = await startRedis();
  raw = redis.client();
  client = new RqClient({ url: redis.url });
});
beforeEach(async () => {
  await raw.flushall();
});
afterAll(async () => {
  await client?.close();
  await redis?.[Symbol.asyncDispose]();
});

describe.each(['rq-1.16', 'rq-2.10'])('beside Python with %s', (environment) => {
  const modern = environment !== 'rq-1.16';
  const python = (code: string): Promise<unknown> => rqPython(environment, redis.url, code);
  const burst = (...queues: string[]): Promise<void> =>
    rqBurst(environment, redis.url, queues.length === 0 ? ['default'] : queues);

  test('what is enqueued here runs there, and its result is read here', async () => {
    const [sum, none, failed] = [
      await client.enqueue(add, { args: [2, 3] }),
      await client.enqueue(nothing, {}),
      await client.enqueue(fail, { args: ['no, it is not'] }),
    ];
    const waiting = sum.get({ timeoutMs: 60_000 });
    await burst();
    expect(await waiting).toBe(5);
    expect(await none.get()).toBe(null);
    await expect(failed.get()).rejects.toMatchObject({
      name: 'RemoteError',
      type: 'ValueError',
      module: 'builtins',
      message: 'ValueError: no, it is not',
      traceback: expect.stringMatching(/^Traceback[^]*ValueError: no, it is not\n$/),
    });
    expect(await sum.status()).toBe('finished');
    expect(await failed.result()).toMatchObject({ type: 'failed' });
  });

  test('arguments are the types they were, with both serializers', async () => {
    const args = [1, float(1), 'é', null, true, [1], { a: 1 }, 12345678901234567890n];
    const pickled = await client.enqueue('rq_client_jobs.describe', { args, kwargs: { b: Buffer.from('x') } });
    await burst();
    expect(await pickled.get()).toEqual([
      [
        'int: 1',
        'float: 1.0',
        "str: 'é'",
        'NoneType: None',
        'bool: True',
        'list: [1]',
        "dict: {'a': 1}",
        'int: 12345678901234567890',
      ],
      { b: "b'x'" },
    ]);
    const json = await client.enqueue('rq_client_jobs.describe', { args, serializer: 'json', queue: 'json' });
    expect(
      await python(`
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
SimpleWorker([Queue('json', connection=connection, serializer=JSONSerializer)], connection=connection, serializer=JSONSerializer).work(burst=True, logging_level='ERROR')
from rq.job import Job
job = Job.fetch('${json.id}', connection=connection, serializer=JSONSerializer)
show(job.${modern ? 'return_value()' : 'return_value()'})`),
    ).toEqual([expect.arrayContaining(['float: 1.0', 'int: 12345678901234567890']), {}]);
    expect(await json.get()).toEqual([expect.arrayContaining(['float: 1.0']), {}]);
  });

  test('Python reads every option as its own', async () => {
    const job = await client.enqueue(add, {
      args: [1, 2],
      queue: 'high',
      jobId: 'full-1',
      jobTimeout: '3m',
      resultTtl: '1h',
      failureTtl: '2d',
      ttl: 600,
      meta: { a: 1 },
      retry: { max: 3, interval: [10, 20, 30], enqueueAtFront: true },
      onSuccess: { func: 'rq_client_jobs.on_success', timeout: 11 },
      onFailure: 'rq_client_jobs.on_failure',
      ...(modern ? { repeat: { times: 2, interval: [5, 6] }, group: 'g' } : {}),
      ...(modern ? { webhooks: [{ url: 'http://127.0.0.1:1/x', jobStatus: 'failed' as const }] } : {}),
    });
    expect(job.registered).toBe('queued');
    expect(
      await python(`
from rq import Queue
from rq.job import Job
job = Job.fetch('full-1', connection=connection)
show([job.func_name, job.args, job.kwargs, job.origin, job.timeout, job.result_ttl, job.failure_ttl, job.ttl, job.meta,
  job.retries_left, job.retry_intervals, job.description, job.get_status(), job.success_callback.__name__, job.success_callback_timeout,
  job.failure_callback.__name__, job.failure_callback_timeout, job.get_position(), connection.ttl(job.key)])`),
    ).toEqual([
      'rq_client_jobs.add',
      [1, 2],
      {},
      'high',
      180,
      3600,
      172_800,
      600,
      { a: 1 },
      3,
      [10, 20, 30],
      'rq_client_jobs.add(1, 2)',
      'queued',
      'on_success',
      11,
      'on_failure',
      60,
      0,
      expect.closeTo(600, -1),
    ]);
    if (!modern) return;
    expect(
      await python(`
from rq.job import Job
from rq.group import Group
job = Job.fetch('full-1', connection=connection)
show([job.repeats_left, job.repeat_intervals, job.enqueue_at_front_on_retry, job.group_id, [w.to_dict() for w in job.webhooks],
  [one.id for one in Group.fetch('g', connection=connection).get_jobs()], [g.name for g in Group.all(connection)]])`),
    ).toEqual([
      2,
      [5, 6],
      true,
      'g',
      [{ url: 'http://127.0.0.1:1/x', job_status: 'failed', method: 'GET', headers: null, timeout: 10 }],
      ['full-1'],
      ['g'],
    ]);
    expect(await client.groups()).toEqual(['g']);
    expect((await client.group('g')).map(({ id }) => id)).toEqual(['full-1']);
  });

  test('scheduled jobs are there for its scheduler, and run when they are due', async () => {
    const soon = await client.enqueue(add, { args: [1, 1], at: new Date(Date.now() - 5_000), atFront: true });
    const later = await client.enqueue(add, { args: [1, 2], in: '1h' });
    expect(
      await python(`
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq import Queue
registry = ScheduledJobRegistry('default', connection=connection)
before = registry.get_job_ids()
scheduler = RQScheduler(['default'], connection=connection)
scheduler.acquire_locks()
scheduler.enqueue_scheduled_jobs()
scheduler.release_locks()
show([before, registry.get_job_ids(), Queue('default', connection=connection).job_ids])`),
    ).toEqual([[soon.id, later.id], [later.id], [soon.id]]);
    await burst();
    expect(await soon.get()).toBe(2);
    expect(await later.status()).toBe('scheduled');
    expect((await client.queue().registry('scheduled').entries())[0]).toMatchObject({ id: later.id });
  });

  test('jobs wait for others, across languages, in queues of their own', async () => {
    const parent = await client.enqueue(add, { args: [1, 1], jobId: 'parent' });
    const child = await client.enqueue(add, { args: [2, 2], queue: 'other', dependsOn: parent });
    const front = await client.enqueue(add, {
      args: [3, 3],
      dependsOn: { jobs: [parent, child], enqueueAtFront: true },
    });
    const theirs = (await python(`
from rq import Queue
show(Queue('default', connection=connection).enqueue('rq_client_jobs.add', 4, 4, depends_on='${child.id}').id)`)) as string;
    expect([child.registered, front.registered]).toEqual(['deferred', 'deferred']);
    expect((await parent.dependents()).map(({ id }) => id).sort()).toEqual([child.id, front.id].sort());
    expect((await front.dependencies()).map(({ id }) => id).sort()).toEqual([child.id, 'parent'].sort());
    await burst('default', 'other');
    expect(await Promise.all([child.get(), front.get(), client.job(theirs).get()])).toEqual([4, 6, 8]);
    // What Python leaves of the sets goes with the jobs.
    for (const key of await raw.keys('rq:job:*')) expect(await raw.ttl(key), key).toBeGreaterThan(0);
  });

  test('a job whose dependency has ended already does not wait for it', async () => {
    const failed = await client.enqueue(fail, { args: ['no'] });
    const done = await client.enqueue(add, { args: [1, 1] });
    await burst();
    const after = [
      await client.enqueue(add, { args: [1, 2], dependsOn: done }),
      await client.enqueue(add, { args: [1, 3], dependsOn: 'never-there' }),
      await client.enqueue(add, { args: [1, 4], dependsOn: { jobs: [failed, done], allowFailure: true } }),
      await client.enqueue(add, { args: [1, 5], dependsOn: failed }),
    ];
    expect(after.map(({ registered }) => registered)).toEqual(['queued', 'queued', 'queued', 'deferred']);
    await burst();
    expect(await Promise.all(after.slice(0, 3).map((one) => one.get()))).toEqual([3, 4, 5]);
    expect(await after[3]?.status()).toBe('deferred');
  });

  test('many at once, each behind what it depends on', async () => {
    const first = client.prepare(add, { args: [1, 1], jobId: 'first' });
    const second = client.prepare(add, { args: [2, 2], dependsOn: first });
    const third = client.prepare(add, { args: [3, 3], dependsOn: [second] });
    const jobs = await client.enqueuePrepared([third, second, first]);
    expect(jobs.map(({ id }) => id)).toEqual([third.id, second.id, first.id]);
    expect(jobs.map(({ registered }) => registered)).toEqual(['deferred', 'deferred', 'queued']);
    await burst();
    expect(await Promise.all(jobs.map((job) => job.get()))).toEqual([6, 4, 2]);
    const many = await client.enqueueMany(
      add,
      Array.from({ length: 1200 }, (_, at) => ({ args: [at, 0] as [number, number] })),
    );
    expect(await client.queue().ids()).toEqual(many.map(({ id }) => id));
    const circle = [
      client.prepare(add, { args: [1, 1], jobId: 'a', dependsOn: 'b' }),
      client.prepare(add, { args: [1, 1], jobId: 'b', dependsOn: 'a' }),
    ];
    await expect(client.enqueuePrepared(circle)).rejects.toThrow(/a, b wait for each other/);
    expect(await client.queue().empty()).toBe(1200);
    expect((await raw.keys('rq:job:*')).filter((key) => key.split(':').length === 3)).toHaveLength(3);
  });

  test('a job is retried, and its callbacks are called', async () => {
    const job = await client.enqueue('rq_client_jobs.flaky', {
      args: ['tries'],
      retry: { max: 2 },
      onSuccess: 'rq_client_jobs.on_success',
      onFailure: 'rq_client_jobs.on_failure',
    });
    const waiting = job.get({ timeoutMs: 60_000 });
    await burst();
    expect(await waiting).toBe('then');
    expect(await raw.lrange('calls', 0, -1)).toEqual([`failure ${job.id} RuntimeError`, `success ${job.id} 'then'`]);
  });

  test('meta goes there and comes back', async () => {
    const job = await client.enqueue('rq_client_jobs.progress', { meta: { step: 1, kept: 'é' } });
    await burst();
    expect(await job.meta()).toEqual({ step: 2, kept: 'é' });
    await job.saveMeta({ step: 3 });
    expect(
      await python(`
from rq.job import Job
show(Job.fetch('${job.id}', connection=connection).meta)`),
    ).toEqual({ step: 3 });
  });

  test('what is canceled, requeued and deleted here is so there', async () => {
    const [canceled, failed, gone] = await Promise.all([
      client.enqueue(add, { args: [1, 1], jobId: 'canceled' }),
      client.enqueue(fail, { args: ['x'], jobId: 'failed', queue: 'other' }),
      client.enqueue(add, { args: [1, 1], jobId: 'gone', queue: 'other' }),
    ]);
    const child = await client.enqueue(add, { args: [5, 5], dependsOn: canceled });
    await burst('other');
    expect(await canceled.cancel({ enqueueDependents: true })).toBe(1);
    await expect(canceled.cancel()).rejects.toMatchObject({ code: 'invalid-operation' });
    await expect(canceled.get()).rejects.toMatchObject({ code: 'canceled' });
    expect(await gone.delete()).toBe(true);
    await expect(gone.get()).rejects.toMatchObject({ code: 'no-such-job' });
    expect(await raw.keys('*gone*')).toEqual([]);
    expect(
      await python(`
from rq import Queue
from rq.job import Job
from rq.registry import *
names = lambda registry, queue: registry(queue, connection=connection).get_job_ids()
show([Queue('default', connection=connection).job_ids, names(CanceledJobRegistry, 'default'), names(FailedJobRegistry, 'other'), names(FinishedJobRegistry, 'other'),
  Job.fetch('canceled', connection=connection).is_canceled])`),
    ).toEqual([[child.id], ['canceled'], ['failed'], [], true]);
    await failed.requeue();
    await canceled.requeue({ atFront: true });
    await expect(failed.requeue()).rejects.toMatchObject({ code: 'invalid-operation' });
    expect(
      await python(`
from rq import Queue
from rq.job import Job
show([[Queue(name, connection=connection).job_ids for name in ('default', 'other')], [Job.fetch(id, connection=connection).get_status() for id in ('canceled', 'failed')], connection.ttl('rq:job:failed')])`),
    ).toEqual([[['canceled', child.id], ['failed']], ['queued', 'queued'], -1]);
    const again = expect(failed.get({ timeoutMs: 60_000 })).rejects.toThrow('ValueError: x');
    await burst('default', 'other');
    await again;
    expect(await canceled.get()).toBe(2);
    expect(await failed.results()).toHaveLength(2);
    expect(await client.queue('other').registry('failed').requeue()).toBe(1);
    expect(await client.queue('other').counts()).toEqual({
      queued: 1,
      started: 0,
      finished: 0,
      failed: 0,
      deferred: 0,
      scheduled: 0,
      canceled: 0,
    });
  });

  test('a job with an id of its own is there once', async () => {
    const call = { args: [1, 1] as [number, number], jobId: 'once', unique: true };
    await client.enqueue(add, call);
    await expect(client.enqueue(add, call)).rejects.toMatchObject({ code: 'duplicate-job' });
    expect(await client.queue().ids()).toEqual(['once']);
    await burst();
    const again = await client.enqueue(add, { args: [2, 2], jobId: 'once' });
    const waiting = again.get({ timeoutMs: 60_000 });
    await burst();
    // Not the 2 of the job before.
    expect(await waiting).toBe(4);
  });

  test('workers of Python are listed, suspended, told', async () => {
    await client.suspend();
    expect(await python(`from rq.suspension import is_suspended; show(bool(is_suspended(connection)))`)).toBe(true);
    await client.resume();
    expect(await client.isSuspended()).toBe(false);
    const worker = python(`
from rq import Queue, Worker
Worker([Queue('a', connection=connection), Queue('b', connection=connection)], name='w1', connection=connection).work(logging_level='ERROR')`);
    await until('the worker is there', async () => (await client.workers())[0]?.state === 'idle');
    const [found] = await client.workers('b');
    expect(found).toMatchObject({ name: 'w1', queues: ['a', 'b'], state: 'idle', successfulJobCount: 0 });
    expect(await client.command('w1', { command: 'shutdown' })).toBe(true);
    await worker;
    expect(await client.workers()).toEqual([]);
    expect(await client.command('w1', { command: 'shutdown' })).toBe(false);
  });
});

test('waiting ends by its limit, by a signal, and by the end of the client', async () => {
  const job = await client.enqueue(add, { args: [1, 1] });
  await expect(job.get({ timeoutMs: 20 })).rejects.toMatchObject({ code: 'result-timeout' });
  const stop = new AbortController();
  const waiting = expect(job.get({ signal: stop.signal })).rejects.toThrow('enough');
  stop.abort(new Error('enough'));
  await waiting;
  await using other = new RqClient({ url: redis.url });
  const closed = expect(other.job(job.id).get()).rejects.toMatchObject({ code: 'connection' });
  await until('somebody waits', async () => String(await raw.client('LIST')).split('\n').length > 4);
  await other.close();
  await closed;
});

test('waiting survives a server that was away', async () => {
  const server = await startRedis({ persistence: true });
  try {
    await using away = new RqClient({ url: server.url });
    const job = await away.enqueue(add, { args: [1, 1] });
    const waiting = job.get({ timeoutMs: 60_000 });
    const store = server.client();
    // A server that was never there ends the waiting.
    await until('it has looked once', async () => String(await store.client('LIST')).includes('cmd=xrevrange'));
    await server.restart();
    await rqBurst('rq-2.10', server.url, ['default']);
    expect(await waiting).toBe(2);
  } finally {
    await server[Symbol.asyncDispose]();
  }
});

test('a call is described as Python would describe it, whatever its arguments', async () => {
  const values = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      // Which characters of later blocks can be printed depends on the Unicode of either side.
      fc.string({ unit: fc.integer({ min: 0, max: 0x2ff }).map((code) => String.fromCodePoint(code)) }),
      fc.string({ unit: fc.constantFrom("'", '"', '\\', 'a', '\n', 'é', '😀', '\u0000', '\u00ad', '\u3000') }),
      fc.maxSafeInteger(),
      fc.bigInt(),
      fc.double(),
      fc.constantFrom(null, true, false, float(1), float(-0), float(1e22)),
      fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.array(tie('value'), { maxLength: 4 }).map((items) => Tuple.from(items)),
      fc.dictionary(fc.string(), tie('value'), { maxKeys: 4, noNullPrototype: true }),
      fc.date({ noInvalidDate: true, min: new Date('1000-01-01'), max: new Date('9000-01-01') }),
      fc.integer({ min: -1e9, max: 1e9 }).map((ms) => TimeDelta.fromMilliseconds(ms)),
    ),
  })).value;
  const calls = fc.sample(
    fc.tuple(
      fc.array(values, { maxLength: 3 }),
      fc.dictionary(fc.string(), values, { maxKeys: 3, noNullPrototype: true }),
    ),
    { numRuns: 2000, seed: 20261121 },
  );
  const path = join(temporaryFolder('jobglot-rq-'), 'calls.txt');
  await writeFile(path, calls.map(([args, kwargs]) => encode([args, kwargs]).toString('base64')).join('\n'));
  const theirs = (await rqPython(
    'rq-2.10',
    redis.url,
    `
import base64, pickle
from rq.utils import get_call_string
out = []
for line in open(${JSON.stringify(path)}):
    args, kwargs = pickle.loads(base64.b64decode(line))
    out.append(base64.b64encode(get_call_string('f', args, kwargs, max_length=75).encode('utf-8', 'surrogatepass')).decode())
show(out)`,
  )) as readonly string[];
  expect(theirs).toHaveLength(calls.length);
  for (const [at, [args, kwargs]] of calls.entries())
    expect(callString('f', args, kwargs)).toBe(Buffer.from(theirs[at] as string, 'base64').toString('utf8'));
});

test("jobs that wait for others survive the cleaning of RQ 2.0, with '+inf' as their score", async () => {
  await using careful = new RqClient({ url: redis.url, deferredScore: '+inf' });
  const parent = await careful.enqueue(add, { args: [1, 1] });
  const child = await careful.enqueue(add, { args: [2, 2], dependsOn: parent });
  expect(
    await rqPython(
      'rq-2.0',
      redis.url,
      `
from rq.registry import DeferredJobRegistry
registry = DeferredJobRegistry('default', connection=connection)
registry.cleanup()
show(registry.get_job_ids())`,
    ),
  ).toEqual([child.id]);
  await rqBurst('rq-2.0', redis.url, ['default']);
  expect(await child.get({ timeoutMs: 60_000 })).toBe(4);
});

test('what RQ before 1.12 leaves in the hash of a job is read as its result', async () => {
  const jobs = await client.enqueueMany('f', [{}, {}, {}]);
  const [done, none, failed] = jobs;
  const waiting = Promise.allSettled(jobs.map((job) => job.get({ timeoutMs: 60_000 })));
  await raw.hset(`rq:job:${done?.id}`, 'status', 'finished', 'result', Buffer.from('80054b052e', 'hex'));
  await raw.hset(`rq:job:${none?.id}`, 'status', 'finished');
  const traceback = 'Traceback (most recent call last):\n  File "a", line 1, in f\nKeyError: 1\n';
  await raw.hset(`rq:job:${failed?.id}`, 'status', 'failed', 'exc_info', deflateSync(traceback));
  expect(await waiting).toMatchObject([
    { status: 'fulfilled', value: 5 },
    { status: 'fulfilled', value: null },
    { status: 'rejected', reason: { name: 'RemoteError', type: 'KeyError', traceback } },
  ]);
});
