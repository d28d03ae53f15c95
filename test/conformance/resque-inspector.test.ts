import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { resque, ResqueInspector } from '../../src/drivers/resque/index.ts';
import { ConfigError } from '../../src/errors.ts';
import { pause } from '../../src/source.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { Ruby } from '../support/ruby.ts';
import { until } from '../support/until.ts';
import { inspectorConformance, type Planted, shownRunning } from './inspector-suite.ts';

class Stage implements AsyncDisposable {
  readonly server: RedisServer;
  readonly store: Redis;
  readonly ruby: Ruby;
  readonly workers: Worker[] = [];

  constructor(server: RedisServer, ruby: Ruby) {
    this.server = server;
    this.store = server.client();
    this.ruby = ruby;
  }

  static async start(): Promise<Stage> {
    const server = await startRedis();
    const ruby = await Ruby.start({ redis: server.url });
    await ruby.run("require File.join(Dir.pwd, 'resque.rb')");
    await ruby.run(
      "class HangJob; def self.perform(*); sleep 600; end; end; class RaiseJob; def self.perform(*); raise ArgumentError, 'é no'; end; end; nil",
    );
    return new Stage(server, ruby);
  }

  inspector(options: { readonly scanLimit?: number } = {}): ResqueInspector {
    return new ResqueInspector({ url: this.server.url, ...options });
  }

  async end(): Promise<void> {
    for (const worker of this.workers.splice(0)) await worker.stop({ timeoutMs: 0 });
    await this.ruby.run('($threads || []).each(&:kill); $threads = []; nil');
    await this.store.flushall();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ruby[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

/** As Ruby writes it, with an id of our own behind. */
function payloadText({ id, task, args }: Planted): string {
  return `{"class":${JSON.stringify(task)},"args":${args},"id":${JSON.stringify(id)}}`;
}

function failureText(job: Planted): string {
  return `{"failed_at":"2026/11/21 00:15:44 UTC","payload":${payloadText(job)},"exception":"Boom","error":"é","backtrace":["app.rb:1"],"worker":"web1:1:q","queue":${JSON.stringify(job.queue)}}`;
}

let second = 4_000_000_000;

inspectorConformance<Stage>({
  name: 'Resque',
  stage: () => Stage.start(),
  reset: (stage) => stage.end(),
  inspector: (stage, options) => stage.inspector(options),
  plant: {
    async queued({ store }, jobs) {
      await store.sadd('resque:queues', ...jobs.map(({ queue }) => queue));
      for (const job of jobs) await store.rpush(`resque:queue:${job.queue}`, payloadText(job));
      return jobs.map(({ id }) => id);
    },
    async delayed({ store }, jobs) {
      // Several of one second.
      for (const [at, job] of jobs.entries()) {
        const due = second + (at >> 2);
        const item = `${payloadText(job).slice(0, -1)},"queue":${JSON.stringify(job.queue)}}`;
        await store.rpush(`resque:delayed:${due}`, item);
        await store.sadd(`resque:timestamps:${item}`, `delayed:${due}`);
        await store.zadd('resque:delayed_queue_schedule', due, String(due));
      }
      second += jobs.length;
      return jobs.map(({ id }) => id);
    },
    async failed({ store }, jobs) {
      // Both backends.
      for (const [at, job] of jobs.entries()) {
        if (at % 2 === 0) await store.rpush('resque:failed', failureText(job));
        else {
          await store.sadd('resque:failed_queues', `${job.queue}_failed`);
          await store.rpush(`resque:${job.queue}_failed`, failureText(job));
        }
      }
      return jobs.map(({ id }) => id);
    },
    async working({ store }, jobs) {
      for (const job of jobs) {
        const worker = `host:${job.id}:inspected`;
        await store.sadd('resque:workers', worker);
        await store.set(
          `resque:worker:${worker}`,
          `{"queue":${JSON.stringify(job.queue)},"run_at":"2026-11-21T00:15:42Z","payload":${payloadText(job)}}`,
        );
      }
      return jobs.map(({ id }) => id);
    },
    async quarantine({ store }, jobs) {
      await store.sadd('resque:queues', ...jobs.map(({ queue }) => queue));
      for (const job of jobs) {
        await store.lpush(`resque:jobglot:quarantine:${job.queue}`, payloadText(job));
        await store.lpush(`resque:jobglot:quarantine:${job.queue}:why`, '{"code":"poison"}');
      }
      return jobs.map(({ id }) => id);
    },
  },
  actions: {
    retry: { from: 'failed', to: 'queued' },
    run: { from: 'delayed', to: 'queued' },
    delete: { from: 'queued', to: undefined },
    requeue: { from: 'quarantine', to: 'queued' },
  },
  async workers(stage, queue) {
    const inspector = stage.inspector();
    const id = `ruby-host:4711:${queue}`;
    await stage.store.sadd('resque:workers', id);
    await stage.store.rpush(`resque:queue:${queue}`, '{"class":"HangJob","args":[],"id":"in-ruby"}');
    await stage.ruby.run('($threads ||= []) << Thread.new { Resque.work_one(values["queue"]) }; nil', { queue });
    await shownRunning(inspector, ({ language }) => language === 'Ruby', 1);
    const tasks = new Tasks().handle(defineTask('HangJob'), (_job, { signal }) => pause(600_000, signal));
    const source = resque({ url: stage.server.url, queues: [queue], concurrency: 2, processTitle: false });
    const worker = new Worker({ tasks, sources: [source], abortGraceMs: 0 });
    stage.workers.push(worker);
    await worker.start();
    await stage.store.rpush(`resque:queue:${queue}`, '{"class":"HangJob","args":[],"id":"in-node"}');
    await stage.store.sadd('resque:queues', queue);
    await shownRunning(inspector, ({ language }) => language === 'Node', 1);
    await inspector.close();
    return [
      { language: 'Ruby', running: { id: 'in-ruby', task: 'HangJob' } },
      { language: 'Node', running: { id: 'in-node', task: 'HangJob' } },
    ];
  },
  async failure(stage) {
    await stage.store.rpush('resque:queue:inspected', '{"class":"RaiseJob","args":[],"id":"fails-in-ruby"}');
    await stage.ruby.run("Resque.work_one('inspected'); nil");
    return { id: 'fails-in-ruby', set: 'failed', type: 'ArgumentError', message: 'é no', traceback: /in .*perform/ };
  },
  told: {
    async unregister({ store }) {
      const worker = 'old-host:1:inspected';
      await store.sadd('resque:workers', worker);
      await store.hset('resque:workers:heartbeat', worker, '2026-11-21T00:15:37+00:00');
      await store.set(`resque:stat:processed:${worker}`, '7');
      return {
        worker,
        becomes: async () =>
          (await store.exists('resque:workers', 'resque:workers:heartbeat', `resque:stat:processed:${worker}`)) === 0,
      };
    },
  },
  raw: {
    set: 'queued',
    async put({ store }, bytes) {
      await store.sadd('resque:queues', 'inspected');
      await store.rpush('resque:queue:inspected', Buffer.from(bytes));
    },
  },
  async schedule({ store }) {
    await store.hset(
      'resque:persistent_schedules',
      'nightly',
      '{"class":"NightlyJob","queue":"low","cron":"0 4 * * * Europe/Paris","args":[1.0]}',
    );
    return { name: 'nightly', task: 'NightlyJob', when: '0 4 * * * Europe/Paris' };
  },
  without: {
    'pause and resume: a queue': 'Resque pauses every worker or none; that is asked below',
    'every action that can be done is tested here': 'pause and resume are asked below',
  },
});

describe("Resque's own", () => {
  let stage: Stage;
  let inspector: ResqueInspector;
  beforeAll(async () => {
    stage = await Stage.start();
  });
  afterEach(async () => {
    await inspector.close();
    await stage.end();
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  test('pause and resume are for every worker, and of one queue they are refused', async () => {
    inspector = stage.inspector();
    await stage.store.sadd('resque:queues', 'a');
    for (const [action, paused] of [
      ['pause', true],
      ['resume', false],
    ] as const) {
      for (let times = 0; times < 2; times++)
        expect(await inspector.act(action, { all: true })).toEqual({ done: 1, gone: [], refused: [] });
      expect(await stage.store.get('resque:pause-all-workers')).toBe(paused ? 'true' : null);
      expect(await inspector.queues()).toMatchObject([{ name: 'a', size: 0, paused }]);
      await expect(inspector.act(action, { queue: 'a' })).rejects.toThrow(ConfigError);
    }
  });

  test('of jobs that are the same to the letter, one is acted on at a time', async () => {
    inspector = stage.inspector();
    const payload = '{"class":"A","args":[]}';
    const id = `sha1:${createHash('sha1').update(payload).digest('hex')}`;
    await stage.store.sadd('resque:queues', 'a');
    await stage.store.rpush('resque:queue:a', payload, '{"class":"B","args":[]}', payload, payload);
    expect((await inspector.jobs('queued', { filter: { id } })).jobs).toHaveLength(3);
    expect(await inspector.act('delete', { ids: [id] })).toEqual({ done: 1, gone: [], refused: [] });
    expect(await stage.store.lrange('resque:queue:a', 0, -1)).toEqual(['{"class":"B","args":[]}', payload, payload]);
    const both = await Promise.all([1, 2].map(() => inspector.act('delete', { ids: [id], set: 'queued' })));
    expect(both.map(({ done }) => done)).toEqual([1, 1]);
    expect(await inspector.act('delete', { ids: [id], set: 'queued' })).toEqual({ done: 0, gone: [id], refused: [] });
    expect(await stage.store.lrange('resque:queue:a', 0, -1)).toEqual(['{"class":"B","args":[]}']);
  });

  test('a delayed job that is run now leaves nothing of resque-scheduler behind, and its payload is as Ruby pushes it', async () => {
    inspector = stage.inspector();
    await stage.ruby.run("Resque.enqueue_at_with_queue('low', Time.at(4100000000), :RaiseJob, 1.5)");
    await stage.ruby.run("Resque.enqueue_at_with_queue('low', Time.at(4100000000), :RaiseJob, 1.5)");
    const [job] = (await inspector.jobs('delayed')).jobs;
    expect(job).toMatchObject({ queue: 'low', task: 'RaiseJob', dueAt: new Date(4_100_000_000_000) });
    const timestamps = 'resque:timestamps:{"class":"RaiseJob","args":[1.5],"queue":"low"}';
    await inspector.act('run', { ids: [job!.id] });
    expect(await stage.store.lrange('resque:queue:low', 0, -1)).toEqual(['{"class":"RaiseJob","args":[1.5]}']);
    // The other one is still there for `Resque.remove_delayed`.
    expect(await stage.store.smembers(timestamps)).toEqual(['delayed:4100000000']);
    await inspector.act('delete', { set: 'delayed' });
    expect((await stage.store.keys('resque:*')).toSorted()).toEqual(['resque:queue:low', 'resque:queues']);
  });

  test('a job whose queue is no list, or that names none, is refused and stays where it is', async () => {
    inspector = stage.inspector();
    await stage.store.set('resque:queue:odd', 'a text');
    await stage.store.rpush(
      'resque:failed',
      failureText({ id: '1', task: 'A', args: '[]', queue: 'odd' }),
      failureText({ id: '2', task: 'A', args: '[]', queue: '' }),
      '{"payload":{"class":"A"}}',
    );
    const result = await inspector.act('retry', { set: 'failed' });
    expect(result).toMatchObject({ done: 0, gone: [] });
    expect(result.refused.map(({ reason }) => reason)).toEqual([
      "the key of the queue 'odd' is no list",
      'it names no queue',
      'it names no queue',
    ]);
    expect(await stage.store.llen('resque:failed')).toBe(3);
  });

  test('bytes in quarantine that are no payload are not given to a queue; a job that waits is refused, not gone', async () => {
    inspector = stage.inspector();
    await stage.store.sadd('resque:queues', 'a');
    await stage.store.rpush('resque:jobglot:quarantine:a', '[]');
    const requeued = await inspector.act('requeue', { set: 'quarantine' });
    expect(requeued.refused).toMatchObject(
      [{ reason: /no payload/ }].map(() => ({ reason: expect.stringMatching(/no payload/) })),
    );
    await stage.store.rpush('resque:queue:a', '{"class":"A","args":[],"id":"waits"}');
    expect(await inspector.act('retry', { ids: ['waits'] })).toEqual({
      done: 0,
      gone: [],
      refused: [{ id: 'waits', reason: 'it is in its queue already' }],
    });
  });

  test('a whole set is retried while a worker fails its jobs again: each once', async () => {
    inspector = stage.inspector();
    const tasks = new Tasks().handle(defineTask('AgainJob'), () => Promise.reject(new Error('again')));
    const source = resque({ url: stage.server.url, queues: ['*'], concurrency: 5, processTitle: false });
    const worker = new Worker({ tasks, sources: [source] });
    stage.workers.push(worker);
    await worker.start();
    const jobs = Array.from({ length: 700 }, (_, at) =>
      failureText({ id: `again-${at}`, task: 'AgainJob', args: '[]', queue: 'a' }),
    );
    await stage.store.rpush('resque:failed', ...jobs);
    expect((await inspector.act('retry', { set: 'failed' })).done).toBe(700);
    await until('all have failed again', async () => (await stage.store.llen('resque:failed')) === 700);
    await until('each ran once', async () => (await stage.store.get('resque:stat:processed')) === '700');
  });
});
