import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folder.ts';
import type { PythonRqWorker } from '../support/python-rq.ts';
import { type NodeRqProcess, RqStage, until } from './support/rq-stage.ts';

/** Workers that die with jobs in their hands: each language brings back the jobs of the other. */
describe.each(['1.16', '2.10', '2.12'] as const)('a worker of RQ %s or Node is killed', (version) => {
  let stage: RqStage;
  let folder: string;

  beforeAll(async () => {
    stage = await RqStage.start(version);
    folder = temporaryFolder('jobglot-rq-');
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await stage[Symbol.asyncDispose]();
  });

  test('Python: its job is failed by Node, and one with retries left is run by Node', async () => {
    const queue = stage.queue('killed');
    const path = join(folder, `killed-python-${version}`);
    await using client = stage.client();
    const job = await client.enqueue('rq_app.gate', { args: [path], queue, onFailure: 'rq_app.on_failure' });
    const again = await client.enqueue('rq_app.gate', { args: [path], queue, retry: { max: 1 } });
    const workers = [await stage.worker({ queues: [queue] }), await stage.worker({ queues: [queue] })];
    for (const one of [job, again]) await until('it runs', async () => (await one.status()) === 'started');
    for (const worker of workers) await worker.kill();
    writeFileSync(path, '');
    await stage.forget(queue);
    await using _ = await stage.node({ queues: [queue], abandonedInterval: 1 });
    expect(await again.get({ timeoutMs: 30_000 })).toBe('passed');
    const outcome = await stage.python.outcome(job.id);
    expect(outcome).toMatchObject({ status: 'failed' });
    expect(outcome.exc).toContain('AbandonedJobError');
    expect((await stage.python.registries(queue)).failed).toEqual([job.id]);
    await stage.nothingRuns(queue);
  });

  test('Node: its job is failed by Python, and one with retries left is run by Python', async () => {
    const queue = stage.queue('killed');
    const path = join(folder, `killed-node-${version}`);
    await using client = stage.client();
    const node = await stage.nodeProcess({ queues: [queue] });
    const job = await client.enqueue('rq_app.gate', { args: [path], queue, onFailure: 'rq_app.on_failure' });
    const again = await client.enqueue('rq_app.gate', { args: [path], queue, retry: { max: 1 } });
    for (const one of [job, again]) await until('it runs', async () => (await one.status()) === 'started');
    await node.kill();
    writeFileSync(path, '');
    if (version === '1.16') {
      // RQ 1 knows no executions: what it finds there it forgets, and only Node can bring the jobs back.
      await using _ = await stage.node({ queues: [queue], abandonedInterval: 1 });
      await stage.forget(queue);
      expect(await again.get({ timeoutMs: 30_000 })).toBe('passed');
    } else {
      await stage.forget(queue);
      await using _ = await stage.worker({ queues: [queue] });
      expect(await again.get({ timeoutMs: 30_000 })).toBe('passed');
    }
    const outcome = await stage.python.outcome(job.id);
    expect(outcome).toMatchObject({ status: 'failed' });
    expect(outcome.exc).toContain('AbandonedJobError');
    expect((await stage.callbacks(job.id)).map(([name, , type]) => [name, type])).toEqual([
      ['failure', 'AbandonedJobError'],
    ]);
    // Python leaves the execution to its end.
    expect(await stage.store.exists(`rq:wip:${queue}`)).toBe(0);
  });

  test('between its queue and its start: Node finds what is in the intermediate list', async () => {
    const queue = stage.queue('intermediate');
    await using client = stage.client();
    const job = await client.enqueue('rq_app.who', { queue });
    // As BLMOVE leaves it when the worker dies right after.
    await stage.store.lmove(`rq:queue:${queue}`, `rq:queue:${queue}:intermediate`, 'LEFT', 'RIGHT');
    await stage.forget(queue);
    await using _ = await stage.node({ queues: [queue], abandonedInterval: 1 });
    // RQ would have failed it, though it never ran.
    expect(await stage.python.value(job.id)).toBe('node');
    await until('it is out of there', async () => (await stage.store.exists(`rq:queue:${queue}:intermediate`)) === 0);
  });

  test('300 jobs, workers of both languages killed in the middle of it: every one has ended, and was run', async () => {
    const queue = stage.queue('mixed');
    await using client = stage.client();
    const count = 300;
    const calls = Array.from({ length: count }, () => ({ args: [0.02] as const, queue, retry: { max: 5 } }));
    const ids = (await client.enqueueMany('rq_app.count', calls)).map(({ id }) => id);
    const ran = async (): Promise<number> =>
      (await stage.store.hmget('runs', ...ids)).filter((runs) => runs !== null).length;
    const startPython = (): Promise<PythonRqWorker> => stage.worker({ queues: [queue], kind: 'SimpleWorker' });
    const startNode = (): Promise<NodeRqProcess> =>
      stage.nodeProcess({ queues: [queue], concurrency: 2, abandonedInterval: 1 });
    let [python, node] = [await startPython(), await startNode()];
    for (const killAt of [60, 140]) {
      await until(`${killAt} ran`, async () => (await ran()) >= killAt);
      await python.kill();
      await node.kill();
      [python, node] = [await startPython(), await startNode()];
    }
    await until('the queue is empty', async () => (await stage.store.llen(`rq:queue:${queue}`)) === 0);
    // Of Python's only the time tells that they are gone.
    await stage.forget(queue);
    await until('all have ended', async () => (await stage.store.zcard(`rq:finished:${queue}`)) >= count);
    await until('nothing runs', async () => (await stage.store.exists(`rq:wip:${queue}`, `rq:queue:${queue}`)) === 0);
    expect(await ran()).toBe(count);
    expect(await stage.store.exists(`rq:failed:${queue}`, `rq:queue:${queue}:intermediate`)).toBe(0);
    expect(python.isGone).toBe(false);
    await python.stop();
    await node.stop();
  });
});
