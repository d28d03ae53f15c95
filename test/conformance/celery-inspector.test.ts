import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CeleryClient, CeleryInspector } from '../../src/drivers/celery/index.ts';
import * as json from '../../protocols/formats/json.ts';
import { envelope, QUEUES, Stage } from './celery-inspector-stage.ts';
import { until } from '../support/until.ts';
import { inspectorConformance, type InspectorSystem, shownRunning, type Told } from './inspector-suite.ts';

const told =
  (becomes: (stage: Stage) => () => Promise<boolean>) =>
  async (stage: Stage): Promise<Told> => ({ worker: await stage.node(['inspected']), becomes: becomes(stage) });

const common: Pick<InspectorSystem<Stage>, 'reset' | 'inspector' | 'workers' | 'failure' | 'told'> = {
  reset: (stage) => stage.reset(),
  inspector: (stage, options) => new CeleryInspector({ ...stage.app, ...options }),
  async workers(stage, queue) {
    await stage.node([queue]);
    await using client = new CeleryClient(stage.app);
    const first = await client.enqueue('node.slow', { args: [60], queue });
    await using inspector = new CeleryInspector(stage.app);
    await shownRunning(inspector, () => true, 1);
    await stage.python([queue, 'python']);
    const second = await client.enqueue('py.slow', { args: [60], queue: 'python' });
    await shownRunning(inspector, () => true, 2);
    return [
      { language: 'Node', running: { id: first.id, task: 'node.slow' } },
      { language: 'Python', running: { id: second.id, task: 'py.slow' } },
    ];
  },
  told: { stop: told((stage) => () => Promise.resolve(stage.worker?.state === 'stopped')) },
};

const TOLD_ONLY = 'pause, resume and terminate are told to workers, and tested with them below';
const RESULTS = 'results are found by id, and not listed; tested below';
const STAYS = 'a revoked message stays where it is until a worker meets it, and may be revoked again';
const HELD = 'the jobs of this group are in a worker, not in a queue; tested below';

inspectorConformance<Stage>({
  name: 'Celery over Redis',
  ...common,
  stage: () => Stage.start('redis'),
  plant: {
    async queued({ store }, jobs) {
      for (const job of jobs) await store.lpush(job.queue, envelope(job));
      return jobs.map(({ id }) => id);
    },
    async unacked(stage, jobs) {
      for (const job of jobs) {
        const tag = `claim-${String((stage.claims += 1)).padStart(9, '0')}`;
        await stage.store.hset('unacked', tag, `[${envelope(job)}, "", ${JSON.stringify(job.queue)}]`);
        await stage.store.zadd('unacked_index', 1_700_000_000, tag);
      }
      return jobs.map(({ id }) => id);
    },
    async parked(stage, jobs) {
      for (const job of jobs) {
        const tag = `parked-${String((stage.claims += 1)).padStart(9, '0')}`;
        await stage.store.zadd('jobglot:parked', 4_000_000_000 + (stage.claims >> 2), tag);
        await stage.store.hset('jobglot:parked:messages', tag, `${job.queue}\0${envelope(job)}`);
      }
      return jobs.map(({ id }) => id);
    },
    async quarantine({ store }, jobs) {
      for (const job of jobs) {
        await store.lpush(`jobglot:quarantine:${job.queue}`, envelope(job));
        await store.lpush(`jobglot:quarantine:${job.queue}:why`, '{"code": "bad-eta", "reason": "no time", "at": 1.5}');
      }
      return jobs.map(({ id }) => id);
    },
  },
  actions: {
    run: { from: 'parked', to: 'queued' },
    delete: { from: 'queued', to: undefined },
    requeue: { from: 'quarantine', to: 'queued' },
    cancel: { from: 'queued', to: 'queued' },
  },
  raw: {
    set: 'queued',
    put: async ({ store }, bytes) => {
      await store.lpush('inspected', Buffer.from(bytes));
    },
  },
  async schedule(stage) {
    const definition = {
      name: 'nightly',
      task: 'shop.report',
      args: [],
      kwargs: {},
      options: {},
      schedule: {
        __type__: 'crontab',
        minute: '0',
        hour: '4',
        day_of_week: '*',
        day_of_month: '*',
        month_of_year: '*',
      },
      enabled: true,
    };
    await stage.store.hset('redbeat:nightly', 'definition', JSON.stringify(definition));
    await stage.store.zadd('redbeat::schedule', 4_000_000_000, 'redbeat:nightly');
    return { name: 'nightly', task: 'shop.report', when: '0 4 * * *' };
  },
  without: {
    'a failure of the other language is shown with its traceback': RESULTS,
    'cancel: several jobs, without saying where they are': STAYS,
    'cancel: all jobs that match, in steps': STAYS,
    'cancel: twice at once does it once': STAYS,
    'cancel: twice at once to a whole set does it once': STAYS,
    'pause and resume: a queue': TOLD_ONLY,
    'every action that can be done is tested here': TOLD_ONLY,
  },
});

/** What RabbitMQ holds is counted only; the jobs of this group wait for their time in a worker. */
inspectorConformance<Stage>({
  name: 'Celery over RabbitMQ',
  ...common,
  stage: () => Stage.start('amqp'),
  plant: {
    async scheduled(stage, jobs) {
      stage.tasks = ['shop.charge', 'shop.refund', 'shop.\u001b[31mred\u0007'];
      if (stage.worker?.state !== 'running') await stage.node(QUEUES);
      await using client = new CeleryClient(stage.app);
      for (const { id, task, args, queue } of jobs)
        await client.enqueue(task, { args: json.parse(args) as readonly unknown[], queue, taskId: id, countdown: 600 });
      await using inspector = new CeleryInspector(stage.app);
      const ids = new Set(jobs.map(({ id }) => id));
      await shownScheduled(inspector, ids);
      return [...ids];
    },
  },
  exactArgs: '["é\\u0000",{"a":[null,-0.5]}]',
  // A revoked job stays with its worker until its time comes, as in Celery.
  actions: { cancel: { from: 'scheduled', to: 'scheduled' } },
  without: {
    'an empty system has no jobs, and every set is an empty page': 'the address shows ** in place of the password',
    'queues have a name, a size and an age': HELD,
    'a set that is kept by queue shows one queue, or all': 'RabbitMQ shows no messages; there is no such set',
    'a search ends at its bound, says so, and goes on from there': 'workers tell everything at once',
    'a failure of the other language is shown with its traceback': RESULTS,
    'a periodic task is shown as it is stored': 'schedules are in Redis',
    'cancel: a job that is not there is gone':
      'what RabbitMQ holds cannot be seen: every id may be there until it has ended',
    'cancel: several jobs, without saying where they are': STAYS,
    'cancel: all jobs that match, in steps': STAYS,
    'cancel: twice at once does it once': STAYS,
    'cancel: twice at once to a whole set does it once': STAYS,
    'delete: a queue is emptied': HELD,
    'every action that can be done is tested here': TOLD_ONLY,
    'bytes that are no job are shown, found by their id, and deleted': 'workers tell of jobs that they have read',
  },
});

/** Resolves when a worker holds all of these. */
async function shownScheduled(inspector: CeleryInspector, ids: ReadonlySet<string>): Promise<void> {
  await until('the worker holds the jobs', async () => {
    const { jobs } = await inspector.jobs('scheduled', { limit: 1000 });
    return jobs.filter(({ id }) => ids.has(id)).length === ids.size;
  });
}

describe.each(['redis', 'amqp'] as const)('with workers over %s', (broker) => {
  let stage: Stage;
  let inspector: CeleryInspector;
  let client: CeleryClient;
  beforeAll(async () => {
    stage = await Stage.start(broker);
  });
  beforeEach(() => {
    inspector = new CeleryInspector({ ...stage.app, timeoutMs: 3_000 });
    client = new CeleryClient(stage.app);
  });
  afterEach(async () => {
    await inspector.close();
    await client.close();
    await stage.reset();
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  test('a failure of Python is found by its id, with its traceback', async () => {
    await stage.python(['inspected']);
    const sent = await client.enqueue('py.fail', { args: ['ValueError', 'on purpose'], queue: 'inspected' });
    await until('the failure is stored', async () => (await sent.state()) === 'FAILURE');
    const job = await inspector.job(sent.id);
    expect(job).toMatchObject({ id: sent.id, set: 'results', state: 'FAILURE' });
    expect(job?.error).toMatchObject({ type: 'ValueError', message: 'on purpose' });
    expect(job?.error?.traceback).toMatch(/File ".*app\.py"/);
    expect(job?.explanation?.kind).toBe('result');
  });

  test('a running job is in the set active, and terminate ends it', async () => {
    await stage.node(['inspected']);
    const sent = await client.enqueue('node.slow', { args: [60], queue: 'inspected' });
    await shownRunning(inspector, () => true, 1);
    expect((await inspector.jobs('active')).jobs).toMatchObject([
      { id: sent.id, set: 'active', state: 'STARTED', task: 'node.slow', args: [60], queue: 'inspected' },
    ]);
    expect(await inspector.job(sent.id)).toMatchObject({ set: 'active', state: 'STARTED' });
    expect((await inspector.overview()).counts['active']).toBe(1);
    expect(await inspector.act('terminate', { ids: [sent.id, 'nobody'] })).toEqual({
      done: 1,
      gone: ['nobody'],
      refused: [],
    });
    await until('the task is revoked', async () => (await sent.state()) === 'REVOKED');
  });

  test('a queue is paused, counted, emptied and resumed', async () => {
    await stage.node(['inspected']);
    const shown = async (): Promise<unknown> => (await inspector.queues()).find(({ name }) => name === 'inspected');
    expect(await inspector.act('pause', { queue: 'inspected' })).toEqual({ done: 1, gone: [], refused: [] });
    await until('no worker consumes the queue', async () => ((await shown()) as { consumers: number }).consumers === 0);
    await client.enqueueMany('node.slow', [
      { args: [0], queue: 'inspected' },
      { args: [0], queue: 'inspected' },
    ]);
    expect(await shown()).toMatchObject({ size: 2, paused: true });
    expect(await inspector.act('delete', { queue: 'inspected' })).toEqual({ done: 2, gone: [], refused: [] });
    expect(await shown()).toMatchObject({ size: 0, paused: true });
    expect(await inspector.act('resume', { queue: 'inspected' })).toEqual({ done: 1, gone: [], refused: [] });
    await until('a worker consumes the queue', async () => ((await shown()) as { consumers: number }).consumers === 1);
    expect(await shown()).toMatchObject({ paused: false });
  });
});
