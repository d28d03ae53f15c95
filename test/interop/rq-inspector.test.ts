import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { explain } from '../../protocols/rq/explain.ts';
import { RqCron, RqInspector } from '../../src/drivers/rq/index.ts';
import { ConfigError } from '../../src/index.ts';
import type { InspectedJob, Inspector, JobFilter } from '../../src/inspector.ts';
import { RqStage, until } from './support/rq-stage.ts';

let stage: RqStage;
let inspector: Inspector;

beforeAll(async () => {
  stage = await RqStage.start('2.10');
  inspector = new RqInspector({ url: stage.redis.url });
});
beforeEach(async () => {
  await stage.store.flushall();
});
afterAll(async () => {
  await inspector?.close();
  await stage?.[Symbol.asyncDispose]();
});

async function all(set: string, limit = 25, filter?: JobFilter): Promise<readonly InspectedJob[]> {
  const jobs: InspectedJob[] = [];
  for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
    const page = await inspector.jobs(set, {
      limit,
      ...(cursor === undefined ? {} : { cursor }),
      ...(filter === undefined ? {} : { filter }),
    });
    jobs.push(...page.jobs);
    cursor = page.cursor;
  }
  return jobs;
}

const ids = (jobs: readonly InspectedJob[]): readonly string[] => jobs.map(({ id }) => id);
const status = (id: string): Promise<string | null> => stage.store.hget(`rq:job:${id}`, 'status');

/** Jobs of Python in every state, in two queues. */
const SCENE = `
from rq import Queue, Retry
from rq.job import Job
from datetime import timedelta
a, b = Queue('a', connection=connection), Queue('b', connection=connection)
for n in range(3): a.enqueue('rq_app.add', n, 2, job_id=f'a{n}', meta={'n': n})
b.enqueue('rq_py.echo', x=1.0, job_id='b0')
a.enqueue_in(timedelta(hours=1), 'rq_app.add', 1, 2, job_id='later')
a.enqueue('rq_app.add', 1, 2, job_id='child', depends_on='a0')
a.enqueue('rq_app.add', 1, 2, job_id='off').cancel()
result = None`;

describe('reads', () => {
  test('sets of every kind, with the jobs of Python', async () => {
    await stage.python.run(SCENE);
    const { counts, workers, busy } = await inspector.overview();
    expect(counts).toEqual({
      queued: 4,
      started: 0,
      scheduled: 1,
      deferred: 1,
      finished: 0,
      failed: 0,
      canceled: 1,
      quarantine: 0,
    });
    expect([workers, busy]).toEqual([0, 0]);
    expect(inspector.sets.map(({ name }) => name)).toEqual([
      'queued',
      'started',
      'scheduled',
      'deferred',
      'finished',
      'failed',
      'stopped',
      'canceled',
      'quarantine',
    ]);
    expect(ids(await all('queued'))).toEqual(['a0', 'a1', 'a2', 'b0']);
    const [first] = await all('queued');
    expect(first).toMatchObject({ task: 'rq_app.add', queue: 'a', state: 'queued', attempts: 0, set: 'queued' });
    expect(first?.args?.map(String)).toEqual(['0', '2']);
    const [later] = await all('scheduled');
    expect(later).toMatchObject({ id: 'later', state: 'scheduled' });
    expect(later?.dueAt?.getTime()).toBeGreaterThan(Date.now() + 3_000_000);
    expect(await all('deferred')).toMatchObject([{ id: 'child', links: { dependencies: ['a0'] } }]);
    expect(ids(await all('canceled'))).toEqual(['off']);
    const queues = await inspector.queues();
    expect(queues).toMatchObject([
      { name: 'a', size: 3, paused: false, consumers: 0 },
      { name: 'b', size: 1 },
    ]);
    expect(queues[0]?.latencyMs).toBeGreaterThan(0);
    expect(queues[0]?.latencyMs).toBeLessThan(60_000);
  });

  test('one job, with what every field means and its bytes', async () => {
    await stage.python.run(SCENE);
    const job = await inspector.job('a0');
    expect(job).toMatchObject({ id: 'a0', set: 'queued', links: { dependents: ['child'] } });
    expect(job?.explanation?.summary).toBe('A job, queued: rq_app.add(0, 2)');
    expect(explain(job?.raw as Uint8Array)).toEqual(job?.explanation);
    expect((await inspector.job('later'))?.dueAt).toBeInstanceOf(Date);
    expect((await inspector.job('b0'))?.kwargs?.['x']).toMatchObject({ text: '1.0' });
    expect(await inspector.job('nobody')).toBeUndefined();
  });

  test('pages that neither repeat nor leave out a job, over several queues', async () => {
    await using client = stage.client();
    for (const queue of ['p1', 'p2', 'p3'])
      await client.enqueueMany(
        'app.page',
        Array.from({ length: 7 }, (_, at) => ({ queue, jobId: `${queue}-${at}` })),
      );
    const first = await inspector.jobs('queued', { limit: 7 });
    expect(first).toMatchObject({ total: 21, cut: false });
    expect(first.cursor).toBeDefined();
    for (const limit of [1, 2, 3, 7, 20, 21, 22]) {
      const found = ids(await all('queued', limit));
      expect([limit, found.length, new Set(found).size]).toEqual([limit, 21, 21]);
    }
    expect((await inspector.jobs('queued', { limit: 21 })).cursor).toBeUndefined();
    expect((await inspector.jobs('queued', { queue: 'p2' })).total).toBe(7);
    // What is taken off the head between two pages leaves no job out.
    await stage.store.lpop('rq:queue:p1', 5);
    expect(ids((await inspector.jobs('queued', { limit: 2, cursor: first.cursor as string })).jobs)).toEqual([
      'p2-0',
      'p2-1',
    ]);
    await expect(inspector.jobs('queued', { cursor: 'nonsense' })).rejects.toThrow(ConfigError);
    await expect(inspector.jobs('dead')).rejects.toThrow(/there are queued, started/);
    await expect(inspector.jobs('queued', { limit: 0 })).rejects.toThrow(/from 1 to 1000/);
  });

  test('a search that ends at its bound, and goes on', async () => {
    await using client = stage.client();
    await client.enqueueMany(
      'app.hay',
      Array.from({ length: 2_500 }, () => ({ queue: 'hay' })),
    );
    const needle = await client.enqueue('app.needle', { queue: 'hay', args: ['in the hay'] });
    const first = await inspector.jobs('queued', { filter: { task: 'app.needle' } });
    expect(first).toMatchObject({ jobs: [], cut: true, total: 2_501 });
    expect(first.cursor).toBeDefined();
    expect(ids(await all('queued', 25, { task: 'app.needle' }))).toEqual([needle.id]);
    expect(ids(await all('queued', 25, { text: 'in the hay' }))).toEqual([needle.id]);
    expect(ids(await all('queued', 25, { id: needle.id, task: 'app.needle' }))).toEqual([needle.id]);
  });

  test('results and failures, with the traceback of Python', async () => {
    const [good, bad] = (await stage.python.run(`
from rq import Queue, SimpleWorker
queue = Queue('ends', connection=connection)
jobs = [queue.enqueue('rq_app.add', 1.5, 1.5), queue.enqueue('rq_app.out_of_stock', 'tea', 0)]
SimpleWorker([queue], connection=connection).work(burst=True, logging_level='ERROR')
result = [job.id for job in jobs]`)) as [string, string];
    expect(await inspector.job(good)).toMatchObject({ state: 'finished', result: { text: '3.0' }, attempts: 1 });
    const [failed] = await all('failed');
    expect(failed).toMatchObject({ id: bad, state: 'failed', set: 'failed', attempts: 1 });
    expect(failed?.error).toMatchObject({ type: 'rq_app.OutOfStock' });
    expect(failed?.error?.traceback).toContain('Traceback (most recent call last)');
    expect(await all('stopped')).toEqual([]);
  });

  test('ids that are no jobs, in quarantine', async () => {
    await using _ = await stage.node({ queues: ['odd'] });
    await stage.store.hset('rq:job:no-data', 'status', 'queued');
    await stage.store.rpush('rq:queue:odd', 'a:b', Buffer.from([0xff, 0xfe]), 'no-data');
    await stage.store.sadd('rq:queues', 'rq:queue:odd');
    await until('they stand aside', async () => (await stage.store.llen('jobglot:rq:quarantine:odd')) === 3);
    const jobs = await all('quarantine', 2);
    expect(jobs.map(({ id, state }) => [id.length > 20 ? 'digest' : id, state]).sort()).toEqual([
      ['a:b', 'bad-id'],
      ['digest', 'bad-id'],
      ['no-data', 'no-data'],
    ]);
    expect(await inspector.job('a:b')).toMatchObject({ set: 'quarantine', state: 'bad-id', queue: 'odd' });
    const digest = ids(jobs).find((id) => id.length > 20) as string;
    const twice = await Promise.all(
      [1, 2].map(() => inspector.act('delete', { ids: [digest, 'a:b'], set: 'quarantine' })),
    );
    expect(twice.reduce((sum, { done }) => sum + done, 0)).toBe(2);
    expect(twice.flatMap(({ gone }) => gone).sort()).toEqual([digest, 'a:b'].sort());
    expect(await stage.store.lrange('jobglot:rq:quarantine:odd:why', 0, -1)).toEqual(['no-data']);
  });

  test('workers of both languages, and what each runs', async () => {
    await using python = await stage.worker({ queues: ['py'], kind: 'SimpleWorker' });
    await using node = await stage.node({ queues: ['js'] });
    await using client = stage.client();
    const slow = await client.enqueue('rq_app.slow', { queue: 'py', args: [30] });
    const jobs = await client.enqueueMany('rq_app.slow', [
      { queue: 'js', args: [30] },
      { queue: 'js', args: [30] },
    ]);
    await until('all run', async () => (await inspector.overview()).counts['started'] === 3);
    const workers = await inspector.workers();
    const of = (language: string): unknown => workers.find((one) => one.language === language);
    expect(workers.length).toBe(2);
    expect(of('Python')).toMatchObject({ version: expect.stringMatching(/^RQ 2\.10/), queues: ['py'], state: 'busy' });
    expect(of('Python')).toMatchObject({
      running: [{ id: slow.id, task: 'rq_app.slow', queue: 'py' }],
      concurrency: 1,
    });
    expect(of('Node')).toMatchObject({ id: node.name, pid: process.pid, state: 'busy' });
    expect((of('Node') as { running: readonly { id: string }[] }).running.map(({ id }) => id).sort()).toEqual(
      jobs.map(({ id }) => id).sort(),
    );
    expect(await inspector.overview()).toMatchObject({ workers: 2, busy: 2 });
    expect(await all('started')).toMatchObject([{ state: 'started' }, { state: 'started' }, { state: 'started' }]);
    expect((await inspector.queues()).map(({ name, consumers }) => [name, consumers])).toEqual([
      ['js', 1],
      ['py', 1],
    ]);
    // A running job is ended by its worker.
    const [first] = jobs;
    expect(await inspector.act('retry', { ids: [first?.id as string] })).toMatchObject({ done: 0, refused: [{}] });
    expect(await inspector.act('terminate', { ids: [first?.id as string] })).toMatchObject({ done: 1 });
    await until('it was stopped', async () => (await status(first?.id as string)) === 'stopped');
    expect(ids(await all('stopped'))).toEqual([first?.id]);
    expect(await inspector.act('terminate', { ids: ['nobody', first?.id as string] })).toMatchObject({
      done: 0,
      gone: ['nobody'],
      refused: [{ id: first?.id, reason: 'it is stopped; no worker runs it' }],
    });
    // Of two workers that are told to end, the Python one still runs its job.
    expect(await inspector.act('unregister', { worker: node.name })).toMatchObject({ refused: [{ id: node.name }] });
    expect(await inspector.act('stop', { worker: 'nobody' })).toEqual({ done: 0, gone: ['nobody'], refused: [] });
    expect(await inspector.act('terminate', { set: 'started', queue: 'js' })).toMatchObject({ done: 1 });
    expect(await inspector.act('stop', { all: true })).toEqual({ done: 2, gone: [], refused: [] });
    await until('it stops', () => Promise.resolve(node.worker.state !== 'running'));
    await python.kill();
  });

  test('what rq cron lists', async () => {
    await using cron = new RqCron({
      url: stage.redis.url,
      jobs: [
        { func: 'app.tidy', queueName: 'default', interval: 3_600 },
        { func: 'app.report', queueName: 'slow', cron: '0 7 * * *' },
      ],
    });
    await using other = new RqCron({
      url: stage.redis.url,
      jobs: [{ func: 'app.tidy', queueName: 'default', interval: 3_600 }],
    });
    await cron.start();
    await other.start();
    const schedules = await inspector.schedules();
    expect(schedules).toMatchObject([
      { name: 'app.tidy every 3600s', kind: 'rq-cron', queue: 'default', task: 'app.tidy', enabled: true },
      { name: 'app.report 0 7 * * *', when: '0 7 * * *', queue: 'slow', lastRunAt: undefined },
    ]);
    expect(schedules[0]?.nextRunAt?.getTime()).toBeGreaterThan(Date.now() + 3_000_000);
  });
});

describe('acts', () => {
  const FAILED = `
from rq import Queue, SimpleWorker
queue = Queue('ends', connection=connection)
for n in range(count): queue.enqueue('rq_app.fail', n, job_id=f'f{n}')
for n in range(3): queue.enqueue('rq_app.out_of_stock', 'tea', n, job_id=f'o{n}')
SimpleWorker([queue], connection=connection).work(burst=True, logging_level='CRITICAL')
result = None`;

  test('retry: by id, once however many ask, and says what is gone', async () => {
    await stage.python.run(FAILED, { count: 2 });
    const both = await Promise.all([1, 2].map(() => inspector.act('retry', { ids: ['f0', 'nobody'] })));
    expect(both.map(({ done }) => done).sort()).toEqual([0, 1]);
    expect(both.flatMap(({ gone }) => gone).sort()).toEqual(['f0', 'nobody', 'nobody']);
    expect(await stage.store.lrange('rq:queue:ends', 0, -1)).toEqual(['f0']);
    expect(await status('f0')).toBe('queued');
    expect(await inspector.act('requeue', { ids: ['f1'], set: 'failed' })).toEqual({ done: 1, gone: [], refused: [] });
    expect(await inspector.act('retry', { ids: ['f1'], set: 'failed' })).toEqual({
      done: 0,
      gone: ['f1'],
      refused: [],
    });
  });

  test('retry: a whole set, and those of it that match, in steps', async () => {
    await stage.python.run(FAILED, { count: 250 });
    const told: number[] = [];
    const some = await inspector.act('retry', { set: 'failed', filter: { task: 'rq_app.out_of_stock' } });
    expect(some).toEqual({ done: 3, gone: [], refused: [] });
    const rest = await inspector.act(
      'retry',
      { set: 'failed', queue: 'ends' },
      { onProgress: ({ done, total }) => void told.push(done, total ?? -1) },
    );
    expect(rest.done).toBe(250);
    expect(told).toEqual([100, 250, 200, 250, 250, 250]);
    expect(await stage.store.zcard('rq:failed:ends')).toBe(0);
    expect(new Set(await stage.store.lrange('rq:queue:ends', 0, -1)).size).toBe(253);
  });

  test('a long action ends where its signal says so', async () => {
    await stage.python.run(FAILED, { count: 150 });
    const stop = new AbortController();
    const { done } = await inspector.act(
      'delete',
      { set: 'failed' },
      { signal: stop.signal, onProgress: () => stop.abort() },
    );
    expect(done).toBe(100);
    expect(await stage.store.zcard('rq:failed:ends')).toBe(53);
  });

  test('run, delete, cancel: each once', async () => {
    await stage.python.run(SCENE);
    const twice = async (act: () => ReturnType<Inspector['act']>): Promise<unknown> => {
      const answers = await Promise.all([act(), act()]);
      return [answers.map(({ done }) => done).sort(), answers.flatMap(({ gone }) => gone)];
    };
    expect(await twice(() => inspector.act('run', { ids: ['later'] }))).toEqual([[0, 1], ['later']]);
    expect(await stage.store.lrange('rq:queue:a', 0, -1)).toEqual(['a0', 'a1', 'a2', 'later']);
    expect(await inspector.act('run', { ids: ['child'] })).toMatchObject({ refused: [{ id: 'child' }] });
    expect(await twice(() => inspector.act('cancel', { ids: ['a1'] }))).toEqual([[0, 1], ['a1']]);
    expect(await status('a1')).toBe('canceled');
    expect(await twice(() => inspector.act('delete', { ids: ['a2'] }))).toEqual([[0, 1], ['a2']]);
    expect(await inspector.job('a2')).toBeUndefined();
    expect(await inspector.act('delete', { set: 'queued', queue: 'a', filter: { id: 'a0' } })).toMatchObject({
      done: 1,
    });
    expect(await inspector.act('delete', { set: 'queued' })).toEqual({ done: 2, gone: [], refused: [] });
    expect(await inspector.act('delete', { queue: 'nobody' })).toEqual({ done: 0, gone: ['nobody'], refused: [] });
    expect(await inspector.act('delete', { queue: 'a' })).toEqual({ done: 1, gone: [], refused: [] });
    expect((await inspector.overview()).counts).toMatchObject({ queued: 0, canceled: 2, deferred: 1 });
  });

  test('pause and resume: all queues, as rq suspend', async () => {
    await inspector.act('pause', { all: true });
    expect(await stage.store.exists('rq:suspended')).toBe(1);
    await stage.python.run(SCENE);
    expect((await inspector.queues()).map(({ paused }) => paused)).toEqual([true, true]);
    await inspector.act('resume', { all: true });
    expect(await stage.store.exists('rq:suspended')).toBe(0);
    await expect(inspector.act('pause', { queue: 'a' })).rejects.toThrow(/RQ suspends all queues at once/);
    await expect(inspector.act('kill', { ids: ['a0'] })).rejects.toThrow(ConfigError);
  });

  test('unregister: a worker that is gone leaves the lists', async () => {
    await stage.store.sadd('rq:workers', 'rq:worker:dead');
    await stage.store.sadd('rq:workers:a', 'rq:worker:dead');
    await stage.store.sadd('rq:queues', 'rq:queue:a');
    expect(await inspector.workers()).toMatchObject([{ id: 'dead', state: 'gone' }]);
    expect(await inspector.act('unregister', { worker: 'dead' })).toMatchObject({ done: 1 });
    expect(await inspector.act('unregister', { worker: 'dead' })).toMatchObject({ gone: ['dead'] });
    expect(await stage.store.exists('rq:workers', 'rq:workers:a', 'rq:worker:dead')).toBe(0);
  });
});
