import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { float, SidekiqApi, SidekiqClient } from '../../src/drivers/sidekiq/index.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import { startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { SidekiqScene } from './sidekiq-scene.ts';

let scene: SidekiqScene;
beforeAll(async () => {
  scene = await SidekiqScene.start();
});
afterEach(() => scene.reset());
afterAll(() => scene[Symbol.asyncDispose]());

const hard = defineTask<(id: number, what?: unknown) => void>('HardJob');

describe('a push', () => {
  test('has the members Sidekiq writes, in its order and spacing', async () => {
    const { jid, state } = await scene.client.enqueue(hard, { args: [1, { a: float(1) }], queue: 'critical' });
    expect(state).toBe('pushed');
    expect(await scene.redis.smembers('queues')).toEqual(['critical']);
    const [text] = await scene.queue('critical');
    expect(text).toMatch(
      new RegExp(
        `^\\{"retry":true,"queue":"critical","args":\\[1,\\{"a":1\\.0\\}\\],"class":"HardJob","jid":"${jid}","created_at":\\d{10}\\.\\d+,"enqueued_at":\\d{10}\\.\\d+\\}$`,
      ),
    );
    expect(jid).toMatch(/^[0-9a-f]{24}$/);
  });

  test('has every option under its name on the wire', async () => {
    await scene.client.enqueue(hard, {
      args: [1],
      retry: 5,
      retryFor: 3600,
      retryQueue: 'low',
      dead: false,
      backtrace: 3,
      tags: ['a'],
      jid: 'mine',
      cattr: { user_id: 7 },
      displayClass: 'Shown',
      custom: { tenant_id: 7 },
    });
    expect(JSON.parse((await scene.queue())[0]!)).toMatchObject({
      retry: 5,
      retry_for: 3600,
      retry_queue: 'low',
      dead: false,
      backtrace: 3,
      tags: ['a'],
      jid: 'mine',
      cattr: { user_id: 7 },
      display_class: 'Shown',
      tenant_id: 7,
    });
  });

  test('for later is in schedule, without a queue and enqueued_at; for earlier it is now', async () => {
    await scene.client.enqueue(hard, { args: [1], in: 300 });
    const [later] = await scene.set('schedule');
    expect(later!.text).not.toContain('enqueued_at');
    expect(later!.score - Date.now() / 1000).toBeGreaterThan(290);
    expect(await scene.redis.exists('queues')).toBe(0);
    await scene.client.enqueue(hard, { args: [2], at: new Date(0) });
    expect(await scene.queue()).toHaveLength(1);
  });

  test.each([
    [
      { in: 1_795_259_671 },
      'HardJob: in must be seconds from now, below 1e9 (for a point in time there is `at`), not 1795259671',
    ],
    [{ expiresIn: 1e300 }, 'HardJob: expiresIn must be a number of seconds, below 1e9, not 1e+300'],
    [{ queue: 'a\ud800' }, 'HardJob: queue must be a name'],
    [{ jid: 'a\udc00' }, 'HardJob: jid must be a text'],
    [{ retry: -1 }, 'HardJob: retry must be true, false or a number of retries, not -1'],
    [{ retryFor: 2e9 }, 'retryFor must be seconds, at most 1e9'],
    [{ queue: '' }, 'queue must be a name, not ""'],
    [{ tags: 'a' }, 'tags must be an array of strings'],
    [{ in: Number.NaN }, 'in must be seconds from now, below 1e9'],
    [{ at: new Date(Number.NaN) }, 'at must be a Date'],
    [{ in: 1, at: new Date(0) }, 'at must be left out'],
    [{ args: [1, new Date(0)] }, 'HardJob: cannot write args[1]: a Date has no form in JSON'],
    [{ args: 'x' }, 'args must be an array'],
    [{ custom: { jid: 'x' } }, 'custom.jid must be a member that no option of its own sets'],
    [{ kwargs: { a: 1 } }, 'no keyword arguments'],
  ])('that cannot be is refused before anything is sent: %j', async (call, why) => {
    await expect(scene.client.enqueue(hard, { args: [1], ...call } as never)).rejects.toThrow(why);
    expect(await scene.redis.keys('*')).toEqual([]);
  });

  test('of many is few trips, in their order; each may have a time of its own', async () => {
    const pushed = await scene.client.enqueueMany(
      hard,
      Array.from({ length: 2_500 }, (_, at) => ({ args: [at] as [number] })),
    );
    expect(new Set(pushed.map(({ jid }) => jid)).size).toBe(2_500);
    const queue = await scene.queue();
    expect(queue.map((text) => (JSON.parse(text) as { args: number[] }).args[0])).toEqual(
      Array.from({ length: 2_500 }, (_, at) => at),
    );
    await scene.client.enqueueMany(hard, [
      { args: [1], in: 100, queue: 'x' },
      { args: [2], in: 200, queue: 'x' },
    ]);
    const [first, second] = await scene.set('schedule');
    expect(Math.round(second!.score - first!.score)).toBe(100);
    await expect(scene.client.enqueueMany(hard, [[1]] as never)).rejects.toThrow('calls[0] must be a call');
    await expect(scene.client.enqueueMany(hard, [{ args: [1] }, { args: 'x' }] as never)).rejects.toThrow(
      'calls[1].args must be a list',
    );
  });

  test('speaks what the fleet reads', async () => {
    await scene.redis.sadd('processes', 'new:2:b');
    await scene.redis.hset('new:2:b', 'info', '{"version":"8.1.0","queues":["default"]}');
    await using client = new SidekiqClient({ url: scene.server.url });
    await client.enqueue(hard, { args: [1] });
    expect((await scene.queue())[0]).toMatch(/"created_at":\d{13},"enqueued_at":\d{13}}/);
    await using older = new SidekiqClient({ url: scene.server.url, dialect: '6.4', namespace: 'shop' });
    await older.enqueue(hard, { args: [1] });
    expect((await scene.redis.lrange('shop:queue:default', 0, -1))[0]).toMatch(/"created_at":\d{10}\.\d+/);
  });
});

describe('many jobs of Active Job', () => {
  const calls = [
    { args: [1, float(2)], jobId: 'a', jid: 'aaaaaaaaaaaaaaaaaaaaaaaa' },
    {
      args: ['é'],
      kwargs: { urgent: true },
      queue: 'critical',
      priority: 5,
      jobId: 'b',
      jid: 'bbbbbbbbbbbbbbbbbbbbbbbb',
    },
    { args: [], in: 60, locale: 'de', jobId: 'c', jid: 'cccccccccccccccccccccccc', tags: ['import'] },
  ] as const;

  test('are, to the letter, what each would be by itself; a command a queue for all', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-21T10:00:00.123Z') });
    try {
      const stored = async (): Promise<readonly unknown[]> => [
        await scene.queue(),
        await scene.queue('critical'),
        await scene.redis.zrange('schedule', '0', '-1', 'WITHSCORES'),
      ];
      for (const call of calls) await scene.client.performLater('ShipJob', call);
      const single = await stored();
      expect(single.flat()).toHaveLength(4);
      await scene.redis.flushall();
      await scene.redis.config('RESETSTAT');
      const pushed = await scene.client.performAllLater('ShipJob', calls);
      expect(pushed).toEqual(calls.map(({ jid, jobId }) => ({ jid, jobId, state: 'pushed' })));
      expect(await stored()).toEqual(single);
      expect(await scene.redis.info('commandstats')).toContain('cmdstat_lpush:calls=2,');
    } finally {
      vi.useRealTimers();
    }
  });

  test('are checked before the first is sent, pass middleware one by one, and leave in batches', async () => {
    const client = new SidekiqClient({
      url: scene.server.url,
      middleware: [(job, next) => (job.queue === 'never' ? undefined : next())],
    });
    try {
      const bad = [{ args: [1] }, { args: [new Map([[{}, 1]])] }];
      await expect(client.performAllLater('ShipJob', bad)).rejects.toThrow('cannot write args[0]');
      expect(await scene.queue()).toEqual([]);
      await expect(client.performAllLater('ShipJob', [], { batchSize: 0 })).rejects.toThrow('batchSize must be');
      expect(await client.performAllLater('ShipJob', [])).toEqual([]);
      const three = [{ args: [1] }, { args: [2], queue: 'never' }, { args: [3] }];
      const pushed = await client.performAllLater('ShipJob', three, { batchSize: 1 });
      expect(pushed.map(({ state }) => state)).toEqual(['pushed', 'halted', 'pushed']);
      expect(await scene.queue()).toHaveLength(2);
      expect(await scene.queue('never')).toEqual([]);
    } finally {
      await client.close();
    }
  });
});

describe('middleware', () => {
  test('changes what is pushed, in its order, and may halt it', async () => {
    await using client = new SidekiqClient({
      url: scene.server.url,
      middleware: [
        async (job, next) => {
          job.headers['tenant'] = 7;
          await next();
        },
      ],
    });
    client.use((job, next) => (job.args[0] === 13 ? undefined : next()));
    expect((await client.enqueue(hard, { args: [13] })).state).toBe('halted');
    const pushed = await client.enqueueMany(hard, [{ args: [1] }, { args: [13] }, { args: [2] }]);
    expect(pushed.map(({ state }) => state)).toEqual(['pushed', 'halted', 'pushed']);
    expect((await scene.queue()).map((text) => JSON.parse(text) as object)).toMatchObject([
      { args: [1], tenant: 7 },
      { args: [2], tenant: 7 },
    ]);
  });
});

describe('headers and events', () => {
  test('what middleware puts into the headers is a top-level member, and Job.headers of the handler', async () => {
    const seen: unknown[] = [];
    const tasks = new Tasks().handle(hard, ({ headers, args }) => void seen.push([args, headers]));
    await using client = new SidekiqClient({ url: scene.server.url, defaults: { custom: { tenant: 'a' } } });
    client.use(async (envelope, next) => {
      envelope.headers['traceparent'] = '00-1-2-01';
      await next();
    });
    expect((await client.enqueue(hard, { args: [1], tags: ['x'] })).state).toBe('pushed');
    await scene.client.enqueue(hard, { args: [2], cattr: { user: 1 } });
    const [traced, plain] = await scene.queue();
    expect(JSON.parse(traced!)).toMatchObject({ tenant: 'a', traceparent: '00-1-2-01', tags: ['x'] });
    expect(JSON.parse(plain!)).not.toHaveProperty('traceparent');
    await scene.startWorker(tasks, { concurrency: 1 });
    await until('both have run', () => seen.length === 2);
    expect(seen).toEqual([
      [[1], { tenant: 'a', traceparent: '00-1-2-01' }],
      [[2], undefined],
    ]);
  });

  test('middleware may change the task, its arguments, its queue, its time and its options', async () => {
    await using client = new SidekiqClient({ url: scene.server.url });
    client.use((envelope, next) => {
      expect(envelope).toMatchObject({
        system: 'sidekiq',
        task: 'HardJob',
        args: [1],
        queue: 'default',
        at: undefined,
      });
      Object.assign(envelope, { task: 'OtherJob', args: [2], queue: 'low', at: new Date(Date.now() + 60_000) });
      envelope.options['retry'] = 3;
      return next();
    });
    const { jid } = await client.enqueue(hard, { args: [1] });
    const [entry] = await scene.set('schedule');
    expect(JSON.parse(entry!.text)).toMatchObject({ class: 'OtherJob', args: [2], queue: 'low', retry: 3, jid });
  });

  test('job:enqueued is emitted for each job that Redis has, and for no other', async () => {
    await using client = new SidekiqClient({ url: scene.server.url });
    const events: unknown[] = [];
    client.events.on('job:enqueued', (event) => events.push(event));
    const one = await client.enqueue(hard, { args: [1], queue: 'low' });
    const many = await client.enqueueMany(hard, [{ args: [2] }, { args: [3] }]);
    const later = await client.performLater('ShipJob', { in: 60 });
    client.use(() => undefined);
    expect(await client.enqueue(hard, { args: [4] })).toMatchObject({ state: 'halted' });
    expect(events).toEqual([
      { system: 'sidekiq', id: one.jid, task: 'HardJob', queue: 'low', at: undefined },
      ...many.map(({ jid: id }) => ({ system: 'sidekiq', id, task: 'HardJob', queue: 'default', at: undefined })),
      { system: 'sidekiq', id: later.jid, task: 'ShipJob', queue: 'default', at: expect.any(Date) as Date },
    ]);
  });
});

describe('while Redis is away', () => {
  test('the caller gets the error, or jobs are kept, bounded, and sent in their order', async () => {
    await using server = await startRedis({ persistence: true });
    await using plain = new SidekiqClient({ url: server.url });
    const client = new SidekiqClient({ url: server.url, whenAway: 'buffer', bufferLimit: 3 });
    await plain.open();
    await client.enqueue(hard, { args: [0] });
    await server.kill();
    await until('the connection is known to be lost', async () => {
      const { state } = await client.enqueue(hard, { args: [1] });
      return state === 'buffered';
    });
    await expect(plain.enqueue(hard, { args: [99] })).rejects.toThrow('redis:');
    const before = client.buffered;
    for (let at = before; at < 3; at++) await client.enqueue(hard, { args: [at + 1] });
    await expect(client.enqueue(hard, { args: [98] })).rejects.toThrow('the buffer is full (3 of 3 jobs)');
    await server.restart();
    await until('all are sent', () => client.buffered === 0);
    const redis = server.client();
    const queue = (await redis.lrange('queue:default', 0, -1)).reverse();
    expect(queue.map((text) => (JSON.parse(text) as { args: number[] }).args[0])).toEqual([0, 1, 2, 3]);
    await client.close();
  });

  test("what the server itself refuses is in no one else's way, and nothing is sent twice because of it", async () => {
    await using server = await startRedis({ persistence: true });
    await server.client().set('queue:odd', 'no list');
    const client = new SidekiqClient({ url: server.url, whenAway: 'buffer' });
    await client.open();
    await server.kill();
    for (const queue of ['default', 'odd', 'default'])
      expect(await client.enqueue('HardJob', { queue, args: [queue] })).toMatchObject({ state: 'buffered' });
    await server.restart();
    const redis = server.client();
    await until('the others are sent', async () => (await redis.llen('queue:default')) === 2);
    await until('one is left', () => client.buffered === 1);
    expect(await client.enqueue('HardJob', { args: [1] })).toMatchObject({ state: 'pushed' });
    await redis.del('queue:odd');
    await until('it is sent', () => client.buffered === 0);
    expect([await redis.llen('queue:odd'), await redis.llen('queue:default')]).toEqual([1, 3]);
    await client.close();
  });

  test('a client that is closed with jobs that were never sent says so', async () => {
    const client = new SidekiqClient({ url: 'redis://127.0.0.1:1', whenAway: 'buffer', connectTimeoutMs: 500 });
    expect((await client.enqueue(hard, { args: [1] })).state).toBe('buffered');
    await expect(client.close()).rejects.toThrow('1 jobs that were never sent');
  });
});

describe('the API', () => {
  const job = (name: string, extra: string): string =>
    `{"class":"X","args":["${name}",1.0],"jid":"jid-${name}","queue":"q"${extra}}`;

  test('retries, kills, deletes, each once and only what is still there', async () => {
    await using api = new SidekiqApi({ url: scene.server.url });
    const soon = String(Date.now() / 1000 + 60);
    for (const name of ['a', 'b', 'c', 'd']) await scene.redis.zadd('retry', soon, job(name, ',"retry_count":2'));
    const entries = await api.list('retry');
    expect(entries.map(({ jid }) => jid)).toEqual(['jid-a', 'jid-b', 'jid-c', 'jid-d']);
    const [a, b, c] = entries as [never, never, never];
    expect(await api.retry([a])).toBe(1);
    expect(await api.retry([a])).toBe(0);
    expect((await scene.queue('q'))[0]).toMatch(/\["a",1\.0\].*"retry_count":1,"enqueued_at":/);
    expect(await api.kill([b])).toBe(1);
    expect((await scene.set('dead')).map(({ text }) => text)).toEqual([job('b', ',"retry_count":2')]);
    expect(await api.delete([c, a])).toBe(1);
    expect((await api.find('retry', 'jid-d')).map(({ jid }) => jid)).toEqual(['jid-d']);
    expect(await api.find('retry', '[*')).toEqual([]);
    expect(await api.retry(await api.list('dead'))).toBe(1);
    expect(await scene.set('dead')).toEqual([]);
  });

  test('shows queues and what is in them, and empties them', async () => {
    await using api = new SidekiqApi({ url: scene.server.url });
    await scene.client.enqueueMany(
      hard,
      [1, 2, 3].map((one) => ({ args: [one] as [number], queue: 'q' })),
    );
    expect(await api.queues()).toMatchObject([{ name: 'q', size: 3, paused: false }]);
    const [first, second] = await api.jobs('q', { limit: 2 });
    expect(String(first)).toContain('"args":[1]');
    expect(await api.deleteJob('q', second!)).toBe(true);
    expect(await api.deleteJob('q', second!)).toBe(false);
    expect((await scene.queue('q')).length).toBe(2);
    await api.clearQueue('q');
    expect(await api.queues()).toEqual([]);
  });

  test('entries that are no jobs stay where they are, and can be deleted', async () => {
    await using api = new SidekiqApi({ url: scene.server.url });
    await scene.redis.zadd('dead', '1', '{not json', '2', '[1]');
    const entries = await api.list('dead');
    expect(entries.map(({ hash }) => hash)).toEqual([undefined, undefined]);
    expect(await api.retry(entries)).toBe(0);
    expect(await api.delete(entries)).toBe(2);
  });

  test('a process that is not there cannot be told', async () => {
    await using api = new SidekiqApi({ url: scene.server.url });
    await expect(api.quiet('host:1:x')).rejects.toThrow("no process 'host:1:x'");
    expect(await api.stop()).toEqual([]);
  });
});
