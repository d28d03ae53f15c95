import { randomUUID } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { LamportClock } from '../../../protocols/celery/control/clock.ts';
import { decodeEnvelope, encodeEnvelope } from '../../../protocols/celery/brokers/envelope.ts';
import { decodeEvents, encodeEvent, type HeardEvent, taskStarted } from '../../../protocols/celery/control/event.ts';
import type { Publication } from '../../../protocols/celery/message/message.ts';
import { acceptSet, defaultLimits } from '../../../protocols/celery/message/serializers.ts';
import type { Broadcasting } from '../../../src/drivers/celery/brokers/broker.ts';
import { MemoryBroker } from '../../../src/drivers/celery/brokers/memory.ts';
import { EventDispatcher } from '../../../src/drivers/celery/control/dispatcher.ts';
import { Gossip } from '../../../src/drivers/celery/control/gossip.ts';
import { celery, CeleryClient, CeleryControl, CeleryEvents } from '../../../src/drivers/celery/index.ts';
import { pause } from '../../../src/source.ts';
import { defineTask, Tasks } from '../../../src/task.ts';
import { Worker } from '../../../src/worker/worker.ts';
import { until } from '../../support/redis.ts';

const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

const JSON_ONLY = { accept: acceptSet(['json']), limits: defaultLimits };

/** A worker over memory with a task that waits for its signal, and somebody who tells it what to do. */
async function scene(concurrency = 1): Promise<{
  readonly worker: Worker;
  readonly client: CeleryClient;
  readonly control: CeleryControl;
  readonly ran: string[];
}> {
  const url = `memory://${randomUUID()}`;
  const ran: string[] = [];
  const tasks = new Tasks().handle(defineTask<() => void>('wait'), async (job, { signal }) => {
    ran.push(job.id);
    await pause(20_000, signal);
  });
  const worker = new Worker({
    tasks,
    sources: [celery({ broker: url, backend: url, nodename: 'w1@box', concurrency, heartbeatInterval: false })],
  });
  await worker.start();
  const client = new CeleryClient({ broker: url, backend: url });
  const control = new CeleryControl({ broker: url });
  open.push(
    () => worker.stop({ timeoutMs: 0 }),
    () => client.close(),
    () => control.close(),
  );
  return { worker, client, control, ran };
}

test('a task that waits for a slot and is revoked is answered without a run, and what runs goes on', async () => {
  const { worker, client, control, ran } = await scene();
  const first = await client.enqueue('wait');
  await until('the first runs', 5_000, () => ran.length === 1);
  const second = await client.enqueue('wait');
  await until(
    'the second waits here',
    5_000,
    async () => ((await control.reserved()).get('w1@box') ?? []).length === 1,
  );
  await control.revoke([first.id, second.id]);
  await expect(second.get({ timeoutMs: 5_000 })).rejects.toMatchObject({ type: 'TaskRevokedError' });
  expect(worker.running.map(({ id }) => id)).toEqual([first.id]);
  expect(ran).toEqual([first.id]);
});

test('terminate ends both what runs and what waits', async () => {
  const { client, control, worker, ran } = await scene();
  const ids = [(await client.enqueue('wait')).id, (await client.enqueue('wait')).id];
  await until('one runs and one waits', 5_000, async () => {
    return ran.length === 1 && ((await control.reserved()).get('w1@box') ?? []).length === 1;
  });
  const replies = await control.revoke(ids, { terminate: true });
  expect(replies.get('w1@box')).toEqual({ ok: `terminate: ${ids.join(', ')}` });
  // A revoke is recorded at once; that a task was terminated, when it was.
  await until('both are recorded as terminated', 5_000, async () => {
    const metas = await Promise.all(ids.map((id) => client.meta(id)));
    return metas.every((meta) => meta?.status === 'REVOKED' && JSON.stringify(meta.result).includes('terminated'));
  });
  await until('nothing runs', 5_000, () => worker.running.length === 0);
  expect(ran).toHaveLength(1);
});

test('a pool that grows starts at once what waits', async () => {
  const { client, control, ran } = await scene(1);
  await client.enqueueMany('wait', [{}, {}, {}]);
  await until('one runs', 5_000, () => ran.length === 1);
  await control.poolGrow(2);
  await until('three run', 5_000, () => ran.length === 3);
});

test('events are heard in order, and the reader that is slow loses the oldest', async () => {
  const broker = new MemoryBroker(randomUUID());
  const events = new CeleryEvents({ broker, limit: 2 });
  open.push(() => events.close());
  await events.open();
  const sender = new EventDispatcher({
    hostname: 'w',
    clock: new LamportClock(),
    broadcast: broker.broadcast,
    exchange: 'celeryev',
    tasks: true,
  });
  for (const id of ['a', 'b', 'c']) sender.task(taskStarted(id));
  await sender.flush();
  await until('they have come', 5_000, () => events.dropped === 1);
  const heard: unknown[] = [];
  for await (const event of events) if (heard.push(event['uuid']) === 2) break;
  expect(heard).toEqual(['b', 'c']);
});

/** Broadcasts that fail until they are told not to; what was sent. */
class Unreliable implements Broadcasting {
  fails = true;
  readonly batches: (readonly HeardEvent[])[] = [];
  subscribe(): Promise<() => Promise<void>> {
    return Promise.reject(new Error('away'));
  }
  send(_kind: string, publications: readonly Publication[]): Promise<number> {
    if (this.fails) return Promise.reject(new Error('away'));
    for (const publication of publications) {
      const message = decodeEnvelope(Buffer.from(encodeEnvelope(publication, 'tag')));
      this.batches.push(decodeEvents(message, JSON_ONLY).events);
    }
    return Promise.resolve(1);
  }
}

test('events of tasks wait while the broker is away, and go 24 at a time in their order', async () => {
  const broadcast = new Unreliable();
  const sender = new EventDispatcher({
    hostname: 'w',
    clock: new LamportClock(),
    broadcast,
    exchange: 'celeryev',
    tasks: true,
  });
  for (let n = 0; n < 30; n++) sender.task(taskStarted(String(n)));
  await sender.flush();
  expect(broadcast.batches).toEqual([]);
  broadcast.fails = false;
  await sender.close();
  expect(broadcast.batches.map((batch) => batch.length)).toEqual([24, 6]);
  expect(broadcast.batches.flat().map((event) => event['uuid'])).toEqual(
    Array.from({ length: 30 }, (_, n) => String(n)),
  );
  expect(broadcast.batches.flat().map((event) => event['clock'])).toEqual(Array.from({ length: 30 }, (_, n) => n + 1));
});

test('events of tasks are not even made when they are off', async () => {
  const broadcast = new Unreliable();
  broadcast.fails = false;
  const sender = new EventDispatcher({
    hostname: 'w',
    clock: new LamportClock(),
    broadcast,
    exchange: 'celeryev',
    tasks: false,
  });
  expect(sender.tasks).toBe(false);
  sender.task(taskStarted('a'));
  await sender.close();
  expect(broadcast.batches).toEqual([]);
  expect([sender.switchTasks(true), sender.switchTasks(true), sender.switchTasks(false)]).toEqual([true, false, true]);
});

test('of the workers that stand for an election, one acts', async () => {
  const broker = new MemoryBroker(randomUUID());
  const { broadcast } = broker;
  const called: string[] = [];
  const stop = new AbortController();
  open.push(() => Promise.resolve(stop.abort()));
  const nodes = ['a@box', 'b@box', 'c@box'].map((nodename) => {
    const clock = new LamportClock();
    const events = new EventDispatcher({ hostname: nodename, clock, broadcast, exchange: 'celeryev', tasks: false });
    const gossip = new Gossip({
      nodename,
      clock,
      events,
      broadcast,
      exchange: 'celeryev',
      decode: JSON_ONLY,
      call: (signature) => {
        called.push(`${nodename} ${JSON.stringify(signature)}`);
        return Promise.resolve();
      },
    });
    void gossip.agents[0]?.run(stop.signal);
    return { gossip, events };
  });
  await pause(0);
  for (const { events } of nodes) await events.worker('worker-heartbeat', { freq: 2, active: 0, processed: 0 });
  await until('they know each other', 5_000, () => nodes.every(({ gossip }) => gossip.peers.length === 2));
  for (const { gossip } of nodes) gossip.elect('e1', 'task', { task: 'once' });
  await until('somebody has acted', 5_000, () => called.length > 0);
  await pause(0);
  expect(called).toHaveLength(1);
  expect(called[0]).toContain('{"task":"once"}');
});

test('a peer that says goodbye is forgotten; nonsense is no peer', async () => {
  const { broadcast } = new MemoryBroker(randomUUID());
  const clock = new LamportClock();
  const events = new EventDispatcher({ hostname: 'me', clock, broadcast, exchange: 'celeryev', tasks: false });
  const gossip = new Gossip({
    nodename: 'me',
    clock,
    events,
    broadcast,
    exchange: 'celeryev',
    decode: JSON_ONLY,
    call: () => Promise.resolve(),
  });
  const stop = new AbortController();
  open.push(() => Promise.resolve(stop.abort()));
  void gossip.agents[0]?.run(stop.signal);
  await pause(0);
  const say = (type: string, fields: Record<string, unknown>): Promise<number | undefined> => {
    const stamp = { hostname: 'other', utcoffset: 0, pid: 1, clock: 5, timestamp: 1 };
    return broadcast.send('events', [encodeEvent({ type, fields }, stamp)]);
  };
  for (const freq of ['x', null, -1, {}]) await say('worker-heartbeat', { freq });
  await say('worker-elect', { id: {}, topic: [], action: 5 });
  await say('worker-elect-ack', { id: 'never-held' });
  await until('it is known', 5_000, () => gossip.peers.length === 1);
  expect(gossip.peers).toEqual(['other']);
  await say('worker-offline', {});
  await until('it is forgotten', 5_000, () => gossip.peers.length === 0);
});
