import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CeleryJob } from '../../protocols/celery/message/message.ts';
import type { CeleryOptions, QueueSpec } from '../../src/drivers/celery/index.ts';
import { Reject } from '../../src/signals.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { until } from '../support/until.ts';
import { holds, send } from './rabbit-scene.ts';
import { type Handlers, type Scene, startWorker } from './scene.ts';

/** Messages that wait for their time, that come again and again, and that nobody wants. */
let rabbit: RabbitServer;

beforeAll(async () => {
  rabbit = await startRabbit();
});

afterAll(async () => {
  await rabbit?.[Symbol.asyncDispose]();
});

function start(
  queue: string | QueueSpec,
  options: Partial<CeleryOptions> = {},
  handlers: Handlers = {},
): Promise<Scene> {
  return startWorker(
    {
      broker: rabbit.url,
      queues: [queue],
      concurrency: 2,
      prefetchMultiplier: 2,
      acksLate: true,
      workerEnableRemoteControl: false,
      brokerNativeDelayedDeliveryQueueType: 'classic',
      ...options,
    },
    { ok: () => 'ran', ...handlers },
  );
}

const ofType = (name: string, type: 'classic' | 'quorum'): QueueSpec =>
  type === 'quorum' ? { name, queueType: type } : { name };

describe('tasks that wait for their time', () => {
  test.each(['classic', 'quorum'] as const)('500 of them do not starve the others (%s)', async (type) => {
    const queue = `waiting-${type}`;
    const scene = await start(ofType(queue, type));
    await send(rabbit, queue, ...Array.from({ length: 500 }, () => ({ countdown: 600 })));
    const [id = ''] = await send(rabbit, queue, {});
    await until('the other one ran', () => scene.started.includes(id));
    await holds(rabbit, queue, 0, 500);
    expect(scene.started).toEqual([id]);
    await scene.worker.stop();
    await holds(rabbit, queue, 500, 0);
  });

  test.each([
    ['beyond etaLimit', { etaLimit: 2 }, 8],
    ['beyond holdLimit', { brokerTransportOptions: { holdLimit: 1 } }, 10],
  ])('%s wait in RabbitMQ, outlive the worker, and run when due, once', async (what, options, parked) => {
    const queue = `parked-${what.replaceAll(' ', '-')}`;
    const first = await start(queue, options);
    const due = Date.now() + 6_000;
    const ids = await send(rabbit, queue, ...Array.from({ length: 10 }, () => ({ countdown: 6 })));
    await until('they are parked', async () => {
      const all = Object.entries(await rabbit.allMessages());
      const there = all.filter(([name]) => name.startsWith('jobglot.delay.') && name.endsWith(`.${queue}`));
      return there.reduce((sum, [, { ready }]) => sum + ready, 0) === parked;
    });
    await first.worker.stop();
    expect(first.started).toEqual([]);
    await using second = await start(queue);
    await until('all ran', () => second.started.length === ids.length);
    expect(Date.now()).toBeGreaterThanOrEqual(due);
    await holds(rabbit, queue, 0, 0);
    expect([...second.started].sort()).toEqual([...ids].sort());
  });

  test('are neither lost nor doubled by the time-out of their channel', async () => {
    await rabbit.eval('application:set_env(rabbit, consumer_timeout, 1000), true.');
    await rabbit.eval('application:set_env(rabbit, channel_tick_interval, 200), true.');
    try {
      await using scene = await start('timed-out');
      const ids = await send(rabbit, 'timed-out', ...Array.from({ length: 6 }, () => ({ countdown: 5 })));
      await until('all ran', () => scene.started.length >= ids.length);
      await holds(rabbit, 'timed-out', 0, 0);
      expect([...scene.started].sort()).toEqual([...ids].sort());
      expect(scene.lines.some(({ message }) => message.startsWith('RabbitMQ closed the channel'))).toBe(true);
    } finally {
      await rabbit.eval('application:set_env(rabbit, consumer_timeout, 1800000), true.');
      await rabbit.eval('application:set_env(rabbit, channel_tick_interval, 60000), true.');
    }
  });
});

describe('a message that comes again', () => {
  test('says so to its handler', async () => {
    await giveBack('again', {}, 1);
    const seen: boolean[] = [];
    await using scene = await start('again', {}, { ok: (job) => seen.push((job as CeleryJob).request.redelivered) });
    await until('it ran', () => scene.started.length === 1);
    await holds(rabbit, 'again', 0, 0);
    expect(seen).toEqual([true]);
  });

  test('more often than deliveryLimit is set aside (quorum)', async () => {
    await giveBack('poison', { 'x-queue-type': 'quorum' }, 4);
    await using scene = await start(ofType('poison', 'quorum'), { brokerTransportOptions: { deliveryLimit: 3 } });
    await until('it is reported', () => scene.poisons.length === 1);
    expect(scene.poisons[0]).toMatchObject({ code: 'delivery-limit', queue: 'poison' });
    expect(scene.started).toEqual([]);
    await holds(rabbit, 'poison', 0, 0);
    await holds(rabbit, 'jobglot.quarantine.poison', 1, 0);
  });
});

describe('a message that a handler refuses', () => {
  const REFUSED: QueueSpec = { name: 'refused', deadLetterExchange: '', deadLetterRoutingKey: 'refused.dead' };
  const handlers: Handlers = {
    reject: () => {
      throw new Reject('not mine');
    },
    later: (job) => {
      if (!(job as CeleryJob).request.redelivered) throw new Reject('not now', { requeue: true });
    },
    fails: () => {
      throw new Error('it fails');
    },
  };

  test('goes to the dead-letter exchange of its queue, comes again, or is dropped with its failure', async () => {
    const connection = await rabbit.connect();
    await (await connection.createChannel()).assertQueue('refused.dead', { durable: true });
    await connection.close();
    await using scene = await start(REFUSED, { acksOnFailureOrTimeout: false }, handlers);
    const [rejected = ''] = await send(rabbit, 'refused', { task: 'reject' });
    await holds(rabbit, 'refused.dead', 1, 0);
    const [failed = ''] = await send(rabbit, 'refused', { task: 'fails' });
    await holds(rabbit, 'refused.dead', 2, 0);
    const [again = ''] = await send(rabbit, 'refused', { task: 'later' });
    await until('it ran twice', () => scene.started.filter((id) => id === again).length === 2);
    // What nobody can read goes there, too.
    const [unread = ''] = await send(rabbit, 'refused', { body: 'no JSON' });
    await holds(rabbit, 'refused.dead', 3, 0);
    await holds(rabbit, 'refused', 0, 0);
    const dead = (await rabbit.get('refused.dead')).map(({ properties }) => String(properties.correlationId));
    expect(dead).toEqual([rejected, failed, unread]);
  });
});

/** A message that was delivered so often, and given back. */
async function giveBack(
  queue: string,
  queueArguments: Readonly<Record<string, unknown>>,
  times: number,
): Promise<void> {
  const connection = await rabbit.connect();
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: true, arguments: queueArguments });
  await send(rabbit, queue, {});
  for (let delivered = 0; delivered < times;) {
    const message = await channel.get(queue);
    if (message === false) continue;
    channel.nack(message, false, true);
    delivered++;
  }
  await channel.close();
  await connection.close();
}
