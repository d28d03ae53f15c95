import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { until } from '../support/until.ts';
import { holds, send } from './rabbit-scene.ts';
import { type Scene, startWorker } from './scene.ts';

/** Tasks that no handler here knows, and claims given back, in queues that count each return and drop a message beyond a limit. */
let rabbit: RabbitServer;

beforeAll(async () => {
  rabbit = await startRabbit();
});

afterAll(async () => {
  await rabbit?.[Symbol.asyncDispose]();
});

function start(queue: string, limit: number, options: Partial<CeleryOptions> = {}): Promise<Scene> {
  return startWorker(
    {
      broker: rabbit.url,
      queues: [{ name: queue, queueType: 'quorum', queueArguments: { 'x-delivery-limit': limit } }],
      concurrency: 2,
      prefetchMultiplier: 2,
      acksLate: true,
      workerEnableRemoteControl: false,
      brokerNativeDelayedDeliveryQueueType: 'classic',
      ...options,
    },
    { ok: () => 'ran' },
  );
}

async function declare(queue: string, limit: number): Promise<void> {
  const connection = await rabbit.connect();
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': limit } });
  await connection.close();
}

/** What a sender may put on a message, and no worker may change. */
const OPTIONS = {
  priority: 3,
  messageId: 'message',
  timestamp: 1_700_000_000,
  type: 'kind',
  appId: 'app',
  expiration: '86400000',
  replyTo: 'reply',
};

/** Each message as it is: bytes, properties and headers, without the count of RabbitMQ itself; looking at a message counts as a return. */
async function contents(queue: string): Promise<readonly object[]> {
  const messages = await rabbit.get(queue);
  const byId = messages.map(({ content, properties }): [string, object] => {
    const headers = { ...properties.headers };
    delete headers['x-delivery-count'];
    return [String(properties.correlationId), { body: content.toString(), properties: { ...properties, headers } }];
  });
  return byId.sort(([a], [b]) => a.localeCompare(b)).map(([, message]) => message);
}

describe.each([5])('on a quorum queue with x-delivery-limit %i', (limit) => {
  test('ten unknown tasks that went back more often than the limit are all there, unchanged, and the queue goes on', async () => {
    const queue = `unknown-${limit}`;
    await declare(queue, limit);
    const ids = Array.from({ length: 10 }, (_, at) => `unknown-${limit}-${at}`);
    await send(
      rabbit,
      queue,
      ...ids.map((id) => ({ id, task: 'py.elsewhere', args: [id], headers: { 'x-own': [1, 'ü'] }, options: OPTIONS })),
    );
    const before = await contents(queue);
    // The pause doubles: many workers, one after the other, take each task more often than the limit.
    let returns = 0;
    while (returns <= limit + 1) {
      await using scene = await start(queue, limit, { unknownTaskDelayMs: 1 });
      let settled = 0;
      scene.worker.on('job:settled', ({ outcome }) => {
        if (outcome.kind === 'unknown') settled++;
      });
      await until('each went back five times', () => settled >= 50);
      returns += 5;
      const [known = ''] = await send(rabbit, queue, {});
      await until('a known task ran', () => scene.started.includes(known));
      await scene.worker.stop();
      expect(scene.poisons).toEqual([]);
    }
    await holds(rabbit, queue, 10, 0);
    expect(await contents(queue)).toEqual(before);
    expect(Object.keys(await rabbit.allMessages()).filter((name) => name.includes('quarantine'))).toEqual([]);
  });

  test('a task that waits for its ETA is still there after more workers than the limit stopped and started', async () => {
    const queue = `eta-${limit}`;
    await declare(queue, limit);
    const [id = ''] = await send(rabbit, queue, { countdown: 600 });
    for (let workers = 0; workers < limit + 3; workers++) {
      const scene = await start(queue, limit);
      await holds(rabbit, queue, 0, 1);
      await scene.worker.stop();
      await holds(rabbit, queue, 1, 0);
    }
    const [message] = await rabbit.get(queue);
    expect(message?.properties.correlationId).toBe(id);
  });
});

test('more unknown tasks than the prefetch do not starve the others (quorum)', async () => {
  await declare('starve', 20);
  await using scene = await start('starve', 20, { unknownTaskDelayMs: 600_000 });
  await send(rabbit, 'starve', ...Array.from({ length: 200 }, () => ({ task: 'py.elsewhere' })));
  const [id = ''] = await send(rabbit, 'starve', {});
  await until('the known one ran', () => scene.started.includes(id));
  await holds(rabbit, 'starve', 0, 200);
});
