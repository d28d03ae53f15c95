import { SidekiqInspector } from '../../src/drivers/sidekiq/index.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import type { Worker } from '../../src/worker/worker.ts';
import { RubyStage } from '../interop/support/ruby-stage.ts';
import { until } from '../support/until.ts';
import { inspectorConformance, type Planted, shownRunning, type Told } from './inspector-suite.ts';

const NOW = 1_795_219_633.5;
let placed = 0;

/** As Ruby writes it. */
function hashText({ id, task, args, queue }: Planted, more = ''): string {
  return `{"retry":true,"queue":${JSON.stringify(queue)},"class":${JSON.stringify(task)},"args":${args},"jid":${JSON.stringify(id)},"created_at":${NOW},"enqueued_at":${NOW}${more}}`;
}

function sorted(set: 'schedule' | 'retry' | 'dead', more: string) {
  return async ({ store }: RubyStage, jobs: readonly Planted[]): Promise<readonly string[]> => {
    // Several of one score, as those of one bulk have.
    const rows = jobs.flatMap((job) => [String(4_000_000_000 + (placed++ >> 2)), hashText(job, more)]);
    await store.zadd(set, ...rows);
    return jobs.map(({ id }) => id);
  };
}

/** A job that runs until the worker is stopped. */
const slow = new Tasks().handle(defineTask<(seconds: number) => void>('SlowJob'), async (job, { signal }) => {
  await pause(job.args[0] * 1000, signal);
  signal.throwIfAborted();
});

/** A worker that is told something, and the state it must come to. */
function told(state: Worker['state']): (stage: RubyStage) => Promise<Told> {
  return async (stage) => {
    const { worker } = await stage.node({ queues: ['inspected'], heartbeatInterval: 0.2 });
    const inspector = new SidekiqInspector({ url: stage.redis.url });
    const [shown] = await inspector.workers();
    await inspector.close();
    return { worker: shown?.id ?? '', becomes: () => Promise.resolve(worker.state === state) };
  };
}

inspectorConformance<RubyStage>({
  name: 'Sidekiq',
  stage: () => RubyStage.start(),
  reset: (stage) => stage.end(),
  inspector: (stage, options) => new SidekiqInspector({ url: stage.redis.url, ...options }),
  plant: {
    async queued({ store }, jobs) {
      await store.sadd('queues', ...jobs.map(({ queue }) => queue));
      for (const job of jobs) await store.lpush(`queue:${job.queue}`, hashText(job));
      return jobs.map(({ id }) => id);
    },
    schedule: sorted('schedule', ''),
    retry: sorted('retry', `,"error_class":"Boom","error_message":"é","failed_at":${NOW},"retry_count":2`),
    dead: sorted('dead', `,"error_class":"Boom","error_message":"é","failed_at":${NOW},"retry_count":24`),
    async claimed({ store }, jobs) {
      await store.sadd('queues', ...jobs.map(({ queue }) => queue));
      await store.sadd('jobglot:sidekiq:claimants', 'gone:1:abc');
      for (const job of jobs)
        await store.hset('jobglot:sidekiq:claims:gone:1:abc', `${(placed += 1)}:${job.queue}`, hashText(job));
      return jobs.map(({ id }) => id);
    },
    async quarantine({ store }, jobs) {
      await store.sadd('queues', ...jobs.map(({ queue }) => queue));
      for (const job of jobs) await store.lpush(`jobglot:sidekiq:quarantine:${job.queue}`, hashText(job));
      return jobs.map(({ id }) => id);
    },
  },
  actions: {
    retry: { from: 'dead', to: 'queued' },
    run: { from: 'schedule', to: 'queued' },
    delete: { from: 'queued', to: undefined },
    kill: { from: 'retry', to: 'dead' },
    requeue: { from: 'quarantine', to: 'queued' },
    cancel: { from: 'schedule', to: undefined },
  },
  async workers(stage, queue) {
    await stage.sidekiq({ queues: [queue], concurrency: 1 });
    const ruby = await stage.push({ class: 'SlowJob', args: [60], queue });
    const inspector = new SidekiqInspector({ url: stage.redis.url });
    await shownRunning(inspector, ({ language }) => language === 'Ruby', 1);
    await stage.node({ queues: [queue], concurrency: 1, tasks: slow });
    const node = await stage.push({ class: 'SlowJob', args: [60], queue });
    await shownRunning(inspector, ({ language }) => language === 'Node', 1);
    await until('both show that they are busy', async () => (await inspector.overview()).busy === 2);
    await inspector.close();
    return [
      { language: 'Ruby', running: { id: ruby, task: 'SlowJob' } },
      { language: 'Node', running: { id: node, task: 'SlowJob' } },
    ];
  },
  async failure(stage) {
    await stage.sidekiq({ queues: ['inspected'] });
    const id = await stage.push({ class: 'FailJob', args: [], queue: 'inspected', backtrace: true });
    const { hash } = await stage.member('retry', id);
    return {
      id,
      set: 'retry',
      type: String(hash['error_class']),
      message: String(hash['error_message']),
      traceback: /app\.rb:\d+:in .*perform/,
    };
  },
  told: {
    quiet: told('quiet'),
    stop: told('stopped'),
  },
  raw: {
    set: 'queued',
    async put({ store }, bytes) {
      await store.sadd('queues', 'inspected');
      await store.lpush('queue:inspected', Buffer.from(bytes));
    },
  },
  async schedule({ store }) {
    const key = 'cron_job:default:nightly';
    await store.sadd('cron_jobs:default', key);
    await store.hset(key, {
      ...{ name: 'nightly', namespace: 'default', klass: 'NightlyJob', cron: '0 4 * * * Europe/Paris' },
      ...{ status: 'enabled', args: '[]', last_enqueue_time: '2026-11-30 04:00:00 +0100', source: 'schedule' },
      message: '{"retry":true,"queue":"low","class":"NightlyJob","args":[]}',
    });
    return { name: 'nightly', task: 'NightlyJob', when: '0 4 * * * Europe/Paris' };
  },
  without: {},
});
