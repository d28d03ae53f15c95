import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CeleryOptions } from '../../src/drivers/celery/index.ts';
import { AmqpConsumer, type Delivered } from '../../src/transports/amqp-consumer.ts';
import { amqpTarget } from '../../src/transports/amqp-url.ts';
import { AmqpConnection } from '../../src/transports/amqp.ts';
import { type RabbitServer, startRabbit } from '../support/rabbit.ts';
import { PATIENCE_MS, until } from '../support/until.ts';
import { startProxy } from './proxy.ts';
import { consumed, Gates, holds, send, SETTLED_TWICE } from './rabbit-scene.ts';
import { type Scene, startWorker } from './scene.ts';

/** RabbitMQ goes away, or what ties us to it does. Asked of the broker where it can be asked. */
let rabbit: RabbitServer;
let number = 0;

beforeAll(async () => {
  rabbit = await startRabbit();
});

afterAll(async () => {
  const log = rabbit?.log() ?? '';
  await rabbit?.[Symbol.asyncDispose]();
  // In no test was a message settled twice.
  expect(log).not.toMatch(SETTLED_TWICE);
});

interface Stage extends AsyncDisposable {
  readonly queue: string;
  readonly gates: Gates;
  readonly scene: Scene;
  readonly settled: readonly string[];
}

type Kind = 'classic' | 'quorum';

/** A worker of two slots that takes four messages ahead, on a queue of its own. */
async function stage(
  kind: Kind = 'classic',
  options: Partial<CeleryOptions> = {},
  queue = `recovery-${++number}`,
): Promise<Stage> {
  const gates = new Gates();
  const scene = await startWorker(
    {
      broker: rabbit.url,
      queues: [kind === 'quorum' ? { name: queue, queueType: kind } : queue],
      acksLate: true,
      concurrency: 2,
      prefetchMultiplier: 2,
      workerEnableRemoteControl: false,
      // 28 queues that are not looked at here: classic ones are made faster.
      brokerNativeDelayedDeliveryQueueType: 'classic',
      ...options,
    },
    { ok: () => 'ran', gated: gates.handler },
  );
  const settled: string[] = [];
  scene.worker.on('job:settled', ({ job }) => settled.push(job.id));
  return { queue, gates, scene, settled, [Symbol.asyncDispose]: () => scene[Symbol.asyncDispose]() };
}

/** Two handlers run, two messages wait in this process, two in the queue. */
async function sixTasks({ queue, scene }: Stage): Promise<readonly string[]> {
  const tasks = Array.from({ length: 6 }, (_, at) => ({ id: `${queue}-${at}`, task: 'gated' }));
  const ids = await send(rabbit, queue, ...tasks);
  await until('two run', () => scene.started.length === 2);
  await holds(rabbit, queue, 2, 4);
  return ids;
}

async function runs({ queue, settled }: Stage, id = `${queue}-after`): Promise<void> {
  await send(rabbit, queue, { id });
  await until(`${id} ran`, () => settled.includes(id));
}

const WAYS: readonly (readonly [string, () => Promise<void>])[] = [
  [
    'is stopped and started',
    async () => {
      await rabbit.stop();
      await rabbit.restart();
    },
  ],
  [
    'is killed and started',
    async () => {
      // It writes down where its quorum queues are every now and then; one made a moment before would not come back.
      await rabbit.eval('[dets:sync(Table) || Table <- dets:all()], true.');
      await rabbit.kill();
      await rabbit.restart();
    },
  ],
  ['closes all connections', () => rabbit.dropConnections()],
];

describe.each(['classic', 'quorum'] as const)('on a %s queue, when RabbitMQ', (kind) => {
  test.each(kind === 'classic' ? WAYS : WAYS.slice(1))(
    '%s, handlers go on, nothing runs twice, and consuming resumes',
    async (_, way) => {
      await using actors = await stage(kind);
      const { queue, gates, scene, settled } = actors;
      const ids = await sixTasks(actors);
      await way();
      const from = performance.now();
      // What was held is delivered again, to the same process.
      await holds(rabbit, queue, 2, 4);
      console.log(`${kind}: consuming again ${Math.round(performance.now() - from)} ms after it was back`);
      expect(settled).toEqual([]);
      gates.open(...ids);
      await until('all ended', () => settled.length === ids.length);
      await runs(actors);
      await holds(rabbit, queue, 0, 0);
      expect([...scene.started].sort()).toEqual([...ids, `${queue}-after`].sort());
      expect(scene.worker.state).toBe('running');
    },
  );

  test('closes the channel over a message that was held too long, its handler goes on and it is not run twice', async () => {
    await rabbit.eval('application:set_env(rabbit, consumer_timeout, 1000), true.');
    await rabbit.eval('application:set_env(rabbit, channel_tick_interval, 200), true.');
    try {
      await using actors = await stage(kind);
      const { queue, gates, scene, settled } = actors;
      const ids = await sixTasks(actors);
      await until('the channel was closed twice', () => said(scene, 'RabbitMQ closed the channel').length >= 2);
      gates.open(...ids);
      await until('all ended', () => settled.length === ids.length);
      await holds(rabbit, queue, 0, 0);
      expect([...scene.started].sort()).toEqual([...ids].sort());
    } finally {
      await rabbit.eval('application:set_env(rabbit, consumer_timeout, 1800000), true.');
      await rabbit.eval('application:set_env(rabbit, channel_tick_interval, 60000), true.');
    }
  });

  test('loses the queue, it is declared and consumed again', async () => {
    await using actors = await stage(kind);
    const { queue, gates, scene, settled } = actors;
    const ids = await sixTasks(actors);
    const connection = await rabbit.connect();
    await (await connection.createChannel()).deleteQueue(queue);
    await connection.close();
    await consumed(rabbit, queue);
    // Those in this process are not in any queue now: they end here.
    gates.open(...ids);
    await until('the four ended', () => settled.length === 4);
    await runs(actors);
    await holds(rabbit, queue, 0, 0);
    expect([...scene.started].sort()).toEqual([...ids.slice(0, 4), `${queue}-after`].sort());
    expect(said(scene, 'RabbitMQ closed the channel')).toEqual([]);
  });
});

describe.each(['classic', 'quorum'] as const)('what a worker gives back to a %s queue when it stops', (kind) => {
  test('is all there, and runs again; a classic queue has each in its old place', async () => {
    const actors = await stage(kind);
    const { queue, scene } = actors;
    const ids = await sixTasks(actors);
    await scene.worker.quiet();
    await holds(rabbit, queue, 4, 2);
    await scene.worker.stop({ timeoutMs: 0 });
    await holds(rabbit, queue, 6, 0);
    const inQueue = (await rabbit.get(queue)).map(({ properties }) => String(properties.headers?.['id']));
    // What is given back goes to the end of a quorum queue without a delivery limit: RabbitMQ truncates its log so.
    expect(kind === 'classic' ? inQueue : inQueue.toSorted()).toEqual(ids);
    await holds(rabbit, queue, 6, 0);
    await using next = await stage(kind, {}, queue);
    await until('two run', () => next.scene.started.length === 2);
    next.gates.open(...ids);
    await until('all ended', () => next.settled.length === ids.length);
    await holds(rabbit, queue, 0, 0);
    expect([...next.scene.started].sort()).toEqual(ids);
  });
});

describe('while RabbitMQ is away', () => {
  test('what waited in this process does not start, what ended is acknowledged later, and health says it', async () => {
    await using actors = await stage();
    const { queue, gates, scene, settled } = actors;
    const ids = await sixTasks(actors);
    const down = scene.worker.once('source:down');
    await rabbit.kill();
    await until('it knows', () => said(scene, LOST).length > 0);
    gates.open(...ids);
    await until('the running ones ended', () => settled.length === 2);
    expect(scene.started.length).toBe(2);
    await down;
    const up = scene.worker.once('source:up');
    const silentMs = scene.worker.health[0]?.silentMs ?? 0;
    await until('it is silent for longer', () => (scene.worker.health[0]?.silentMs ?? 0) > silentMs);
    await rabbit.restart();
    await up;
    await until('all ended', () => settled.length === ids.length);
    await holds(rabbit, queue, 0, 0);
    expect([...scene.started].sort()).toEqual([...ids].sort());
    await until('it answers', () => (scene.worker.health[0]?.silentMs ?? 0) < silentMs + PATIENCE_MS);
  });

  test('a worker that is told to be quiet becomes so, and one that is told to stop ends', async () => {
    const actors = await stage();
    const { gates, scene } = actors;
    const ids = await sixTasks(actors);
    await rabbit.kill();
    await until('it knows', () => said(scene, LOST).length > 0);
    await scene.worker.quiet();
    gates.open(...ids);
    await scene.worker.stop({ timeoutMs: 5_000 });
    expect(scene.worker.state).toBe('stopped');
    expect(scene.started.length).toBe(2);
    await rabbit.restart();
    // Persistent, and not acknowledged: nothing is lost.
    await holds(rabbit, actors.queue, 6, 0);
  });

  test('a queue can be taken off; one that is to be added is refused, and can be added later', async () => {
    const connection = new AmqpConnection(amqpTarget(rabbit.url), { patienceMs: 300 });
    await connection.connect();
    const got: Delivered[] = [];
    const consumer = new AmqpConsumer(connection, {
      prefetch: 10,
      global: true,
      deliver: (message) => void got.push(message),
      lost: () => {},
    });
    try {
      await consumer.start([consumptionOf('on-1'), consumptionOf('on-2')]);
      await rabbit.stop();
      await until('it knows', () => !connection.ready);
      await consumer.remove('on-1');
      await expect(consumer.add(consumptionOf('on-3'))).rejects.toThrow('no connection to');
      await rabbit.restart();
      await consumed(rabbit, 'on-2');
      expect((await rabbit.consumers()).map(({ queue }) => queue)).toEqual(['on-2']);
      await consumer.add(consumptionOf('on-3'));
      await consumer.add(consumptionOf('on-3'));
      await consumed(rabbit, 'on-3');
      await send(rabbit, 'on-3', {});
      await until('it comes', () => got.length === 1);
    } finally {
      await consumer.close();
      await connection.close();
    }
  });
});

describe('a queue that cannot be consumed any more', () => {
  test('holds up no other queue, and is consumed when it can be again', async () => {
    const [good, bad] = [`good-${++number}`, `bad-${++number}`];
    await declare(bad, {});
    await using actors = await stage('classic', { queues: [good, { name: bad, noDeclare: true }] });
    await declare(bad, undefined);
    await rabbit.dropConnections();
    await until('it says so', () => said(actors.scene, 'this queue cannot be consumed').length > 0);
    await consumed(rabbit, good);
    await runs({ ...actors, queue: good });
    expect(actors.scene.worker.state).toBe('running');
    await declare(bad, {});
    await runs({ ...actors, queue: bad });
  });
});

describe('a connection that lies', () => {
  const throughProxy = (port: number): string => `amqp://guest:guest@127.0.0.1:${port}//`;

  test('a half-open one is noticed by its heartbeat: consuming resumes on a new one, and nothing runs twice', async () => {
    await using proxy = await startProxy(rabbit.port);
    await using actors = await stage('classic', {
      broker: throughProxy(proxy.port),
      brokerTransportOptions: { heartbeatSeconds: 1 },
    });
    const { queue, gates, scene, settled } = actors;
    const ids = await sixTasks(actors);
    proxy.goSilent();
    // RabbitMQ hears no heartbeat either, and gives back what it had sent.
    const [first = '', second = ''] = scene.started;
    gates.open(first);
    // Nobody hears that it ended: neither is it run again for that.
    await until('it ended', () => settled.includes(first));
    await until('the silence is noticed', () => said(scene, LOST).length > 0);
    expect(settled).not.toContain(second);
    gates.open(...ids);
    await until('all ended', () => settled.length === ids.length);
    await runs(actors);
    expect([...scene.started].sort()).toEqual([...ids, `${queue}-after`].sort());
  });

  test('a half-open one without heartbeats is noticed by asking', async () => {
    await using proxy = await startProxy(rabbit.port);
    const connection = new AmqpConnection(amqpTarget(throughProxy(proxy.port), { heartbeatSeconds: 0 }));
    await connection.connect();
    const got: Delivered[] = [];
    const lost: number[] = [];
    const consumer = new AmqpConsumer(connection, {
      prefetch: 1,
      deliver: (message) => void got.push(message),
      lost: (generation) => void lost.push(generation),
    });
    try {
      await consumer.start([consumptionOf('watched')]);
      await consumer.verify(PATIENCE_MS);
      expect(lost).toEqual([]);
      proxy.goSilent();
      // A change that is under way when it happens is not the last one.
      consumer.setPrefetch(7);
      await consumer.verify(500);
      expect(lost).toEqual([1]);
      await until('it consumes again', () => consumer.consuming);
      consumer.setPrefetch(9);
      await until('with the new count', async () =>
        (await rabbit.consumers()).some(({ queue, prefetch }) => queue === 'watched' && prefetch === 9),
      );
      // RabbitMQ may give some of them to the consumer that it believes to be there.
      await send(rabbit, 'watched', ...Array.from({ length: 20 }, () => ({})));
      await until('one comes', () => got.length > 0);
      expect(got[0]?.generation).toBe(2);
      expect(consumer.ack(got[0] as Delivered)).toBe(true);
      expect(consumer.ack(got[0] as Delivered)).toBe(false);
    } finally {
      await consumer.close();
      await connection.close();
    }
  });

  test('a broker that says nothing for a while, and goes on: nothing is lost, nothing runs twice', async () => {
    await using actors = await stage('classic', { brokerTransportOptions: { heartbeatSeconds: 1 } });
    const { queue, gates, scene, settled } = actors;
    const ids = await sixTasks(actors);
    rabbit.pause();
    try {
      await until('it knows', () => said(scene, LOST).length > 0);
      gates.open(...ids);
      await until('the running ones ended', () => settled.length === 2);
    } finally {
      rabbit.resume();
    }
    await until('all ended', () => settled.length === ids.length);
    await runs(actors);
    await holds(rabbit, queue, 0, 0);
    expect([...scene.started].sort()).toEqual([...ids, `${queue}-after`].sort());
  });

  test('a worker that is told to stop while the broker says nothing ends', async () => {
    const actors = await stage();
    await sixTasks(actors);
    rabbit.pause();
    try {
      await actors.scene.worker.stop({ timeoutMs: 0 });
      expect(actors.scene.worker.state).toBe('stopped');
    } finally {
      rabbit.resume();
    }
    await holds(rabbit, actors.queue, 6, 0);
  });
});

describe('after twenty lost connections', () => {
  test('there is one consumer, one connection to consume and one to publish, and no more listeners than before', async () => {
    const connection = new AmqpConnection(amqpTarget(rabbit.url));
    await connection.connect();
    const consumer = new AmqpConsumer(connection, { prefetch: 3, global: true, deliver: () => {}, lost: () => {} });
    try {
      await consumer.start([consumptionOf('often')]);
      for (let round = 0; round < 20; round++) {
        const { generation } = consumer;
        await rabbit.dropConnections();
        await until('it consumes again', () => consumer.generation > generation && consumer.consuming);
      }
      await consumed(rabbit, 'often');
      expect(await rabbit.eval('length(rabbit_networking:connections()).')).toBe(1);
      expect(await rabbit.eval('length(rabbit_channel:list()).')).toBe(1);
    } finally {
      await consumer.close();
      await connection.close();
    }
    await until('all is closed', async () => (await rabbit.eval('length(rabbit_networking:connections()).')) === 0);
  });
});

const LOST = 'nothing is consumed for now';

function consumptionOf(queue: string): Parameters<AmqpConsumer['add']>[0] {
  const plain = { durable: true, autoDelete: false, exclusive: false, arguments: {} };
  return { queue, declarations: [{ kind: 'queue', name: queue, ...plain }] };
}

/** Without properties: delete it. */
async function declare(queue: string, properties: object | undefined): Promise<void> {
  const connection = await rabbit.connect();
  const channel = await connection.createChannel();
  if (properties === undefined) await channel.deleteQueue(queue);
  else await channel.assertQueue(queue, { durable: true, ...properties });
  await connection.close();
}

function said(scene: Scene, words: string): readonly string[] {
  return scene.lines.map(({ message }) => message).filter((message) => message.startsWith(words));
}
