import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Postpone } from '../../src/signals.ts';
import { defineTask, Tasks } from '../../src/task.ts';
import type { Middleware } from '../../src/worker/middleware.ts';
import { Worker } from '../../src/worker/worker.ts';
import { until } from '../support/until.ts';
import { SidekiqScene } from './sidekiq-scene.ts';

let scene: SidekiqScene;
beforeAll(async () => {
  scene = await SidekiqScene.start();
});
afterEach(() => scene.reset());
afterAll(() => scene[Symbol.asyncDispose]());

/** Postpones each job so many times, by so many milliseconds. */
const postponing = (times: number, delayMs: number, ran: string[]): Tasks => {
  const seen = new Map<string, number>();
  return new Tasks()
    .handle(defineTask('Later'), ({ id }) => {
      const before = seen.get(id) ?? 0;
      seen.set(id, before + 1);
      ran.push(id);
      if (before < times) throw new Postpone({ delayMs, reason: 'the shop is closed' });
    })
    .handle(defineTask('Now'), ({ id }) => void ran.push(id));
};

describe.each(['reliable', 'basic'] as const)('a job that is postponed (%s fetch)', (fetch) => {
  test('is in the set schedule with the same bytes; no attempt and no error is counted, and no claim is left', async () => {
    const ran: string[] = [];
    const worker = await scene.startWorker(postponing(1, 60_000, ran), { fetch });
    const settled = worker.once('job:settled');
    const { jid } = await scene.client.enqueue('Later', { args: [1] });
    const [before] = [await firstSeen(jid, settled)];
    expect(before.disposition.state).toBe('postponed');
    const [entry, ...more] = await scene.set('schedule');
    expect(more).toEqual([]);
    expect(JSON.parse(entry!.text)).toEqual({
      ...{ class: 'Later', args: [1], jid, queue: 'default', retry: true },
      ...{ created_at: expect.any(Number) as number, enqueued_at: expect.any(Number) as number },
    });
    expect(entry!.score * 1000 - Date.now()).toBeGreaterThan(50_000);
    expect([await scene.set('retry'), await scene.set('dead')]).toEqual([[], []]);
    await worker.stop();
    expect(await scene.redis.keys('jobglot:sidekiq:claims:*')).toEqual([]);
    expect(await scene.redis.get('stat:processed')).not.toBe('1');
  });

  test('runs again when it is due, with its first attempt still to come, while other jobs go on', async () => {
    const ran: string[] = [];
    const worker = await scene.startWorker(postponing(1, 300, ran), { fetch, concurrency: 1 });
    const done = worker.once(
      'job:settled',
      ({ disposition, job }) => disposition.state === 'succeeded' && job.task === 'Later',
    );
    const first = await scene.client.enqueue('Later');
    const second = await scene.client.enqueue('Now');
    expect((await done).job.attempt).toBe(1);
    expect(ran).toEqual([first.jid, second.jid, first.jid]);
    await worker.stop();
    expect(await scene.redis.keys('*')).not.toContain('schedule');
  });
});

test('a middleware that postpones a job for a second runs it at most twice in two seconds', async () => {
  let asked = 0;
  const later: Middleware = () => {
    asked += 1;
    throw new Postpone({ delayMs: 1_000 });
  };
  const tasks = new Tasks().handle(defineTask('Limited'), () => {});
  const worker = new Worker({ tasks, sources: [scene.source()], middleware: [later] });
  await worker.start();
  const began = performance.now();
  await scene.client.enqueue('Limited');
  await until('it was asked twice', () => asked === 2);
  expect(performance.now() - began).toBeGreaterThan(1_000);
  await worker.stop();
  expect(asked).toBe(2);
});

test('two jobs without a jid that are equal to the letter are both kept', async () => {
  const ran: string[] = [];
  const worker = await scene.startWorker(postponing(9, 60_000, ran));
  await scene.redis.lpush(
    'queue:default',
    ...Array.from({ length: 2 }, () => '{"class":"Later","args":[1.0],"custom":"é"}'),
  );
  await until('both are postponed', async () => (await scene.set('schedule')).length === 2);
  for (const { text } of await scene.set('schedule'))
    expect(text).toMatch(/^\{"class":"Later","args":\[1\.0\],"custom":"é","jid":"[0-9a-f]{24}"\}$/);
  await worker.stop();
});

describe('unknown classes', () => {
  test('a job of an unknown class is back in its queue with the same bytes, and nothing is counted', async () => {
    const worker = await scene.startWorker(new Tasks(), { unknownTaskDelayMs: 50 });
    const bytes = '{"class":"Foreign","args":[1.0,12345678901234567890],"jid":"j1","queue":"default","own":"é"}';
    const settled = worker.once('job:settled');
    await scene.redis.lpush('queue:default', bytes);
    expect((await settled).outcome).toEqual({ kind: 'unknown' });
    await worker.stop();
    expect(await scene.queue()).toEqual([bytes]);
    expect(await scene.redis.get('stat:processed')).not.toBe('1');
    expect(await scene.redis.keys('jobglot:sidekiq:claims:*')).toEqual([]);
  });

  test('forward: it is in the other queue, which is listed', async () => {
    const worker = await scene.startWorker(new Tasks(), { unknownTask: { forward: 'foreign' } });
    const settled = worker.once('job:settled');
    const { jid } = await scene.client.enqueue('Foreign');
    await settled;
    expect((await scene.queue('foreign')).map((text) => (JSON.parse(text) as { jid: string }).jid)).toEqual([jid]);
    expect(await scene.redis.smembers('queues')).toContain('foreign');
    await worker.stop();
  });

  test('hold: they stay claimed, and are at the head of their queue, in their order, when the worker stops', async () => {
    const pushed = await scene.client.enqueueMany('Foreign', [{ args: [1] }, { args: [2] }, { args: [3] }]);
    const worker = await scene.startWorker(new Tasks(), { unknownTask: 'hold' });
    await until('all are claimed', async () => (await scene.queue()).length === 0);
    await scene.client.enqueue('Foreign', { queue: 'elsewhere' });
    await worker.stop();
    expect((await scene.queue()).map((text) => (JSON.parse(text) as { jid: string }).jid)).toEqual(
      pushed.map(({ jid }) => jid),
    );
  });

  test('1,000 unknown jobs ahead of 10 known ones delay them by less than a second, and come back ever more rarely', async () => {
    const ran: string[] = [];
    const foreign = Array.from(
      { length: 1_000 },
      (_, at) => `{"class":"Foreign","args":[${at}],"jid":"f${at}","queue":"default"}`,
    );
    await scene.redis.lpush('queue:default', ...foreign);
    const known = await scene.client.enqueueMany(
      'Now',
      Array.from({ length: 10 }, () => ({})),
    );
    await scene.redis.config('RESETSTAT');
    const began = performance.now();
    const worker = await scene.startWorker(postponing(0, 0, ran), { unknownTaskDelayMs: 500 });
    let returned = 0;
    worker.on('job:settled', ({ outcome }) => {
      if (outcome.kind === 'unknown') returned += 1;
    });
    await until('the known ones have run', () => ran.length === 10);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(ran.toSorted()).toEqual(known.map(({ jid }) => jid).toSorted());
    // They go back half a second after they came, then after one second, then after two.
    await until('all have gone back three times', () => returned >= 3_000);
    expect(performance.now() - began).toBeGreaterThan(3_400);
    const scripts = Number(/cmdstat_eval(?:sha)?:calls=(\d+)/.exec(await scene.redis.info('commandstats'))?.[1]);
    // A write for each that goes back, and few fetches for many.
    expect(scripts).toBeLessThan(3_000 + 1_000);
    await worker.stop();
    expect((await scene.queue()).toSorted()).toEqual(foreign.toSorted());
  });
});

/** The event of this job. */
async function firstSeen<Event extends { readonly job: { readonly id: string } }>(
  jid: string,
  settled: Promise<Event>,
): Promise<Event> {
  const event = await settled;
  expect(event.job.id).toBe(jid);
  return event;
}
