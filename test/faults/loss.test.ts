import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { pause } from '../../src/source.ts';
import { startPythonWorker } from '../support/python.ts';
import { type RedisServer, startRedis, startSentinel, until } from '../support/redis.ts';
import { tally } from '../support/tally.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { startProgram } from './program.ts';
import { startProxy } from './proxy.ts';
import { type Handlers, message, startWorker } from './scene.ts';

/** What is left of the work when processes die, servers go away and connections lie. Asked of the store, not of the worker. */

describe('a worker process that is killed', () => {
  test(
    '5,000 tasks, three SIGKILLs and one restart of Redis: every task ran, every result is there',
    { timeout: 300_000 },
    async () => {
      await using redis = await startRedis({ persistence: true });
      const client = redis.client({ maxRetriesPerRequest: null });
      const COUNT = 5_000;
      const ids = Array.from({ length: COUNT }, (_, index) => `task-${index}`);
      await push(client, ids, { task: 'count', args: [10] });
      const options: CeleryOptions = {
        broker: redis.url,
        backend: redis.url,
        acksLate: true,
        concurrency: 50,
        brokerTransportOptions: { visibilityTimeout: 3 },
      };
      const results = async (): Promise<number> => (await client.keys('celery-task-meta-*')).length;
      let worker = await startProgram('celery', options, redis.url);
      for (const killAt of [500, 1_500, 2_500]) {
        await until(`${killAt} results`, 60_000, async () => (await results()) >= killAt);
        await worker.kill();
        worker = await startProgram('celery', options, redis.url);
      }
      await until('3,500 results', 60_000, async () => (await results()) >= 3_500);
      await redis.restart();
      const from = performance.now();
      await until('all results', 60_000, async () => (await results()) >= COUNT);
      const seconds = ((performance.now() - from) / 1000).toFixed(1);
      await until('nothing is claimed', () => nothingClaimed(client));
      const runs = await client.hgetall('runs');
      expect(Object.keys(runs).length).toBe(COUNT);
      for (const id of ids) expect(Number(runs[id])).toBeGreaterThanOrEqual(1);
      const metas = (await client.mget(ids.map((id) => `celery-task-meta-${id}`))) as string[];
      expect(metas.every((meta) => meta.startsWith('{"status": "SUCCESS"'))).toBe(true);
      expect(await client.llen('celery')).toBe(0);
      const again = Object.values(runs).filter((count) => Number(count) > 1).length;
      // Never more than what was running or waiting to be settled when the process or the server died.
      expect(again).toBeLessThan(4 * 250);
      console.log(
        `5,000 tasks, 3 SIGKILLs, 1 restart: ${again} ran more than once; done ${seconds} s after the restart`,
      );
      await worker.stop();
      // Nor did anything in it go unhandled.
      expect(worker.child.exitCode, worker.log()).toBe(0);
    },
  );

  test('SIGTERM in mid work: what runs is finished, what waits is back in the queue, nothing ran twice', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    const ids = Array.from({ length: 300 }, (_, index) => `task-${index}`);
    await push(client, ids, { task: 'count', args: [100] });
    const worker = await startProgram('celery', { broker: redis.url, backend: redis.url, concurrency: 20 }, redis.url);
    await until('some ran', async () => (await client.hlen('runs')) >= 40);
    await worker.stop();
    expect(worker.child.exitCode, worker.log()).toBe(0);
    const runs = await client.hgetall('runs');
    const waiting = await client.lrange('celery', 0, -1);
    expect(Object.values(runs).every((count) => count === '1')).toBe(true);
    expect((await client.keys('celery-task-meta-*')).length).toBe(Object.keys(runs).length);
    expect(Object.keys(runs).length + waiting.length).toBe(ids.length);
    // In their order, oldest at the right end, as if they had never been taken.
    const order = waiting.map((item) => (JSON.parse(item) as { headers: { id: string } }).headers.id).reverse();
    expect(order).toEqual(ids.slice(ids.length - order.length));
    expect(await nothingClaimed(client)).toBe(true);
  });

  test('early ack is at most once: a task whose worker was killed after its start does not run again', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    const options: CeleryOptions = {
      broker: redis.url,
      backend: redis.url,
      concurrency: 4,
      brokerTransportOptions: { visibilityTimeout: 1 },
    };
    await push(client, ['early-1'], { task: 'count', args: [60_000] });
    const worker = await startProgram('celery', options, redis.url);
    await until('it runs', async () => (await client.hget('runs', 'early-1')) === '1');
    expect(await nothingClaimed(client)).toBe(true);
    await worker.kill();
    await claimOfTheDead(client, 'other', 'count');
    await using _ = await startWorker(options, { count: ({ id }) => client.hincrby('runs', id, 1) });
    // What was claimed later than it has come back, and ran: it would have come back, too.
    await until('another one ran', async () => (await client.exists('celery-task-meta-other')) === 1);
    expect(await client.hgetall('runs')).toEqual({ 'early-1': '1', other: '1' });
    expect(await client.exists('celery-task-meta-early-1')).toBe(0);
  });
});

describe('Redis goes away and comes back', () => {
  test('while the worker is idle: it goes on within seconds', async () => {
    await using redis = await startRedis({ persistence: true });
    await using scene = await startWorker(optionsOf(redis), HANDLERS);
    await runs(redis, 'before');
    const down = scene.worker.once('source:down');
    await redis.stop();
    await down;
    await redis.restart();
    console.log(`restarted while idle: ${await timeOf(() => runs(redis, 'after'))} ms`);
    expect(scene.worker.state).toBe('running');
  });

  test('while handlers run: they end, their results are stored, and more is fetched', async () => {
    await using redis = await startRedis({ persistence: true });
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    await using scene = await startWorker(optionsOf(redis, { acksLate: true }), {
      ...HANDLERS,
      gated: () => gate.then(() => 'through'),
    });
    const client = redis.client();
    await push(client, ['gated-1', 'gated-2'], { task: 'gated' });
    await until('both run', () => scene.started.length === 2);
    await redis.restart();
    open();
    const ms = await timeOf(async () => {
      await until('both are stored', async () => (await redis.client().exists(meta('gated-1'), meta('gated-2'))) === 2);
    });
    console.log(`restarted while running: ${ms} ms`);
    await runs(redis, 'after');
    await until('nothing is claimed', () => nothingClaimed(redis.client()));
    expect(scene.started).toEqual(['gated-1', 'gated-2', 'after']);
  });

  test('while an outcome is to be written: it is written when the server is back, and the task runs once', async () => {
    await using redis = await startRedis({ persistence: true });
    await using scene = await startWorker(optionsOf(redis, { acksLate: true }), {
      ...HANDLERS,
      settling: () => redis.stop().then(() => 'settled'),
    });
    const unsettled = scene.worker.once('job:unsettled');
    await push(redis.client(), ['settling-1'], { task: 'settling' });
    await unsettled;
    // It may be settled before the restart is known here.
    const settled = scene.worker.once('job:settled');
    await redis.restart();
    console.log(`restarted while settling: ${await timeOf(() => settled)} ms`);
    expect(await redis.client().get(meta('settling-1'))).toContain('"settled"');
    await until('nothing is claimed', () => nothingClaimed(redis.client()));
    await runs(redis, 'after');
    expect(scene.started).toEqual(['settling-1', 'after']);
  });

  test('before an early ack could be written: the task starts when the server is back, once', async () => {
    await using redis = await startRedis({ persistence: true });
    await using proxy = await startProxy(redis.port);
    await using scene = await startWorker(optionsOf(redis, { broker: proxy.url }), HANDLERS);
    const client = redis.client();
    await runs(redis, 'before');
    // The claim arrives; the acknowledgement of the start does not.
    const off = scene.worker.on('job:started', () => {
      off();
      proxy.cut();
    });
    await push(client, ['early-1'], { task: 'ok' });
    await until('it ran', async () => (await client.exists(meta('early-1'))) === 1);
    await until('nothing is claimed', () => nothingClaimed(client));
    expect(scene.started).toEqual(['before', 'early-1']);
  });

  test('and another server is the master by then (Sentinel): the worker follows', { timeout: 90_000 }, async () => {
    await using sentinel = await startSentinel();
    const options = { masterName: sentinel.name };
    await using scene = await startWorker(
      optionsOf(sentinel.master, {
        broker: sentinel.url,
        backend: sentinel.url,
        brokerTransportOptions: options,
        resultBackendTransportOptions: options,
      }),
      HANDLERS,
    );
    await runs(sentinel.master, 'before');
    const port = await sentinel.failover();
    const master = sentinel.replicas.find((replica) => replica.port === port) as RedisServer;
    console.log(`failover: ${await timeOf(() => runs(master, 'after'))} ms until the next task ran`);
    expect(scene.started).toEqual(['before', 'after']);
  });

  test('and has no memory left: results wait for memory, and no message is lost', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    await using scene = await startWorker(optionsOf(redis, { acksLate: true }), HANDLERS);
    const ids = Array.from({ length: 50 }, (_, index) => `oom-${index}`);
    await push(client, ids, { task: 'brief' });
    const unsettled = scene.worker.once('job:unsettled');
    await client.config('SET', 'maxmemory', '1');
    await unsettled;
    const stored = (await client.keys(meta('oom-*'))).length;
    expect(stored).toBeLessThan(ids.length);
    // What was popped is claimed: the script that took it may go on writing.
    expect((await client.llen('celery')) + (await client.hlen('unacked'))).toBeGreaterThanOrEqual(ids.length - stored);
    await client.config('SET', 'maxmemory', '0');
    await until('all are stored', async () => (await client.keys(meta('oom-*'))).length === ids.length);
    await until('nothing is claimed', () => nothingClaimed(client));
    expect([...scene.started].sort()).toEqual([...ids].sort());
  });

  test('the results are on another server, which is down: the outcome waits, and no message is acknowledged before it', async () => {
    await using broker = await startRedis();
    await using results = await startRedis({ persistence: true });
    await using scene = await startWorker(optionsOf(broker, { backend: results.url, acksLate: true }), HANDLERS);
    const client = broker.client();
    await results.stop();
    const unsettled = scene.worker.once('job:unsettled');
    await push(client, ['waits-1'], { task: 'ok' });
    await unsettled;
    expect(await client.hlen('unacked')).toBe(1);
    await results.restart();
    await until('it is acknowledged', () => nothingClaimed(client));
    expect(await results.client().get(meta('waits-1'))).toContain('SUCCESS');
    expect(scene.started).toEqual(['waits-1']);
  });

  test('before the worker starts: it says where it could not connect, and leaves nothing behind', async () => {
    const redis = await startRedis();
    await redis[Symbol.asyncDispose]();
    const ms = await timeOf(() =>
      expect(startWorker(optionsOf(redis), HANDLERS)).rejects.toThrow(`127.0.0.1:${redis.port}`),
    );
    expect(ms).toBeLessThan(PATIENCE_MS);
  });

  test('for good: a worker that is told to stop ends within its deadline', async () => {
    await using redis = await startRedis();
    const scene = await startWorker(
      optionsOf(redis, { acksLate: true }),
      {
        ...HANDLERS,
        settling: () => redis.kill().then(() => 'never stored'),
        long: (_, { signal }) => pause(60_000, signal).then(() => signal.throwIfAborted()),
      },
      { abortGraceMs: 500 },
    );
    const unsettled = scene.worker.once('job:unsettled');
    await push(redis.client(), ['long-1', 'settling-1'], { task: 'long' }, { 'settling-1': 'settling' });
    await unsettled;
    const ms = await timeOf(() => scene.worker.stop({ timeoutMs: 1_000 }));
    console.log(`stopped while Redis was away: ${ms} ms`);
    expect(ms).toBeLessThan(PATIENCE_MS);
    expect(scene.worker.state).toBe('stopped');
  });

  test('for good, and idle: a worker that is told to stop now ends', async () => {
    await using redis = await startRedis();
    const scene = await startWorker(optionsOf(redis), HANDLERS);
    const down = scene.worker.once('source:down');
    await redis.kill();
    await down;
    expect(await timeOf(() => scene.worker.stop({ timeoutMs: 0 }))).toBeLessThan(PATIENCE_MS);
  });
});

describe('connections that lie', () => {
  test('every connection is killed, ten times over: the worker goes on', async () => {
    await using redis = await startRedis();
    await using scene = await startWorker(optionsOf(redis), HANDLERS);
    const client = redis.client({ maxRetriesPerRequest: null });
    const ids = Array.from({ length: 500 }, (_, index) => `kill-${index}`);
    await push(client, ids, { task: 'brief' });
    for (let round = 0; round < 10; round++) {
      await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await until('some more ran', async () => (await client.keys(meta('kill-*'))).length >= 40 * round);
    }
    await until('all ran', async () => (await client.keys(meta('kill-*'))).length === ids.length);
    await until('nothing is claimed', () => nothingClaimed(client));
    expect(scene.started.length - new Set(scene.started).size).toBe(0);
  });

  test('the answer to a claim is lost: the same worker has the messages back at once, not after the visibility timeout', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using scene = await startWorker(optionsOf(redis, { broker: proxy.url }), HANDLERS);
    const client = redis.client();
    await runs(redis, 'before');
    const dropped = proxy.dropAnswerWith('lost-1');
    await push(client, ['lost-1'], { task: 'ok' });
    await dropped;
    const ms = await timeOf(() => until('it ran', async () => (await client.exists(meta('lost-1'))) === 1));
    // The visibility timeout is an hour.
    console.log(`lost claim: run ${ms} ms after its answer was lost`);
    expect(scene.started).toEqual(['before', 'lost-1']);
    await until('nothing is claimed', () => nothingClaimed(client));
  });

  test('connections that went silent for good are given up, and new ones made', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using scene = await startWorker(
      optionsOf(redis, { broker: proxy.url, brokerTransportOptions: { socketTimeoutMs: 1_500 } }),
      HANDLERS,
    );
    await runs(redis, 'before');
    proxy.goSilent();
    const ms = await timeOf(() => runs(redis, 'after'));
    console.log(`half-open, socketTimeoutMs 1,500: ${ms} ms`);
    expect(scene.started).toEqual(['before', 'after']);
  });

  test('a network that is silent for a while and comes back loses nothing', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using scene = await startWorker(
      optionsOf(redis, { broker: proxy.url, acksLate: true, brokerTransportOptions: { socketTimeoutMs: 1_000 } }),
      HANDLERS,
    );
    const client = redis.client();
    const ids = Array.from({ length: 200 }, (_, index) => `silent-${index}`);
    await push(client, ids, { task: 'brief' });
    await until('some ran', () => scene.started.length > 20);
    proxy.goSilentForAll();
    await pause(3_000);
    proxy.comeBack();
    await until('all ran', async () => (await client.keys(meta('silent-*'))).length === ids.length);
    await until('nothing is claimed', () => nothingClaimed(client));
  });

  test('Redis pauses for two seconds: nothing is lost, nothing runs twice', async () => {
    await using redis = await startRedis();
    await using scene = await startWorker(optionsOf(redis, { acksLate: true }), HANDLERS);
    const client = redis.client();
    const ids = Array.from({ length: 100 }, (_, index) => `pause-${index}`);
    await push(client, ids, { task: 'brief' });
    await until('some ran', () => scene.started.length > 10);
    await client.client('PAUSE', 2_000);
    await until('all ran', async () => (await client.keys(meta('pause-*'))).length === ids.length);
    await until('nothing is claimed', () => nothingClaimed(client));
    expect(scene.started.length).toBe(ids.length);
  });

  test('Redis is frozen until everybody has given up on it: nothing is lost, nothing stays claimed', async () => {
    await using redis = await startRedis();
    const transport = { socketTimeoutMs: 500 };
    await using scene = await startWorker(
      optionsOf(redis, { brokerTransportOptions: transport, resultBackendTransportOptions: transport }),
      HANDLERS,
    );
    const client = redis.client({ maxRetriesPerRequest: null });
    const ids = Array.from({ length: 400 }, (_, index) => `frozen-${index}`);
    await push(client, ids, { task: 'brief' });
    for (let round = 1; round <= 3; round++) {
      await until('some more ran', () => scene.started.length > 30 * round);
      redis.freeze();
      await pause(1_200);
      redis.thaw();
    }
    await until('all ran', async () => (await client.keys(meta('frozen-*'))).length === ids.length);
    await until('nothing is claimed', () => nothingClaimed(client));
  });

  test('a worker that lost either of its connections still hears of a push at once, in every priority', async () => {
    await using redis = await startRedis();
    await using _ = await startWorker(optionsOf(redis), HANDLERS);
    const client = redis.client();
    for (const type of ['pubsub', 'normal']) {
      await runs(redis, `before-${type}`);
      await client.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
      await until('it is told of pushes again', () => isToldOfPushes(client));
      const times: number[] = [];
      for (let at = 0; at < 6; at++) {
        const id = `${type}-${at}`;
        const item = message({ id, properties: { priority: 9 } });
        times.push(
          await timeOf(async () => {
            await client.lpush('celery\x06\x169', item);
            await until('it ran', async () => (await client.exists(meta(id))) === 1);
          }),
        );
      }
      // It looks by itself once a second: a push right after such a look would wait for the next.
      expect(Math.min(...times.slice(1))).toBeLessThan(500);
    }
  });

  test('broadcasts are heard again after the connection was lost', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    await using scene = await startWorker(
      optionsOf(redis, { queues: ['celery', { name: 'all.1', exchange: 'all', exchangeType: 'fanout' }] }),
      HANDLERS,
    );
    const heard = (id: string): Promise<void> =>
      until(`${id} is heard`, async () => {
        await client.publish('/0.all', message({ id }));
        return scene.started.includes(id);
      });
    await heard('all-1');
    await client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await heard('all-2');
    expect(await nothingClaimed(client)).toBe(true);
  });

  test('the server forgets its scripts, or everything: the worker goes on', async () => {
    await using redis = await startRedis();
    await using scene = await startWorker(optionsOf(redis, { acksLate: true }), HANDLERS);
    const client = redis.client();
    const ids = Array.from({ length: 300 }, (_, index) => `flush-${index}`);
    await push(client, ids, { task: 'brief' });
    for (let round = 0; round < 10; round++) {
      await client.script('FLUSH');
      await until('some more ran', async () => (await client.keys(meta('flush-*'))).length >= 25 * round);
    }
    await until('all ran', async () => (await client.keys(meta('flush-*'))).length === ids.length);
    await push(client, ['slow-1'], { task: 'brief', args: [500] });
    await until('it runs', () => scene.started.includes('slow-1'));
    await client.flushall();
    await runs(redis, 'after');
    await until('nothing is claimed', () => nothingClaimed(client));
    expect(scene.worker.state).toBe('running');
  });
});

describe('longer than the visibility timeout', () => {
  const brokerTransportOptions = { visibilityTimeout: 1, unackedRestoreInterval: 1 };

  test('a task that runs longer is not run twice, though others sweep (Node and Python)', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    const brokerTransportOptions = { visibilityTimeout: 3, unackedRestoreInterval: 1 };
    let open = (): void => {};
    const gate = new Promise<string>((resolve) => (open = () => resolve('ended')));
    const handlers: Handlers = { ...HANDLERS, 'both.slow': () => gate };
    await using scene = await startWorker(optionsOf(redis, { acksLate: true, brokerTransportOptions }), handlers);
    await push(client, ['long-1'], { task: 'both.slow', args: [0] });
    await until('it runs', () => scene.started.length === 1);
    await claimOfTheDead(client, 'other-1', 'ok');
    await using other = await startWorker(optionsOf(redis, { acksLate: true, brokerTransportOptions }), handlers);
    // What a worker that died claimed after it has come back: its own claim would have, were it not refreshed.
    await until('a sweep found another claim', async () => (await client.exists(meta('other-1'))) === 1);
    // Python sweeps at its start.
    const config = { broker_transport_options: { visibility_timeout: 3 }, task_acks_late: true };
    await using python = await startPythonWorker('5.6', { broker: redis.url, backend: redis.url, config });
    open();
    await until('it ended', async () => (await client.exists(meta('long-1'))) === 1);
    await until('nothing is claimed', () => nothingClaimed(client));
    expect([...scene.started, ...other.started].sort()).toEqual(['long-1', 'other-1']);
    expect(await client.get(meta('long-1'))).toContain('"ended"');
    expect(await client.llen('celery')).toBe(0);
    await python.stop();
    expect(python.log()).not.toContain('long-1');
  });

  test('a sweep that finds nothing takes no lock, which a worker that is cut off would keep from the others', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    await using looks = await tally(client, /^ZRANGEBYSCORE$/i, 'unacked_index');
    await using locks = await tally(client, /^SET$/i, 'unacked_mutex');
    await using _ = await startWorker(optionsOf(redis, { brokerTransportOptions }), HANDLERS);
    await until('it has looked twice', () => looks.count >= 2);
    expect(locks.count).toBe(0);
    await claimOfTheDead(client, 'dead-1', 'ok');
    await until('what it found ran', async () => (await client.exists(meta('dead-1'))) === 1);
    await until('the lock was seen', () => locks.count > 0);
    await until('it was given back', async () => (await client.exists('unacked_mutex')) === 0);
  });

  test('a worker that was cut off meanwhile does not undo what Python did with its task', async () => {
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    const client = redis.client();
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    await using scene = await startWorker(
      optionsOf(redis, { broker: proxy.url, acksLate: true, brokerTransportOptions }),
      { 'both.add': () => gate.then(() => 'late'), ...HANDLERS },
    );
    await push(client, ['cut-1'], { task: 'both.add', args: [2, 3] });
    await until('it runs', () => scene.started.length === 1);
    proxy.goSilentForAll();
    // A Python worker looks for abandoned messages when it starts, and after that only every hundred seconds or so.
    await until('its claim is old', async () => {
      return (await client.zcount('unacked_index', 0, Date.now() / 1000 - 1.05)) === 1;
    });
    const config = { broker_transport_options: { visibility_timeout: 1 } };
    await using _ = await startPythonWorker('5.6', { broker: redis.url, backend: redis.url, config });
    await until('Python has restored and run it', async () => (await client.exists(meta('cut-1'))) === 1);
    const settled = scene.worker.once('job:settled');
    open();
    proxy.comeBack();
    await settled;
    expect(await client.get(meta('cut-1'))).toContain('"result": 5');
    expect(await client.llen('celery')).toBe(0);
    await until('nothing is claimed', () => nothingClaimed(client));
  });

  test('a message held for its ETA is not swept, and runs when due', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    await using scene = await startWorker(optionsOf(redis, { brokerTransportOptions }), HANDLERS);
    await using other = await startWorker(optionsOf(redis, { brokerTransportOptions }), HANDLERS);
    const due = Date.now() + 4_000;
    await client.lpush('celery', message({ id: 'eta-1', headers: { eta: new Date(due).toISOString() } }));
    await until('it is held', async () => (await client.hlen('unacked')) === 1);
    const [tag] = await client.hkeys('unacked');
    await until('it ran', async () => {
      const claims = await client.hkeys('unacked');
      // Held by the same worker all the time: nobody restored it.
      if (claims.length > 0) expect(claims).toEqual([tag]);
      return (await client.exists(meta('eta-1'))) === 1;
    });
    expect(Date.now()).toBeGreaterThanOrEqual(due);
    expect([...scene.started, ...other.started]).toEqual(['eta-1']);
  });

  test('what is beyond etaLimit is parked in Redis, survives the worker, and runs when due', async () => {
    await using redis = await startRedis();
    const client = redis.client();
    const first = await startWorker(optionsOf(redis, { etaLimit: 2 }), HANDLERS);
    const due = Date.now() + 5_000;
    const eta = new Date(due).toISOString();
    const ids = Array.from({ length: 10 }, (_, index) => `parked-${index}`);
    for (const id of ids) await client.lpush('celery', message({ id, headers: { eta } }));
    await until('eight are parked', async () => (await client.zcard('jobglot:parked')) === 8);
    expect(await client.hlen('jobglot:parked:messages')).toBe(8);
    expect(await client.hlen('unacked')).toBe(2);
    await first.worker.stop();
    expect(await client.llen('celery')).toBe(2);
    await using second = await startWorker(optionsOf(redis), HANDLERS);
    await until('all ran', async () => (await client.keys(meta('parked-*'))).length === 10);
    expect(Date.now()).toBeGreaterThanOrEqual(due);
    expect([...second.started].sort()).toEqual(ids);
    expect(await client.exists('jobglot:parked', 'jobglot:parked:messages')).toBe(0);
  });
});

const HANDLERS: Handlers = {
  ok: () => 'ran',
  brief: async ({ args: [ms] }) => {
    await pause((ms as number | undefined) ?? 20);
    return 'ran';
  },
};

function optionsOf(redis: RedisServer, options: Partial<CeleryOptions> = {}): CeleryOptions {
  return { broker: redis.url, backend: redis.url, concurrency: 10, ...options };
}

async function push(
  client: Redis,
  ids: readonly string[],
  { task, args = [] }: { readonly task: string; readonly args?: readonly unknown[] },
  tasks: Readonly<Record<string, string>> = {},
): Promise<void> {
  const items = ids.map((id) => message({ id, task: tasks[id] ?? task, args }));
  for (let at = 0; at < items.length; at += 500) await client.lpush('celery', ...items.slice(at, at + 500));
}

/** What a worker that died just now has left behind: a claim, which comes back after the visibility timeout. */
async function claimOfTheDead(client: Redis, id: string, task: string): Promise<void> {
  const claim = client.multi().hset('unacked', `dead:${id}`, `[${message({ id, task })}, "", "celery"]`);
  await claim.zadd('unacked_index', Date.now() / 1000, `dead:${id}`).exec();
}

/** Whether Redis tells a connection that lives of changes to keys that another has read (CLIENT TRACKING … REDIRECT). */
async function isToldOfPushes(client: Redis): Promise<boolean> {
  const clients = String(await client.client('LIST')).split('\n');
  const of = (line: string, field: string): string => new RegExp(` ?\\b${field}=(\\S*)`).exec(line)?.[1] ?? '';
  const listening = new Set(clients.filter((line) => of(line, 'sub') !== '0').map((line) => of(line, 'id')));
  return clients.some((line) => of(line, 'flags').includes('t') && listening.has(of(line, 'redir')));
}

/** Send a task and wait until its result is stored. */
async function runs(redis: RedisServer, id: string): Promise<void> {
  const client = redis.client();
  await push(client, [id], { task: 'ok' });
  await until(`${id} ran`, async () => (await client.exists(meta(id))) === 1);
  client.disconnect();
}

async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return Math.round(performance.now() - from);
}

function meta(id: string): string {
  return `celery-task-meta-${id}`;
}

async function nothingClaimed(client: Redis): Promise<boolean> {
  return (await client.hlen('unacked')) === 0 && (await client.zcard('unacked_index')) === 0;
}
