import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { defineTask, type TaskOptions, Tasks } from '../../src/task.ts';
import { createLogger } from '../../src/log.ts';
import { Retry } from '../../src/signals.ts';
import {
  activeJob,
  GlobalId,
  iterable,
  RubySymbol,
  SidekiqApi,
  type SidekiqJob,
  sidekiqJob,
} from '../../src/drivers/sidekiq/index.ts';
import type { Job } from '../../protocols/job.ts';
import { Worker } from '../../src/worker/worker.ts';
import { until } from '../support/until.ts';
import { SidekiqScene } from './sidekiq-scene.ts';

let scene: SidekiqScene;
beforeAll(async () => {
  scene = await SidekiqScene.start();
});
afterEach(() => scene.reset());
afterAll(() => scene[Symbol.asyncDispose]());

const fails = (options: TaskOptions = {}): Tasks =>
  new Tasks().handle(
    defineTask('Fails'),
    () => {
      throw Object.assign(new Error('no'), { name: 'Nope' });
    },
    options,
  );

describe('classes with rules of their own', () => {
  test('retryIn says when, and hears the count, the error and the job', async () => {
    const heard: unknown[] = [];
    const worker = await scene.startWorker(
      fails({
        retryIn: (count, error, job) => {
          heard.push([count, error.type, job.id]);
          return 1_000;
        },
      }),
    );
    const settled = worker.once('job:settled');
    const { jid } = await scene.client.enqueue('Fails', { retry: 5 });
    const { disposition } = await settled;
    const [retry] = await scene.set('retry');
    expect(heard).toEqual([[0, 'Nope', jid]]);
    expect(retry!.score * 1000 - Date.now()).toBeGreaterThan(990_000);
    expect(disposition.state).toBe('retrying');
  });

  test.each([
    ['discard', 0],
    ['kill', 1],
  ] as const)('retryIn %s', async (answer, dead) => {
    const worker = await scene.startWorker(fails({ retryIn: () => answer }));
    const settled = worker.once('job:settled');
    await scene.client.enqueue('Fails');
    await settled;
    expect([await scene.set('retry'), (await scene.set('dead')).length]).toEqual([[], dead]);
  });

  test('retriesExhausted is told once, and may keep it out of the dead set', async () => {
    const told: unknown[] = [];
    const worker = await scene.startWorker(
      fails({
        retriesExhausted: async (job: Job, error) => {
          told.push([job.args, error.message]);
          await Promise.resolve();
          return 'discard' as const;
        },
      }),
    );
    const settled = worker.once('job:settled');
    await scene.client.enqueue('Fails', { args: [1], retry: 0 });
    expect((await settled).disposition.state).toBe('failed');
    expect(told).toEqual([[[1], 'no']]);
    expect(await scene.set('dead')).toEqual([]);
  });

  test('a time limit of the handler is a failure like any other', async () => {
    const tasks = new Tasks().handle(defineTask('Deaf'), () => new Promise(() => {}), { timeoutMs: 100 });
    const worker = await scene.startWorker(tasks);
    const settled = worker.once('job:settled');
    await scene.client.enqueue('Deaf');
    expect((await settled).disposition.state).toBe('retrying');
    expect((await scene.set('retry'))[0]!.text).toContain('"error_class":"Timeout::Error"');
  });

  test('an expired job is not run, and nothing is left of it', async () => {
    const ran: unknown[] = [];
    const tasks = new Tasks().handle(defineTask('Late'), ({ args }) => void ran.push(args[0]));
    await scene.client.enqueue('Late', { args: [1], custom: { expiry: Date.now() / 1000 - 1.5 } });
    await scene.client.enqueue('Late', { args: [2], expiresIn: 60 });
    const worker = await scene.startWorker(tasks);
    await until('the other one has run', () => ran.length === 1);
    await worker.stop();
    expect(ran).toEqual([2]);
    expect(await scene.redis.keys('jobglot:*')).toEqual([]);
    expect(await scene.redis.get('stat:processed')).toBe('2');
  });

  test('an unknown class is retried with a NameError, where Sidekiq shall decide', async () => {
    await scene.startWorker(new Tasks(), { unknownTask: 'reject' });
    await scene.client.enqueue('Nobody::Knows', { args: [1] });
    await until('it is to be retried', async () => (await scene.set('retry')).length === 1);
    const [retry] = await scene.set('retry');
    expect(retry!.text).toMatch(/"error_message":"uninitialized constant Nobody::Knows.*"error_class":"NameError"/);
    await scene.client.enqueue('Nobody::Knows', { retry: 0 });
    await until('it is dead', async () => (await scene.set('dead')).length === 1);
  });
});

describe('queues', () => {
  const ordered = (ran: unknown[]): Tasks => new Tasks().handle(defineTask('Ran'), ({ queue }) => void ran.push(queue));

  test('strict: the first that has any', async () => {
    const ran: unknown[] = [];
    for (const queue of ['low', 'high', 'low', 'high']) await scene.client.enqueue('Ran', { queue });
    await scene.startWorker(ordered(ran), { queues: ['high', 'low'], concurrency: 1 });
    await until('all have run', () => ran.length === 4);
    expect(ran).toEqual(['high', 'high', 'low', 'low']);
  });

  test('a paused queue is left alone until it is not', async () => {
    const ran: unknown[] = [];
    await using api = new SidekiqApi({ url: scene.server.url });
    await api.pause('b');
    await scene.startWorker(ordered(ran), { queues: ['a', 'b'], heartbeatInterval: 0.1 });
    await scene.client.enqueue('Ran', { queue: 'b' });
    await scene.client.enqueue('Ran', { queue: 'a' });
    await until('the other has run', () => ran.length === 1);
    await api.unpause('b');
    await until('both have run', () => ran.length === 2);
    expect(ran).toEqual(['a', 'b']);
  });

  test('capsules: one process, slots of their own', async () => {
    const open: (() => void)[] = [];
    const tasks = new Tasks().handle(defineTask('Gate'), () => new Promise<void>((resolve) => open.push(resolve)));
    const main = scene.source({ queues: ['default'], concurrency: 2 });
    await scene.startWorker(tasks, [main, main.capsule('single', { queues: ['unsafe'], concurrency: 1 })]);
    for (const queue of ['unsafe', 'unsafe', 'default']) await scene.client.enqueue('Gate', { queue });
    await until('one of each runs', () => open.length === 2);
    const [identity, ...others] = await scene.redis.smembers('processes');
    expect(others).toEqual([]);
    await until('the process shows both', async () => (await scene.redis.hget(identity!, 'busy')) === '2');
    const info = JSON.parse((await scene.redis.hget(identity!, 'info')) as string) as Record<string, unknown>;
    expect(info).toMatchObject({
      queues: ['default', 'unsafe'],
      capsules: { default: { concurrency: 2 }, single: { concurrency: 1, mode: 'strict' } },
      concurrency: 3,
    });
    expect(await scene.queue('unsafe')).toHaveLength(1);
    open.splice(0).forEach((end) => end());
    await until('the next one runs', () => open.length === 1);
    open.splice(0).forEach((end) => end());
  });

  test('one member that is larger than a job may be is set aside', async () => {
    const ran: unknown[] = [];
    const worker = await scene.startWorker(ordered(ran), { maxJobBytes: 500 });
    const poisoned = worker.once('job:poison');
    const { jid } = await scene.client.enqueue('Ran', { args: ['x'.repeat(600)] });
    await scene.client.enqueue('Ran');
    expect(await poisoned).toMatchObject({ code: 'too-large', queue: 'default' });
    await until('the other one has run', () => ran.length === 1);
    const [kept] = await scene.redis.lrange('jobglot:sidekiq:quarantine:default', 0, -1);
    expect(kept).toContain(jid);
  });
});

describe('what the pages show', () => {
  test('work, statistics, metrics; and the buttons work', async () => {
    const open: (() => void)[] = [];
    const tasks = fails({ retryIn: () => 'discard' }).handle(
      defineTask('Gate'),
      () => new Promise<void>((resolve) => open.push(resolve)),
    );
    const worker = await scene.startWorker(tasks, { dialect: '8.1', tag: 'shop', labels: ['blue'] });
    await using api = new SidekiqApi({ url: scene.server.url });
    await scene.client.enqueue('Fails');
    const { jid } = await scene.client.enqueue('Gate');
    await until('it is shown as running', async () => (await api.work()).length === 1);
    const [work] = await api.work();
    expect(work).toMatchObject({ queue: 'default', hash: { jid } });
    expect(Math.abs(work!.runAtMs - Date.now())).toBeLessThan(30_000);
    const [process] = await api.processes();
    expect(process).toMatchObject({
      busy: 1,
      quiet: false,
      info: { tag: 'shop', labels: ['blue'], queues: ['default'] },
    });
    await until('the failure is counted', async () => (await api.stats()).failed === 1);
    expect(await scene.redis.keys('j|*')).toHaveLength(2);

    expect(await api.quiet(process!.identity)).toEqual([process!.identity]);
    await until('it is quiet', async () => (await api.processes())[0]?.quiet === true);
    expect(worker.state).toBe('quiet');
    await api.stop();
    await until('it is stopping', () => worker.state === 'stopping');
    open.splice(0).forEach((end) => end());
    await until('it has stopped', () => worker.state === 'stopped');
    expect(await api.processes()).toEqual([]);
    expect(await api.stats()).toMatchObject({ processed: 2, failed: 1, processes: 0 });
  });

  test('TTIN: what runs is logged', async () => {
    let open = (): void => {};
    const tasks = new Tasks().handle(defineTask('Gate'), () => new Promise<void>((resolve) => (open = resolve)));
    let said = '';
    const log = createLogger({ format: 'json', stream: { write: (text) => (said += text) } });
    const worker = new Worker({ tasks, sources: [scene.source()], log });
    await worker.start();
    const { jid } = await scene.client.enqueue('Gate');
    await until('it runs', () => worker.running.length === 1);
    const [identity] = await scene.redis.smembers('processes');
    await scene.redis.lpush(`${identity}-signals`, 'TTIN');
    await until('it is logged', () => said.includes('"msg":"running"'));
    expect(said.split('\n').find((line) => line.includes('"msg":"running"'))).toContain(jid);
    open();
    await worker.stop();
  });

  test('a fleet of 7.x and 8.x: seconds, and metrics of both', async () => {
    await scene.redis.sadd('processes', 'old:1:a', 'new:2:b');
    await scene.redis.hset('old:1:a', 'info', '{"version":"7.3.2","queues":["default"]}');
    await scene.redis.hset('new:2:b', 'info', '{"version":"8.1.0","queues":["default"]}');
    const worker = await scene.startWorker(fails());
    const settled = worker.once('job:settled');
    await scene.client.enqueue('Fails');
    await settled;
    expect((await scene.set('retry'))[0]!.text).toMatch(/"failed_at":\d{10}\.\d+/);
    await worker.stop();
    const minute = new Date().toISOString().slice(0, 10).replaceAll('-', '');
    expect((await scene.redis.keys(`j|${minute}|*`)).length).toBe(1);
    expect((await scene.redis.keys(`j|${minute.slice(2)}|*`)).length).toBe(2);
  });
});

describe('iterable jobs', () => {
  const letters = ['a', 'b', 'c', 'd', 'e'];
  const steps = (seen: string[], told: string[], each: (item: string) => unknown = () => undefined): Tasks =>
    new Tasks().handle(
      defineTask<() => void>('Steps'),
      iterable({
        *items(_job, cursor: number | undefined) {
          for (let at = cursor ?? 0; at < letters.length; at++) yield [letters[at] as string, at] as const;
        },
        each: async (item) => {
          seen.push(item);
          await each(item);
        },
        onStart: () => told.push('start'),
        onResume: () => told.push('resume'),
        onStop: () => told.push('stop'),
        onCancel: () => told.push('cancel'),
        onComplete: () => told.push('complete'),
      }),
    );

  test('run to the end, and leave nothing', async () => {
    const [seen, told] = [[], []] as [string[], string[]];
    const worker = await scene.startWorker(steps(seen, told));
    const settled = worker.once('job:settled');
    const { jid } = await scene.client.enqueue('Steps');
    await settled;
    expect([seen, told]).toEqual([letters, ['start', 'complete']]);
    expect(await scene.redis.exists(`it-${jid}`)).toBe(0);
  });

  test('are given back between two items when the worker stops, and go on from there', async () => {
    const [seen, told] = [[], []] as [string[], string[]];
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const first = await scene.startWorker(steps(seen, told, (item) => (item === 'b' ? gate : undefined)));
    await scene.client.enqueue('Steps', { custom: { note: 1 } });
    await until('it is at b', () => seen.length === 2);
    const stopped = first.stop();
    await until('it takes nothing more', () => first.state === 'stopping');
    open();
    await stopped;
    expect(told).toEqual(['start', 'stop']);
    const [job] = await scene.queue();
    const { jid } = JSON.parse(job!) as { jid: string };
    expect(await scene.redis.hgetall(`it-${jid}`)).toMatchObject({ ex: '1', c: '2' });
    const second = await scene.startWorker(steps(seen, told));
    await second.once('job:settled');
    expect([seen, told]).toEqual([letters, ['start', 'stop', 'resume', 'complete']]);
  });

  test('are retried from the item that failed', async () => {
    const [seen, told] = [[], []] as [string[], string[]];
    let failures = 1;
    const worker = await scene.startWorker(
      steps(seen, told, (item) => {
        if (item === 'c' && failures-- > 0) throw new Retry({ delayMs: 0 });
      }),
    );
    await scene.client.enqueue('Steps');
    await worker.once('job:settled', ({ disposition }) => disposition.state === 'succeeded');
    expect(seen).toEqual(['a', 'b', 'c', 'c', 'd', 'e']);
  });

  test('that were cancelled before they ran do not run', async () => {
    const [seen, told] = [[], []] as [string[], string[]];
    const { jid } = await scene.client.enqueue('Steps');
    await scene.client.cancel(jid);
    const worker = await scene.startWorker(steps(seen, told));
    await worker.once('job:settled');
    expect([seen, told]).toEqual([[], ['cancel']]);
    expect(await scene.redis.exists(`it-${jid}`)).toBe(0);
  });
});

describe('jobs of Active Job', () => {
  test('run under the class that Rails means, with their arguments decoded', async () => {
    const seen: SidekiqJob[] = [];
    const tasks = new Tasks().handle(
      defineTask<(order: GlobalId, kind: RubySymbol) => void, { urgent?: boolean }>('ShipJob'),
      (job) => void seen.push(sidekiqJob(job)),
    );
    const worker = await scene.startWorker(tasks);
    const settled = worker.once('job:settled');
    const order = new GlobalId('shop', 'Order', 42);
    const { jobId } = await scene.client.performLater('ShipJob', {
      args: [order, new RubySymbol('fast')],
      kwargs: { urgent: true },
      queue: 'default',
    });
    await settled;
    const [job] = seen;
    expect(job).toMatchObject({ task: 'ShipJob', attempt: 1, kwargs: { urgent: true }, activeJob: { jobId } });
    expect(job!.args).toMatchObject([{ ids: ['42'] }, { name: 'fast' }]);
  });

  test('a retry the handler asks for is a new job with the same id; to Sidekiq the first one succeeded', async () => {
    const tasks = new Tasks().handle(defineTask('FlakyJob'), () => {
      throw new Retry({ delayMs: 60_000, cause: Object.assign(new Error('busy'), { name: 'Busy' }) });
    });
    const worker = await scene.startWorker(tasks);
    const settled = worker.once('job:settled');
    const { jid, jobId } = await scene.client.performLater('FlakyJob', { args: [1.5], custom: { tenant: 7 } });
    expect((await settled).disposition.state).toBe('retrying');
    expect(await scene.set('retry')).toEqual([]);
    const [next] = await scene.set('schedule');
    const hash = JSON.parse(next!.text) as Record<string, unknown> & { args: unknown[] };
    expect(hash).toMatchObject({ wrapped: 'FlakyJob', tenant: 7 });
    expect(hash['jid']).not.toBe(jid);
    expect(hash).not.toHaveProperty('enqueued_at');
    expect(hash.args).toMatchObject([
      { job_id: jobId, provider_job_id: jid, executions: 1, exception_executions: { '[Busy]': 1 }, arguments: [1.5] },
    ]);
    await worker.stop();
    expect(await scene.redis.mget('stat:processed', 'stat:failed')).toEqual(['1', '0']);
  });

  test('a retry keeps what it goes on from, to the letter, and what nobody knows', async () => {
    const tasks = new Tasks().handle(defineTask('StepJob'), () => {
      throw new Retry({ delayMs: 60_000 });
    });
    const seen: unknown[] = [];
    const worker = new Worker({ tasks, sources: [scene.source()] });
    worker.use((job, next) => {
      seen.push(sidekiqJob(job).hash['tenant'], activeJob(job)?.continuation?.completed);
      return next();
    });
    await worker.start();
    const kept = `"arguments":[1.0,12345678901234567890],`;
    const steps = `"continuation":{"completed":["prepare"],"current":["process",12345678901234567890]},"resumptions":1,"mine":2.0`;
    await scene.redis.lpush(
      'queue:default',
      `{"class":"Sidekiq::ActiveJob::Wrapper","wrapped":"StepJob","tenant":7,"args":[{"job_class":"StepJob","job_id":"x",${kept}"executions":1,${steps}}],"jid":"a"}`,
    );
    await until('it is put off', async () => (await scene.set('schedule')).length === 1);
    const { text } = (await scene.set('schedule'))[0]!;
    expect([text.includes(kept), text.includes(steps), text.includes('"executions":2')]).toEqual([true, true, true]);
    expect(seen).toEqual([7, ['prepare']]);
    await worker.stop();
  });

  test('arguments that Rails could not read are a failure of the job', async () => {
    const tasks = new Tasks().handle(defineTask('ShipJob'), () => undefined);
    await scene.startWorker(tasks);
    const data = { job_class: 'ShipJob', arguments: [{ _aj_globalid: 7 }] };
    await scene.client.enqueue('Sidekiq::ActiveJob::Wrapper', { args: [data], wrapped: 'ShipJob' });
    await until('it is to be retried', async () => (await scene.set('retry')).length === 1);
    expect((await scene.set('retry'))[0]!.text).toContain('"error_class":"ActiveJob::DeserializationError"');
  });
});
