import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CeleryOptions, QueueSpec } from '../../src/drivers/celery/index.ts';
import { Postpone } from '../../src/signals.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { startProgram } from './program.ts';
import { consumed, holds, send } from './rabbit-scene.ts';
import { message, type Scene, startWorker } from './scene.ts';

/** Jobs that a handler or a middleware postpones: where their messages are meanwhile. */
let redis: RedisServer;
let rabbit: RabbitServer;

beforeAll(async () => {
  [redis, rabbit] = await Promise.all([startRedis(), startRabbit()]);
});

afterAll(async () => {
  await redis?.[Symbol.asyncDispose]();
  await rabbit?.[Symbol.asyncDispose]();
});

/** Postpones the first run of each job, and says how often each was asked for. */
function start(options: CeleryOptions, delayMs: number): Promise<Scene & { readonly asked: Map<string, number> }> {
  const asked = new Map<string, number>();
  return startWorker(
    { workerEnableRemoteControl: false, ...options },
    { ok: () => 'ran' },
    {
      middleware: [
        async (job, next) => {
          const times = (asked.get(job.id) ?? 0) + 1;
          asked.set(job.id, times);
          if (times === 1) throw new Postpone({ delayMs });
          return next();
        },
      ],
    },
  ).then((scene) => Object.assign(scene, { asked }));
}

describe('late acknowledgement and a short time: the claim is held', () => {
  test('Redis: the message stays claimed, nothing is stored, and it runs once, when due', async () => {
    const client = redis.client();
    await using scene = await start(
      { broker: redis.url, backend: redis.url, queues: ['short'], acksLate: true },
      1_000,
    );
    const postponed = new Promise<number>((resolve) =>
      scene.worker.on('job:settled', ({ disposition }) => {
        if (disposition.state === 'postponed') resolve(disposition.at.getTime());
      }),
    );
    const item = message({ id: 'short-1', queue: 'short' });
    await client.lpush('short', item);
    const at = await postponed;
    expect(await client.llen('short')).toBe(0);
    expect((await client.hvals('unacked'))[0]).toContain('short-1');
    expect(await client.exists('celery-task-meta-short-1')).toBe(0);
    await until('it ran', async () => (await client.exists('celery-task-meta-short-1')) === 1);
    expect(Date.now()).toBeGreaterThanOrEqual(at);
    await until('nothing is claimed', async () => (await client.hlen('unacked')) === 0);
    expect(scene.asked.get('short-1')).toBe(2);
  });

  test.each(['classic', 'quorum'] as const)(
    'RabbitMQ, %s: it is asked for twice, and no return is counted',
    async (type) => {
      const queue: QueueSpec = type === 'quorum' ? { name: 'pp-quorum', queueType: 'quorum' } : { name: 'pp-classic' };
      await using scene = await start(
        { broker: rabbit.url, queues: [queue], acksLate: true, brokerNativeDelayedDeliveryQueueType: 'classic' },
        500,
      );
      const [id = ''] = await send(rabbit, queue.name, {});
      await until('it was asked for again', () => scene.asked.get(id) === 2);
      await holds(rabbit, queue.name, 0, 0);
      expect(scene.asked.get(id)).toBe(2);
    },
  );

  test('a worker that stops gives it back to its queue, as it was', async () => {
    const client = redis.client();
    const scene = await start({ broker: redis.url, queues: ['stopped'], acksLate: true }, 50_000);
    const item = message({ id: 'stopped-1', queue: 'stopped' });
    await client.lpush('stopped', item);
    await until('it is postponed', () => scene.worker.running.length === 0 && scene.asked.has('stopped-1'));
    await scene.worker.stop();
    expect(await client.lrange('stopped', 0, -1)).toEqual([item]);
  });

  test('Redis: a worker that is killed meanwhile loses nothing', async () => {
    await using own = await startRedis();
    const client = own.client();
    const options: CeleryOptions = {
      broker: own.url,
      backend: own.url,
      acksLate: true,
      workerEnableRemoteControl: false,
      brokerTransportOptions: { visibilityTimeout: 2 },
    };
    await client.lpush('celery', message({ id: 'killed-1', task: 'postponed', args: [50_000] }));
    const worker = await startProgram('celery', options, own.url);
    await until('it was postponed', async () => (await client.hget('runs', 'killed-1')) === '1');
    await worker.kill();
    await using _ = await startWorker(options, { postponed: () => 'ran' });
    await until('it ran elsewhere', async () => (await client.exists('celery-task-meta-killed-1')) === 1);
  });

  test('RabbitMQ: a worker that is killed meanwhile loses nothing', async () => {
    await using own = await startRedis();
    const client = own.client();
    const options: CeleryOptions = {
      broker: rabbit.url,
      backend: own.url,
      queues: ['pp-killed'],
      acksLate: true,
      workerEnableRemoteControl: false,
    };
    const worker = await startProgram('celery', options, own.url);
    await consumed(rabbit, 'pp-killed');
    const [id = ''] = await send(rabbit, 'pp-killed', { task: 'postponed', args: [50_000] });
    await until('it was postponed', async () => (await client.hget('runs', id)) === '1');
    await holds(rabbit, 'pp-killed', 0, 1);
    await worker.kill();
    await using _ = await startWorker(options, { postponed: () => 'ran' });
    await until('it ran elsewhere', async () => (await client.exists(`celery-task-meta-${id}`)) === 1);
  });
});

type Envelope = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** The claimed message of a queue that has an ETA. */
async function heldFor(queue: string): Promise<Envelope | undefined> {
  const claimed = (await redis.client().hvals('unacked')).filter((held) => held.endsWith(`"${queue}"]`));
  const envelopes = claimed.map((held) => (JSON.parse(held) as readonly [Envelope])[0]);
  return envelopes.find(({ headers }) => typeof headers?.['eta'] === 'string');
}

describe('published again with an ETA', () => {
  test.each([
    ['early acknowledgement', false, 1_500],
    ['a long time', true, 3_600_000],
  ])('%s: same id, body, headers and priority; retries are not counted', async (what, acksLate, delayMs) => {
    const client = redis.client();
    const queue = what.replaceAll(' ', '-');
    const scene = await start(
      { broker: redis.url, backend: redis.url, queues: [queue], acksLate, etaLimit: 10 },
      delayMs,
    );
    const sent = JSON.parse(
      message({ id: queue, queue, headers: { retries: 2, 'x-own': [1] }, properties: { priority: 6 } }),
    ) as Envelope;
    const from = Date.now();
    await client.lpush(`${queue}\x06\x166`, JSON.stringify(sent));
    await until('it was postponed', () => scene.asked.has(queue));
    await until('it is held for its time', async () => (await heldFor(queue)) !== undefined);
    const again = (await heldFor(queue)) as Envelope;
    expect(again['body']).toBe(sent['body']);
    expect({ ...again['headers'], eta: null }).toEqual(sent['headers']);
    expect(Date.parse(String(again['headers']?.['eta']))).toBeGreaterThanOrEqual(from + delayMs);
    expect(again['properties']?.['priority']).toBe(6);
    await scene.worker.stop();
    expect(await client.exists(`celery-task-meta-${queue}`)).toBe(0);
    expect(scene.asked.get(queue)).toBe(1);
  });

  test('a message from a topic or fanout exchange goes to its own queue alone', async () => {
    const connection = await rabbit.connect();
    const channel = await connection.createChannel();
    await channel.assertExchange('fan', 'fanout');
    await channel.assertQueue('fan.other', { durable: true });
    await channel.bindQueue('fan.other', 'fan', '');
    await connection.close();
    const queue: QueueSpec = { name: 'fan.own', exchange: 'fan', exchangeType: 'fanout' };
    const scene = await start({ broker: rabbit.url, queues: [queue], acksLate: false }, 3_600_000);
    const [id = ''] = await send(rabbit, '', { exchange: 'fan' });
    await until('it was postponed', () => scene.asked.has(id));
    await holds(rabbit, 'fan.other', 1, 0);
    await scene.worker.stop();
    expect((await rabbit.allMessages())['fan.other']?.ready).toBe(1);
  });
});
