import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folder.ts';
import { RqStage, until } from './support/rq-stage.ts';

/** Workers of Python and of Node on the same queues. */
describe.each(['1.16', '2.10', '2.12'] as const)('RQ %s and Node beside each other', (version) => {
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

  const enqueueAll = `
queue = Queue(name, connection=connection)
result = [job.id for job in queue.enqueue_many([Queue.prepare_data('rq_app.count', (0.002,)) for _ in range(count)])]`;

  test('two queues under load: every job is run once, by either of them', async () => {
    const queues = [stage.queue('load'), stage.queue('load')];
    await using client = stage.client();
    // Both wait when the first job comes.
    await using python = await stage.worker({ queues, kind: 'SimpleWorker' });
    await using node = await stage.node({ queues, concurrency: 2 });
    const count = 150;
    const ids: string[] = [];
    for (const queue of queues) {
      ids.push(...((await stage.python.run(enqueueAll, { name: queue, count })) as string[]));
      const calls = Array.from({ length: count }, () => ({ args: [0.002] as const, queue }));
      ids.push(...(await client.enqueueMany('rq_app.count', calls)).map(({ id }) => id));
    }
    await until('all ran', async () => (await stage.store.hlen('runs')) >= ids.length);
    for (const queue of queues) await stage.nothingRuns(queue);
    const runs = await stage.store.hgetall('runs');
    expect(ids.filter((id) => runs[id] !== '1')).toEqual([]);
    const by = await stage.store.hgetall('runs-by');
    expect(Number(by['python'])).toBeGreaterThan(0);
    expect(Number(by['node'])).toBeGreaterThan(0);
    for (const queue of queues) {
      const registries = await stage.python.registries(queue);
      expect(registries).toMatchObject({ started: [], failed: [], deferred: [], scheduled: [], queued: [] });
      expect(registries.finished.length).toBe(2 * count);
    }
    expect(python.isGone).toBe(false);
    expect(node.worker.state).toBe('running');
  });

  test('a function that only Python has is left for Python, also where Node is first', async () => {
    const queue = stage.queue('strangers');
    await using _ = await stage.node({ queues: [queue], unknownTaskDelayMs: 50 });
    const source = `
from rq_py import Account
queue = Queue(name, connection=connection)
result = [queue.enqueue('rq_py.echo', 1).id, queue.enqueue(Account(7).close, 'unused').id, queue.enqueue('rq_app.add', 1, 2).id]`;
    const [theirs, method, both] = (await stage.python.run(source, { name: queue })) as [string, string, string];
    expect(await stage.python.value(both)).toBe(3);
    await using python = await stage.worker({ queues: [queue] });
    expect(await stage.python.value(theirs)).toEqual(['python', 1]);
    expect(await stage.python.value(method)).toBe('7 closed: unused');
    expect(python.isGone).toBe(false);
  });

  test('dependents go from one language to the other, and back', async () => {
    const [ours, theirs] = [stage.queue('ours'), stage.queue('theirs')];
    await using client = stage.client();
    const source = `
first = Queue(theirs, connection=connection).enqueue('rq_app.add', 1, 2)
second = Queue(ours, connection=connection).enqueue('rq_app.who', depends_on=first)
result = second.id`;
    const second = (await stage.python.run(source, { ours, theirs })) as string;
    const third = await client.enqueue('rq_app.result_of', { args: [second], queue: theirs, dependsOn: second });
    const last = await client.enqueue('rq_app.who', { queue: ours, dependsOn: [third.id, second] });
    await using _python = await stage.worker({ queues: [theirs] });
    await using _node = await stage.node({ queues: [ours] });
    expect(await last.get({ timeoutMs: 30_000 })).toBe('node');
    expect(await third.get()).toBe('node');
    expect(await stage.python.value(second)).toBe('node');
  });

  test('what is scheduled by both is put into its queue once, whoever has the lock', async () => {
    const queue = stage.queue('scheduled');
    await using client = stage.client();
    const source = `
queue = Queue(name, connection=connection)
result = [queue.enqueue_in(datetime.timedelta(seconds=1), 'rq_app.count').id for _ in range(20)]`;
    const ids = (await stage.python.run(source, { name: queue })) as string[];
    for (let one = 0; one < 20; one++) ids.push((await client.enqueue('rq_app.count', { queue, in: 1 })).id);
    await using _python = await stage.worker({ queues: [queue], kind: 'SimpleWorker', args: ['--with-scheduler'] });
    await using _node = await stage.node({ queues: [queue] });
    const runs = async (): Promise<readonly (string | null)[]> => stage.store.hmget('runs', ...ids);
    await until('all ran', async () => (await runs()).every((count) => count !== null));
    await stage.nothingRuns(queue);
    expect(new Set(await runs())).toEqual(new Set(['1']));
    expect(await stage.store.zcard(`rq:scheduled:${queue}`)).toBe(0);
  });

  test('rq info shows the worker of ours and its jobs, and what it cleans stays', async () => {
    const queue = stage.queue('shown');
    const path = join(folder, `shown-${version}`);
    await using client = stage.client();
    await using node = await stage.node({ queues: [queue], concurrency: 2 });
    const good = await client.enqueue('rq_app.add', { args: [1, 2], queue });
    const bad = await client.enqueue('rq_app.fail', { queue });
    const waits = await client.enqueue('rq_app.who', { queue, dependsOn: bad });
    const later = await client.enqueue('rq_app.who', { queue, in: '1h' });
    expect((await stage.python.outcome(good.id)).status).toBe('finished');
    expect((await stage.python.outcome(bad.id)).status).toBe('failed');
    const running = await client.enqueue('rq_app.gate', { args: [path], queue });
    await until('it runs', async () => (await running.status()) === 'started');
    const info = await stage.rq('info');
    expect(info).toMatch(new RegExp(`^${queue} .*0, 1 executing, 1 finished, 1 failed`, 'm'));
    expect(info).toMatch(
      new RegExp(`^${node.name} \\(.* ${process.pid}\\): busy ${queue}\\. jobs: 1 finished, 1 failed`, 'm'),
    );
    // Every tool of RQ's cleans what it counts.
    await stage.python.run(
      `
from rq.registry import clean_registries
from rq.worker_registration import clean_worker_registry
from rq.intermediate_queue import IntermediateQueue
queue = Queue(name, connection=connection)
for _ in range(3):
    clean_registries(queue)
    clean_worker_registry(queue)
`,
      { name: queue },
    );
    expect(await stage.python.registries(queue)).toEqual({
      queued: [],
      started: version === '1.16' ? [expect.stringContaining(running.id)] : [running.id],
      finished: [good.id],
      failed: [bad.id],
      deferred: [waits.id],
      scheduled: [later.id],
      canceled: [],
    });
    writeFileSync(path, '');
    expect(await running.get({ timeoutMs: 30_000 })).toBe('passed');
    expect((await stage.python.workers()).map(({ name }) => name)).toEqual([node.name]);
    await node.worker.stop();
    expect(await stage.python.workers()).toEqual([]);
    expect(await stage.rq('info', '-W')).toContain('0 workers');
  });

  test('rq suspend and rq resume are heeded', async () => {
    const queue = stage.queue('suspended');
    await using client = stage.client();
    await using node = await stage.node({ queues: [queue] });
    await stage.rq('suspend');
    const state = async (): Promise<string | undefined> => (await stage.python.workers())[0]?.state;
    await until('it is suspended', async () => (await state()) === 'suspended');
    const job = await client.enqueue('rq_app.who', { queue });
    expect(await job.status()).toBe('queued');
    await stage.rq('resume');
    expect(await job.get({ timeoutMs: 30_000 })).toBe('node');
    expect(node.worker.state).toBe('running');
  });

  test('send_shutdown_command ends a worker of ours, when it has finished', async () => {
    const queue = stage.queue('shutdown');
    const path = join(folder, `shutdown-${version}`);
    await using client = stage.client();
    await using node = await stage.node({ queues: [queue] });
    const job = await client.enqueue('rq_app.gate', { args: [path], queue });
    await until('it runs', async () => (await job.status()) === 'started');
    await stage.python.run('command.send_shutdown_command(connection, name)', { name: node.name });
    await until('it stops', () => node.worker.state !== 'running');
    writeFileSync(path, '');
    expect(await job.get({ timeoutMs: 30_000 })).toBe('passed');
    await until('it has stopped', () => node.worker.state === 'stopped');
  });

  test('--worker-ttl: the keys of idle and busy workers of both are kept as long', async () => {
    const [theirs, ours] = [stage.queue('ttl'), stage.queue('ttl')];
    const args = ['--worker-ttl', '600', '--job-monitoring-interval', '1'];
    await using python = await stage.worker({ queues: [theirs], args });
    await using node = await stage.node({ queues: [ours], workerTtl: 600, jobMonitoringInterval: 1 });
    const ttls = (): Promise<number[]> =>
      Promise.all([python, node].map(({ name }) => stage.store.ttl(`rq:worker:${name}`)));
    const all = (from: number, to: number) => async (): Promise<boolean> =>
      (await ttls()).every((ttl) => ttl > from && ttl <= to);
    await until('idle: 600 seconds and a minute', all(600, 660));
    const path = join(folder, `ttl-${version}`);
    for (const queue of [theirs, ours]) await stage.python.enqueue('rq_app.gate', [path], { queue });
    await until('busy: the interval and a minute', all(30, 61));
    writeFileSync(path, '');
    await until('idle again', all(600, 660));
  });
});
