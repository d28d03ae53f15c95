import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { inflateSync } from 'node:zlib';
import { type NodeRqProcess, RqStage, until } from '../interop/support/rq-stage.ts';

/** What is left of the work when processes die. Asked of the store and of RQ itself, not of the worker. */

const COUNT = 3_000;
const CONCURRENCY = 50;

/** Three workers die one after the other, in the middle of it. */
async function killThrice(stage: RqStage, options: Parameters<RqStage['nodeProcess']>[0]): Promise<NodeRqProcess> {
  let worker = await stage.nodeProcess(options);
  for (const killAt of [500, 1_300, 2_100]) {
    await until(`${killAt} ran`, 60_000, async () => (await stage.store.hlen('runs')) >= killAt);
    await worker.kill();
    worker = await stage.nodeProcess({ ...options });
  }
  return worker;
}

async function enqueue(stage: RqStage, queue: string): Promise<readonly string[]> {
  await using client = stage.client();
  const calls = Array.from({ length: COUNT }, () => ({ args: [0.02] as const, queue, resultTtl: 5_000 }));
  return (await client.enqueueMany('rq_app.count', calls)).map(({ id }) => id);
}

/** Nothing of RQ's says that anything runs. */
async function nothingIsLeft(store: Redis, queue: string): Promise<void> {
  expect(await store.llen(`rq:queue:${queue}`)).toBe(0);
  expect(await store.keys(`rq:queue:${queue}:intermediate*`)).toEqual([]);
  expect(await store.zcard(`rq:wip:${queue}`)).toBe(0);
}

async function statuses(store: Redis, ids: readonly string[]): Promise<readonly (string | null)[]> {
  const asked = store.pipeline();
  for (const id of ids) asked.hget(`rq:job:${id}`, 'status');
  return ((await asked.exec()) ?? []).map(([, status]) => status as string | null);
}

test(
  '3,000 jobs, three SIGKILLs, abandoned jobs run again: none is lost, none is left as started',
  { timeout: 240_000 },
  async () => {
    await using stage = await RqStage.start('2.10');
    const queue = 'lossless';
    const ids = await enqueue(stage, queue);
    const options = {
      queues: [queue],
      concurrency: CONCURRENCY,
      abandonedJobs: 'requeue',
      abandonedInterval: 1,
    } as const;
    const worker = await killThrice(stage, options);
    await until('all have ended', 90_000, async () => (await stage.store.zcard(`rq:finished:${queue}`)) >= COUNT);
    await until('nothing runs', async () => (await stage.store.zcard(`rq:wip:${queue}`)) === 0);
    expect(new Set(await statuses(stage.store, ids))).toEqual(new Set(['finished']));
    const runs = await stage.store.hgetall('runs');
    expect(ids.filter((id) => !(Number(runs[id]) >= 1))).toEqual([]);
    const again = ids.filter((id) => Number(runs[id]) > 1).length;
    // What ran when a process died, and what had run and was not settled yet.
    expect(again).toBeLessThan(3 * 4 * CONCURRENCY);
    console.log(`3,000 jobs, 3 SIGKILLs: ${again} ran more than once`);
    await nothingIsLeft(stage.store, queue);
    // RQ itself sees it so, after its own cleaning.
    const registries = await stage.python.registries(queue);
    expect(registries.finished.length).toBe(COUNT);
    expect(registries).toMatchObject({
      started: [],
      failed: [],
      deferred: [],
      scheduled: [],
      canceled: [],
      queued: [],
    });
    expect(await stage.rq('info', '-Q')).toMatch(
      new RegExp(`^${queue} .*0, 0 executing, ${COUNT} finished, 0 failed`, 'm'),
    );
    await worker.stop();
    expect(worker.child.exitCode).toBe(0);
  },
);

test('as RQ does it, abandoned jobs have failed, and say so', { timeout: 240_000 }, async () => {
  await using stage = await RqStage.start('2.10');
  const queue = 'failing';
  const ids = await enqueue(stage, queue);
  const worker = await killThrice(stage, { queues: [queue], concurrency: CONCURRENCY, abandonedInterval: 1 });
  const ended = async (): Promise<number> =>
    (await stage.store.zcard(`rq:finished:${queue}`)) + (await stage.store.zcard(`rq:failed:${queue}`));
  await until('all have ended', 90_000, async () => (await ended()) >= COUNT);
  await until('nothing runs', async () => (await stage.store.zcard(`rq:wip:${queue}`)) === 0);
  const found = await statuses(stage.store, ids);
  const failed = ids.filter((_, at) => found[at] === 'failed');
  expect(found.filter((status) => status === 'finished').length).toBe(COUNT - failed.length);
  expect(failed.length).toBeGreaterThan(0);
  expect(failed.length).toBeLessThanOrEqual(3 * 4 * CONCURRENCY);
  const [last] = await stage.store.xrevrange(`rq:results:${String(failed[0])}`, '+', '-', 'COUNT', 1);
  const fields = last?.[1] ?? [];
  const reason = inflateSync(Buffer.from(fields[fields.indexOf('exc_string') + 1] ?? '', 'base64')).toString();
  expect(reason).toContain('AbandonedJobError');
  // None is run again by itself; some were started and died before they counted.
  const runs = await stage.store.hgetall('runs');
  expect(ids.filter((id, at) => Number(runs[id] ?? (found[at] === 'failed' ? 1 : 0)) !== 1)).toEqual([]);
  await nothingIsLeft(stage.store, queue);
  await worker.stop();
});

test('SIGTERM in mid work: what runs is finished, what waits is in its queue, in its order, and nothing ran twice', async () => {
  await using stage = await RqStage.start('2.10');
  const queue = 'terminated';
  await using client = stage.client();
  const calls = Array.from({ length: 300 }, () => ({ args: [0.1] as const, queue }));
  const ids = (await client.enqueueMany('rq_app.count', calls)).map(({ id }) => id);
  const worker = await stage.nodeProcess({ queues: [queue], concurrency: 20 });
  await until('some ran', async () => (await stage.store.hlen('runs')) >= 40);
  await worker.stop();
  expect(worker.child.exitCode).toBe(0);
  const runs = await stage.store.hgetall('runs');
  const waiting = await stage.store.lrange(`rq:queue:${queue}`, 0, -1);
  expect(new Set(Object.values(runs))).toEqual(new Set(['1']));
  expect(await stage.store.zcard(`rq:finished:${queue}`)).toBe(Object.keys(runs).length);
  expect(waiting).toEqual(ids.slice(ids.length - waiting.length));
  expect(Object.keys(runs).length + waiting.length).toBe(ids.length);
  expect(new Set(await statuses(stage.store, waiting))).toEqual(new Set(['queued']));
  expect(await stage.store.zcard(`rq:wip:${queue}`)).toBe(0);
  expect(await stage.python.workers()).toEqual([]);
});
