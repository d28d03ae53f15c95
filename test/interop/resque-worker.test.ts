import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { FailureRecord } from '../../protocols/resque/failure.ts';
import * as wire from '../../protocols/resque/schedule.ts';
import {
  DontPerform,
  jobTitle,
  performHooks,
  resque,
  ResqueClient,
  type ResqueOptions,
  ResqueScheduler,
  type ResqueSource,
} from '../../src/drivers/resque/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { childProcess } from '../../src/worker/child-process.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { Worker } from '../../src/worker/worker.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { tasks as inChildren } from './apps/resque-tasks.ts';

let server: RedisServer;
let redis: Redis;
let client: ResqueClient;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
beforeEach(() => {
  client = new ResqueClient({ url: server.url, defaultQueue: 'default' });
  open.push(client);
});
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one[Symbol.asyncDispose]();
  await redis.flushall();
});
afterAll(() => server[Symbol.asyncDispose]());

interface TestWorker {
  readonly worker: Worker;
  readonly source: ResqueSource;
  readonly ran: string[];
  readonly gate: { open: () => void };
}

async function startWorker(
  options: Partial<ResqueOptions> = {},
  more: { readonly middleware?: readonly Middleware[]; readonly tasks?: Tasks } = {},
): Promise<TestWorker> {
  const ran: string[] = [];
  const gate = { open: (): void => {} };
  const closed = new Promise<void>((resolve) => (gate.open = resolve));
  const tasks =
    more.tasks ??
    new Tasks()
      .handle(defineTask('OkJob'), ({ queue, args: [word] }) => void ran.push(`${queue}:${String(word)}`))
      .handle(defineTask('GateJob'), async ({ args: [word] }) => {
        ran.push(`gate:${String(word)}`);
        await closed;
      })
      .handle(defineTask('FailJob'), ({ args: [word] }) => {
        throw new RangeError(String(word));
      })
      .handle(defineTask('DeafJob'), () => new Promise(() => {}), { timeoutMs: 100 })
      .handle(
        defineTask('SoftJob'),
        (_job, { signal }) =>
          new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
        { softTimeoutMs: 50 },
      );
  const source = resque({ url: server.url, queues: ['default'], concurrency: 1, processTitle: false, ...options });
  const worker = new Worker({ tasks, sources: [source], middleware: more.middleware ?? [], abortGraceMs: 3_000 });
  open.push({ [Symbol.asyncDispose]: () => worker.stop({ timeoutMs: 0 }) });
  await worker.start();
  return { worker, source, ran, gate };
}

const failures = async (list = 'resque:failed'): Promise<Record<string, unknown>[]> =>
  (await redis.lrange(list, 0, -1)).map((text) => JSON.parse(text) as Record<string, unknown>);
const processed = (count: number): Promise<void> =>
  until(`${count} are processed`, async () => Number(await redis.get('resque:stat:processed')) >= count);

describe('queues', () => {
  test('the first that has any is asked first, always', async () => {
    for (const queue of ['low', 'high', 'low', 'high']) await client.enqueue('OkJob', { queue, args: [queue] });
    const { ran } = await startWorker({ queues: ['high', 'low'] });
    await processed(4);
    expect(ran).toEqual(['high:high', 'high:high', 'low:low', 'low:low']);
  });

  test('a star is all of them in the order of the alphabet, less those with a mark; new ones are seen', async () => {
    for (const queue of ['b', 'a', 'secret', 'c_slow']) await client.enqueue('OkJob', { queue, args: [queue] });
    const { ran, worker } = await startWorker({ queues: ['c*', '*', '!secret'] });
    await processed(3);
    expect(ran).toEqual(['c_slow:c_slow', 'a:a', 'b:b']);
    await client.enqueue('OkJob', { queue: 'brand-new', args: ['new'] });
    await processed(4);
    expect(ran.at(-1)).toBe('brand-new:new');
    expect(await client.size('secret')).toBe(1);
    expect((await redis.smembers('resque:workers'))[0]).toMatch(/:c\*,\*$/);
    await worker.stop();
  });

  test('polling finds them as well', async () => {
    const { ran } = await startWorker({ fetch: 'poll', interval: 0.05, queues: ['*'] });
    await client.enqueue('OkJob', { args: ['polled'] });
    await until('it has run', () => ran.length === 1);
  });

  test('in another namespace', async () => {
    await using other = new ResqueClient({ url: `127.0.0.1:${server.port}:0/apps:shop`, defaultQueue: 'default' });
    const { ran } = await startWorker({ namespace: 'apps:shop' });
    await client.enqueue('OkJob', { args: ['not here'] });
    await other.enqueue('OkJob', { args: ['here'] });
    await until('it has run', () => ran.length === 1);
    expect(ran).toEqual(['default:here']);
    expect(await redis.llen('resque:queue:default')).toBe(1);
  });
});

describe('a worker with an interval of 0', () => {
  const stopped = ({ worker }: TestWorker): Promise<unknown> =>
    worker.state === 'stopped'
      ? Promise.resolve()
      : worker.once('worker:state', ({ state }: { readonly state: string }) => state === 'stopped');

  test('works all queues, and what its jobs bring, and ends', async () => {
    await client.enqueue('OkJob', { queue: 'high', args: ['a'] });
    await client.enqueue('BringJob', { queue: 'low' });
    const ran: string[] = [];
    const tasks = new Tasks()
      .handle(defineTask('OkJob'), ({ queue, args: [word] }) => void ran.push(`${queue}:${String(word)}`))
      .handle(defineTask('BringJob'), async () => {
        await until('the other has run, and the queues are empty', () => ran.length === 1);
        await client.enqueue('OkJob', { queue: 'new', args: ['b'] });
      });
    await stopped(await startWorker({ interval: 0, queues: ['*'] }, { tasks }));
    expect(ran).toEqual(['high:a', 'new:b']);
    expect(await redis.keys('resque:worker*')).toEqual([]);
  });

  test('reaches what waits behind a thousand jobs of others, and leaves those to them', async () => {
    const strange = Array.from({ length: 1_500 }, (_, number) => `{"class":"TheirJob","args":[${number}]}`);
    await redis.rpush('resque:queue:default', ...strange, '{"class":"OkJob","args":["last"]}');
    const testWorker = await startWorker({
      interval: 0,
      queues: ['default'],
      concurrency: 100,
      unknownTaskDelayMs: 50,
    });
    await stopped(testWorker);
    expect(testWorker.ran).toEqual(['default:last']);
    expect((await redis.lrange('resque:queue:default', 0, -1)).toSorted()).toEqual(strange.toSorted());
  });
});

test('what a dead process only held for others is given back, however often; what it ran is set aside in the end', async () => {
  await redis.sadd('resque:jobglot:claimants', 'dead-abcdef');
  const theirs = '{"class":"TheirJob","args":[]}';
  const ours = '{"class":"GateJob","args":["x"]}';
  await redis.hset('resque:jobglot:claims:dead-abcdef', '1:default', theirs, '2:default', ours);
  const { worker } = await startWorker({ poisonLimit: 1, rescueInterval: 0.05 });
  await until(
    'nothing is left of the dead',
    async () => !(await redis.smembers('resque:jobglot:claimants')).includes('dead-abcdef'),
  );
  await worker.stop();
  expect(await redis.lrange('resque:jobglot:quarantine:default', 0, -1)).toEqual([ours]);
  expect(await redis.lrange('resque:queue:default', 0, -1)).toEqual([theirs]);
});

test('on a cluster, every key under one hash tag', async () => {
  await using own = await startRedis({ args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'] });
  const admin = own.client();
  await admin.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
  await until('the cluster is up', async () =>
    String(await admin.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
  );
  const app = { url: own.url, cluster: true, namespace: '{resque}' };
  expect(() => resque({ ...app, namespace: 'resque' })).toThrow("the namespace must be a hash tag such as '{resque}'");
  await using there = new ResqueClient({ ...app, defaultQueue: 'default' });
  const { ran, worker } = await startWorker({ ...app, queues: ['*'], scheduler: true });
  await there.enqueue('OkJob', { args: ['now'] });
  await there.enqueue('FailJob', { args: ['fails'] });
  await there.enqueue('OkJob', { args: ['later'], in: 1 });
  await until('both have run', () => ran.length === 2);
  expect(ran).toEqual(['default:now', 'default:later']);
  await until('the failure is recorded', async () => (await admin.llen('{resque}:failed')) === 1);
  await worker.stop();
  expect(await admin.smembers('{resque}:workers')).toEqual([]);
});

describe('pausing', () => {
  test('pause-all-workers holds every worker, and lets it go on', async () => {
    await client.pauseAll();
    const { ran } = await startWorker();
    await client.enqueue('OkJob', { args: [1] });
    expect(await redis.get('resque:pause-all-workers')).toBe('true');
    await redis.set('resque:pause-all-workers', ' TRUE\n');
    await client.enqueue('OkJob', { args: [2] });
    expect(ran).toEqual([]);
    expect(await client.size('default')).toBe(2);
    await client.resumeAll();
    await processed(2);
    expect(ran).toEqual(['default:1', 'default:2']);
  });

  test('one worker is paused and resumed, with its hooks', async () => {
    const heard: string[] = [];
    const { source, ran } = await startWorker({
      hooks: { beforePause: () => void heard.push('before'), afterPause: () => void heard.push('after') },
    });
    await source.pause();
    await client.enqueue('OkJob', { args: ['later'] });
    expect(ran).toEqual([]);
    await source.resume();
    await processed(1);
    expect(heard).toEqual(['before', 'after']);
  });
});

describe('what is shown while a job runs, and after', () => {
  test('worker:<id>, then nothing; totals and counters of the worker, until it goes', async () => {
    const { worker, source, ran, gate } = await startWorker();
    const [id] = source.workers;
    await client.enqueue('GateJob', { args: ['x', 1.5] });
    await until('it is shown', async () => (await redis.exists(`resque:worker:${id}`)) === 1);
    const shown = await redis.get(`resque:worker:${id}`);
    expect(shown).toMatch(
      /^\{"queue":"default","run_at":"[-\d]{10}T[:\d]{8}Z","payload":\{"class":"GateJob","args":\["x",1.5\]\}\}$/,
    );
    expect(await redis.get(`resque:worker:${id}:started`)).toMatch(/^[-\d]{10} [:\d]{8} \+0000$/);
    expect(await redis.hget('resque:workers:heartbeat', id!)).toMatch(/^[-\d]{10}T[:\d]{8}\+00:00$/);
    gate.open();
    await until('it is not shown any more', async () => (await redis.exists(`resque:worker:${id}`)) === 0);
    expect(await redis.get(`resque:stat:processed:${id}`)).toBe('1');
    expect(ran).toEqual(['gate:x']);
    await client.enqueue('FailJob', { args: ['no'] });
    await processed(2);
    expect(await redis.get(`resque:stat:failed:${id}`)).toBe('1');
    expect(await failures()).toMatchObject([{ exception: 'RangeError', error: 'no', worker: id, queue: 'default' }]);
    await worker.stop();
    expect((await redis.keys('resque:*')).sort()).toEqual(
      ['failed', 'pruning_dead_workers_in_progress', 'queues', 'stat:failed', 'stat:processed'].map(
        (key) => `resque:${key}`,
      ),
    );
  });
});

describe('failures', () => {
  test('go to each backend that is asked for, and a function is told', async () => {
    const told: FailureRecord[] = [];
    await startWorker({ failure: ['redis', 'redis_multi_queue', (failure) => void told.push(failure)] });
    await client.enqueue('FailJob', { args: ['twice'] });
    await processed(1);
    expect(await failures()).toEqual(await failures('resque:default_failed'));
    expect(await redis.smembers('resque:failed_queues')).toEqual(['default_failed']);
    expect(told).toMatchObject([
      { exception: 'RangeError', error: 'twice', payload: '{"class":"FailJob","args":["twice"]}' },
    ]);
  });

  test('go nowhere where none is asked for, and a function that throws keeps nothing from its end', async () => {
    await startWorker({
      failure: [
        'none',
        () => {
          throw new Error('out of order');
        },
      ],
    });
    await client.enqueue('FailJob', { args: ['gone'] });
    await processed(1);
    expect(await failures()).toEqual([]);
    expect(await redis.get('resque:stat:failed')).toBe('1');
  });

  test('limits of the task fail the job', async () => {
    await startWorker({ concurrency: 2 });
    await client.enqueue('DeafJob');
    await client.enqueue('SoftJob');
    await processed(2);
    const errors = (await failures()).map(({ error }) => error).sort();
    expect(errors).toEqual(['hard time limit (0.1s) exceeded', 'soft time limit (0.05s) exceeded']);
  });

  test('a class that nobody handles fails, where that is asked for', async () => {
    await startWorker({ unknownTask: 'fail' }); // the old name of 'reject'
    await client.enqueue('Nobody::Here', { args: [1] });
    await processed(1);
    expect(await failures()).toMatchObject([{ exception: 'NameError', payload: { class: 'Nobody::Here', args: [1] } }]);
  });

  test('jobs that run can be killed, and the worker goes on', async () => {
    const { source, ran } = await startWorker();
    await client.enqueue('GateJob', { args: ['never'] });
    await until('it runs', () => ran.length === 1);
    expect(source.killJobs()).toBe(1);
    await client.enqueue('OkJob', { args: ['next'] });
    await processed(2);
    expect(await failures()).toMatchObject([{ exception: 'Resque::DirtyExit', backtrace: [] }]);
    expect(await redis.get('resque:stat:failed')).toBeNull();
  });
});

test('what a hook of the worker throws is its own trouble', async () => {
  const boom = (): never => {
    throw new Error('out of order');
  };
  const hooks = { queueEmpty: boom, beforePause: boom, afterPause: boom, shutdown: boom, workerExit: boom };
  const { worker, source, ran } = await startWorker({ hooks });
  for (const word of ['a', 'b']) {
    await client.enqueue('OkJob', { args: [word] });
    await processed(word === 'a' ? 1 : 2);
    await source.pause();
    await source.resume();
  }
  await worker.stop();
  expect(ran).toEqual(['default:a', 'default:b']);
  expect(await redis.scard('resque:workers')).toBe(0);
});

describe('hooks', () => {
  const log: string[] = [];
  const say = (word: string) => (): void => void log.push(word);
  beforeEach(() => void log.splice(0));

  test('run in the order of Resque', async () => {
    await using hooked = new ResqueClient({
      url: server.url,
      defaultQueue: 'default',
      hooks: { OkJob: { beforeEnqueue: say('before_enqueue'), afterEnqueue: say('after_enqueue') } },
    });
    await hooked.enqueue('OkJob', { args: ['x'] });
    const hooks = performHooks({
      OkJob: {
        beforePerformB: say('before_perform_b'),
        beforePerform: say('before_perform'),
        beforePerformA: say('before_perform_a'),
        aroundPerform2: async (perform) => {
          log.push('around2>');
          await perform();
          log.push('<around2');
        },
        aroundPerform1: async (perform) => {
          log.push('around1>');
          await perform();
          log.push('<around1');
        },
        afterPerformA: say('after_perform_a'),
        onFailure: say('on_failure'),
      },
    });
    const perform: Middleware = (_job, next) => {
      log.push('perform');
      return next();
    };
    await startWorker({}, { middleware: [hooks, perform] });
    await processed(1);
    // As captured from Ruby: fixtures/resque/3.0/job-hooks.json.
    expect(log).toEqual(
      ['before_enqueue', 'after_enqueue', 'before_perform', 'before_perform_a', 'before_perform_b'].concat([
        'around1>',
        'around2>',
        'perform',
        '<around2',
        '<around1',
        'after_perform_a',
      ]),
    );
  });

  test('a hook that would not have it: not enqueued, or forgotten', async () => {
    await using hooked = new ResqueClient({
      url: server.url,
      defaultQueue: 'default',
      hooks: { OkJob: { beforeEnqueue: (word) => word !== 'no' } },
    });
    expect(await hooked.enqueue('OkJob', { args: ['no'] })).toBe(false);
    expect(await hooked.enqueue('OkJob', { args: ['yes'] })).toBe(true);
    const hooks = performHooks({
      OkJob: {
        beforePerform: () => {
          throw new DontPerform();
        },
        onFailure: say('on_failure'),
      },
      FailJob: { onFailure: (error, word) => void log.push(`${(error as Error).name} ${String(word)}`) },
    });
    const { ran } = await startWorker({}, { middleware: [hooks] });
    await client.enqueue('FailJob', { args: ['seen'] });
    await processed(2);
    expect(ran).toEqual([]);
    expect(log).toEqual(['RangeError seen']);
    expect(await failures()).toHaveLength(1);
  });
});

describe('a process for each job', () => {
  const children = childProcess({
    tasks: new URL('apps/resque-tasks.ts', import.meta.url),
    execArgv: ['--import', 'tsx'],
    title: jobTitle,
    termTimeoutMs: 500,
  });
  const values = new Map<string, unknown>();
  const keep: Middleware = async (job, next) => {
    const value = await next();
    values.set(job.task, value);
    return value;
  };
  const start = (options: Partial<ResqueOptions> = {}): Promise<TestWorker> =>
    startWorker({ concurrency: 2, ...options }, { middleware: [keep, children], tasks: inChildren });

  test('runs it elsewhere, and its end is told as ever', async () => {
    await start({ scheduler: true });
    for (const name of ['PidJob', 'TitleJob', 'FailJob', 'DiscardJob', 'RetryJob'])
      await client.enqueue(name, { args: [] });
    await processed(6);
    expect(values.get('PidJob')).not.toBe(process.pid);
    expect(values.get('TitleJob')).toMatch(/^resque-3\.0\.0: Processing default since \d+ \[TitleJob\]/);
    expect(values.get('RetryJob')).toBe(2);
    const all = await failures();
    expect(all).toMatchObject([{ exception: 'RangeError', error: 'in the child', payload: { class: 'FailJob' } }]);
    expect(String(all[0]!['backtrace'])).toContain('resque-tasks.ts');
  });

  test('its death is a DirtyExit, as Resque tells it', async () => {
    await start();
    await client.enqueue('KillJob', { args: [] });
    await client.enqueue('ExitJob', { args: [] });
    await client.enqueue('PidJob', { args: [] });
    await processed(3);
    const errors = (await failures()).map(({ exception, error }) => `${String(exception)}: ${String(error)}`).sort();
    expect(errors[0]).toMatch(
      /^Resque::DirtyExit: Child process exited with code 3 before its job had ended, pid \d+$/,
    );
    expect(errors[1]).toMatch(
      /^Resque::DirtyExit: Child process received unhandled signal pid \d+ SIGKILL \(signal 9\)$/,
    );
    expect(await redis.get('resque:stat:failed')).toBeNull();
  });

  test('one that hangs is killed at its limit, and the worker goes on', async () => {
    await start({ concurrency: 1 });
    await client.enqueue('SpinJob', { args: [] });
    await client.enqueue('PidJob', { args: [] });
    await processed(2);
    expect(await failures()).toMatchObject([{ error: 'hard time limit (1s) exceeded', payload: { class: 'SpinJob' } }]);
  });

  test('a worker that stops gives back what runs', async () => {
    const { worker } = await start();
    await client.enqueue('HangJob', { args: ['kept'] });
    await until('it runs', async () => (await redis.keys('resque:worker:*')).some((key) => !key.endsWith('started')));
    await worker.stop({ timeoutMs: 0 });
    expect(await redis.lrange('resque:queue:default', 0, -1)).toEqual(['{"class":"HangJob","args":["kept"]}']);
    expect(await failures()).toEqual([]);
  });
});

describe('the client', () => {
  test('looks at queues, and takes jobs out by their text', async () => {
    for (const args of [[1], [1.5, { a: 1 }], [1]]) await client.enqueue('OkJob', { args });
    await client.enqueue('FailJob', { args: [1] });
    expect(await client.size('default')).toBe(4);
    expect((await client.peek('default', 1)).map(({ args }) => args)).toEqual([[1.5, { a: 1 }]]);
    expect((await client.peek('default', 0, 10)).map(({ class: name }) => name)).toEqual([
      'OkJob',
      'OkJob',
      'OkJob',
      'FailJob',
    ]);
    expect(await client.dequeue('OkJob', { args: [1] })).toBe(2);
    expect(await client.dequeue('OkJob')).toBe(1);
    expect(await client.size('default')).toBe(1);
    expect(await client.queues()).toEqual(['default']);
    await client.removeQueue('default');
    expect(await client.queues()).toEqual([]);
    expect(await client.size('default')).toBe(0);
  });

  test('many jobs of Active Job are, to the letter, what each would be by itself; a command a queue for all', async () => {
    const calls = [
      { args: [1, 'é'], jobId: 'a' },
      { args: [2], kwargs: { urgent: true }, queue: 'high', priority: 5, jobId: 'b' },
      { args: [3], in: 60, locale: 'de', jobId: 'c' },
      { args: [4], jobId: 'd' },
    ] as const;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-21T10:00:00.123Z') });
    try {
      const stored = async (): Promise<readonly unknown[]> => [
        (await redis.keys('*')).toSorted(),
        await redis.lrange('resque:queue:default', 0, -1),
        await redis.lrange('resque:queue:high', 0, -1),
        await redis.lrange((await redis.keys('resque:delayed:*'))[0] ?? '', 0, -1),
      ];
      for (const call of calls) await client.performLater('ShipJob', call);
      const single = await stored();
      expect(single.slice(1).flat()).toHaveLength(4);
      await redis.flushall();
      await redis.config('RESETSTAT');
      expect(await client.performAllLater('ShipJob', calls)).toEqual(['a', 'b', 'c', 'd']);
      expect(await stored()).toEqual(single);
      expect(await redis.info('commandstats')).toMatch(/cmdstat_rpush:calls=[23],/);
      // Checked before the first is sent.
      const bad = [{ args: [5] }, { args: [new Map([[{}, 1]])] }];
      await expect(client.performAllLater('ShipJob', bad)).rejects.toThrow('cannot write args[0]');
      expect(await client.size('default')).toBe(2);
    } finally {
      vi.useRealTimers();
    }
  });

  test('says what a call lacks', async () => {
    await using bare = new ResqueClient({ url: server.url });
    await expect(bare.enqueue('OkJob')).rejects.toThrow('resque: OkJob needs a queue: pass queue');
    await expect(client.enqueue('OkJob', { args: [new Date()] })).rejects.toThrow('args[0]');
    await expect(client.enqueue('OkJob', { at: new Date(), in: 1 })).rejects.toThrow('either at or in');
    await expect(client.push('default', { class: 'X', args: 'no list' })).rejects.toThrow('no list');
    expect(() => new ResqueClient({ url: 'nowhere at all' })).toThrow('is no address of Redis');
  });
});

describe('schedules', () => {
  test('a delayed job is moved when it is due, not at the next look', async () => {
    const { ran } = await startWorker({ scheduler: { interval: 30 } });
    const due = new Date(Math.ceil(Date.now() / 1000) * 1000 + 1_000);
    await client.enqueueAt(due, 'OkJob', { args: ['due'] });
    await until('it has run', () => ran.length === 1);
    const late = Date.now() - due.getTime();
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(15_000);
  });

  test('static and dynamic schedules are sent once, whoever leads; the lead is given up at the end', async () => {
    const stops: AbortController[] = [];
    const runs: Promise<void>[] = [];
    const schedulers = [1, 2].map(() => {
      const scheduler = new ResqueScheduler({
        url: server.url,
        interval: 0.1,
        schedule: { tick: { class: 'OkJob', queue: 'ticks', args: ['static'], cron: '* * * * * *' } },
      });
      const stop = new AbortController();
      stops.push(stop);
      runs.push(scheduler.run(stop.signal));
      return scheduler;
    });
    await client.setSchedule('dyn', { class: 'OkJob', queue: 'dyns', args: 'dynamic', every: '1s' });
    await until('both were sent', async () => (await client.size('ticks')) >= 2 && (await client.size('dyns')) >= 1);
    expect(schedulers.filter(({ leads }) => leads)).toHaveLength(1);
    expect(await redis.lindex('resque:queue:dyns', 0)).toBe('{"class":"OkJob","args":["dynamic"]}');
    expect(Object.keys(await redis.hgetall('resque:delayed:last_enqueued_at')).sort()).toEqual(['dyn', 'tick']);
    const leader = schedulers.findIndex(({ leads }) => leads);
    stops[leader]!.abort();
    await runs[leader];
    const before = await client.size('ticks');
    await until('the other leads', () => schedulers[1 - leader]!.leads);
    await until('it sends', async () => (await client.size('ticks')) > before);
    await client.removeSchedule('dyn');
    stops[1 - leader]!.abort();
    await runs[1 - leader];
    expect(await redis.exists('resque:resque:resque_scheduler_master_lock')).toBe(0);
  });

  test('schedules of another environment are not followed', async () => {
    const schedule = { every: '1s', queue: 'default', class: 'OkJob' } as const;
    const scheduler = new ResqueScheduler({
      url: server.url,
      env: 'staging',
      schedule: {
        Everywhere: { ...schedule, args: ['everywhere'] },
        Here: { ...schedule, args: ['here'], rails_env: 'production, staging' },
        There: { ...schedule, args: ['there'], env: 'production' },
      },
    });
    const stop = new AbortController();
    const running = scheduler.run(stop.signal);
    const sent = async (): Promise<readonly string[]> => redis.lrange('resque:queue:default', 0, -1);
    await until('each was sent twice', async () => (await sent()).filter((text) => text.includes('here"')).length >= 4);
    stop.abort();
    await running;
    expect([...new Set(await sent())].toSorted()).toEqual([
      '{"class":"OkJob","args":["everywhere"]}',
      '{"class":"OkJob","args":["here"]}',
    ]);
  });

  test('while a scheduler of Ruby leads, ours does nothing', async () => {
    await redis.set('resque:resque:resque_scheduler_master_lock', 'localhost:13283', 'EX', 180);
    await client.enqueue('OkJob', { args: ['ruby moves it'], at: new Date(Date.now() + 300) });
    const { ran } = await startWorker({ scheduler: { interval: 0.1 } });
    await client.enqueue('OkJob', { args: ['now'] });
    await processed(1);
    await until('it is due', () => true);
    expect(ran).toEqual(['default:now']);
    expect(await redis.zcard('resque:delayed_queue_schedule')).toBe(1);
    await redis.del('resque:resque:resque_scheduler_master_lock');
    await processed(2);
  });

  test('who leads again does not send what another sent meanwhile', async () => {
    const lock = 'resque:resque:resque_scheduler_master_lock';
    const scheduler = new ResqueScheduler({
      url: server.url,
      interval: 0.1,
      schedule: { once: { class: 'OkJob', queue: 'onces', every: ['1h', { first_in: '3s' }] } },
    });
    const stop = new AbortController();
    const run = scheduler.run(stop.signal);
    await until('it leads', () => scheduler.leads);
    const due = Date.now() + 3_000;
    await redis.set(lock, 'ruby:1', 'EX', 180);
    await until('another leads', () => !scheduler.leads);
    await until('it is due', () => Date.now() > due);
    const noted = new Date().toISOString().replace('T', ' ').replace(/\..*/, ' +0000');
    await redis.hset('resque:delayed:last_enqueued_at', 'once', noted);
    await redis.del(lock);
    await until('it leads again', () => scheduler.leads);
    // Schedules come before what is delayed.
    await redis.rpush('resque:delayed:1', '{"class":"OkJob","args":[],"queue":"moved"}');
    await redis.zadd('resque:delayed_queue_schedule', 1, '1');
    await until('it looked', async () => (await client.size('moved')) === 1);
    expect(await client.size('onces')).toBe(0);
    stop.abort();
    await run;
  });

  test('a scheduled job whose answer was lost is not sent twice', async () => {
    const entry = { name: 'tick', queue: 'lost', payload: '{"class":"OkJob","args":[]}' };
    const at = new Date();
    await redis.set('resque:resque:resque_scheduler_master_lock', 'me');
    expect(await client.run((keys) => wire.fire(keys, 'me', entry, at))).toBe(true);
    expect(await client.run((keys) => wire.fire(keys, 'me', entry, at, true))).toBe(true);
    expect(await client.size('lost')).toBe(1);
    await redis.del('resque:resque:resque_scheduler_master_lock');
  });

  test('a retry policy without a scheduler is refused at the start, or its retry is recorded as a failure', async () => {
    const tasks = new Tasks().handle(defineTask('OnlyHere', { names: { resque: 'OnlyHere' } }), () => undefined, {
      retry: {},
    });
    await expect(startWorker({}, { tasks })).rejects.toThrow(
      "the task 'OnlyHere' has a retry policy, but no scheduler is configured",
    );
  });

  test('a schedule that cannot be followed is refused, saying why', () => {
    const schedule = { bad: { queue: 'x', cron: '61 * * * *' } };
    expect(() => new ResqueScheduler({ url: server.url, schedule })).toThrow(
      "resque: scheduler: the schedule '61 * * * *' cannot be read: '61' among its minutes is not between 0 and 59",
    );
  });
});
