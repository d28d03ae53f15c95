import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { RemoteError, ResultTimeoutError } from '../../src/errors.ts';
import type { CeleryVersion, PythonWorker } from '../support/python.ts';
import { temporaryFolder } from '../support/folder.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { type NodeWorker, Stage, until } from './support/stage.ts';
import { facts } from './support/table.ts';

const WAIT = { timeoutMs: PATIENCE_MS };

describe.each<CeleryVersion>(['5.2', '5.6'])('results over rpc:// with Celery %s', (version) => {
  const setting = { version, broker: 'amqp' } as const;
  const toNode = facts('amqp-rpc', setting, 'Python → Node');
  const toPython = facts('amqp-rpc', setting, 'Node → Python');
  const feature = 'rpc:// results';
  let stage: Stage;
  let node: NodeWorker;
  let python: PythonWorker;
  let folder: string;

  beforeAll(async () => {
    stage = await Stage.start(version, {}, { broker: 'amqp', results: 'rpc' });
    node = await stage.node({ queues: ['node'], trackStarted: true, exceptions: { OutOfStock: 'app.OutOfStock' } });
    python = await stage.worker({ queues: ['python'], config: { task_track_started: true } });
    folder = temporaryFolder('jobglot-rpc-');
  });
  afterEach(() => stage.nothingHeld());
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await python.kill();
    await stage[Symbol.asyncDispose]();
  });

  /** Python sends to Node and waits; what get() gave, and every state it was told of, in order. */
  async function states(task: string, args: readonly unknown[] = []): Promise<readonly [string, readonly string[]]> {
    const got = await stage.run(
      `
told = []
sent = app.send_task(task, args=args, queue='node')
value = sent.get(timeout=30, propagate=False, on_message=told.append)
result = [repr(value), [meta['status'] for meta in told if meta['task_id'] == sent.id]]
`,
      { task, args },
    );
    return got as [string, readonly string[]];
  }

  toNode(feature, 'Node answers a caller in Python: STARTED, then the value', async () => {
    expect(await states('node.add', [2, 3])).toEqual(['5', ['STARTED', 'SUCCESS']]);
  });

  toNode(feature, 'a failure is raised as its class, with its traceback', async () => {
    expect(await states('node.fail', ['ValueError', 'no é'])).toEqual(["ValueError('no é')", ['STARTED', 'FAILURE']]);
    const id = await stage.python.send('node.fail', ['OutOfStock', 'no tea'], {}, { queue: 'node' });
    expect(await stage.python.get(id)).toMatchObject({
      ok: false,
      type: 'OutOfStock',
      module: 'app',
      args: ['no tea'],
      traceback: expect.stringContaining('Traceback (most recent call last)'),
    });
  });

  toNode(feature, 'retries are told of', async () => {
    const [value, told] = await states('node.retry_twice', [0.1]);
    expect(value).toBe('2');
    // A retry is published before its state is told, as in Celery: the last RETRY may come when nobody listens any more.
    expect(told.filter((state) => state === 'STARTED')).toHaveLength(3);
    expect(told).toContain('RETRY');
    expect(told.at(-1)).toBe('SUCCESS');
  });

  toNode(feature, 'states of the application are told of', async () => {
    expect(await states('node.progress', [2, 0.01])).toEqual(['2', ['STARTED', 'PROGRESS', 'PROGRESS', 'SUCCESS']]);
  });

  toNode(feature, '300 results at once reach their callers, each its own', async () => {
    const got = await stage.run(
      `
sent = [app.send_task('node.add', args=[n, 1], queue='node') for n in range(300)]
result = [one.get(timeout=30) for one in sent]
`,
    );
    expect(got).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
  });

  toNode(feature, 'groups and chains of Node tasks answer the caller that sent them', async () => {
    const options = (name: string): object => ({ task: name, options: { queue: 'node' } });
    const group = await stage.python.apply({
      group: [1, 2, 3].map((n) => ({ ...options('node.mul'), task: 'node.mul', args: [n, 10] })),
    });
    expect(await stage.python.value(group.id)).toEqual([10, 20, 30]);
    const chain = await stage.python.apply({
      chain: [
        { ...options('node.add'), task: 'node.add', args: [1, 2] },
        { ...options('node.mul'), task: 'node.mul', args: [10] },
      ],
    });
    expect(await stage.python.value(chain.id)).toBe(30);
  });

  toNode(feature, 'a caller that does not wait, or is gone, gets nothing and harms nobody', async () => {
    const ignored = node.settled('node.add');
    await stage.python.send('node.add', [1, 2], {}, { queue: 'node', ignore_result: true });
    await ignored;
    const gone = node.settled('node.mul');
    await stage.python.send('node.mul', [1, 2], {}, { queue: 'node', reply_to: 'nobody-has-this-queue' });
    await gone;
    expect(await states('node.add', [2, 3])).toEqual(['5', ['STARTED', 'SUCCESS']]);
  });

  toPython(feature, 'Python answers Node: values, failures, time-outs', async () => {
    await using client = stage.client({ taskDefaultQueue: 'python' });
    const sum = await client.enqueue('py.add', { args: [2, 2n ** 60n] });
    expect(await sum.get(WAIT)).toBe(2n ** 60n + 2n);
    expect(await sum.state()).toBe('SUCCESS');
    const failed = await client.enqueue('py.fail', { args: ['OutOfStock', 'no tea', 3] });
    const error = await failed.get(WAIT).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RemoteError);
    expect(error).toMatchObject({ type: 'OutOfStock', module: 'app', args: ['no tea', 3] });
    expect((error as RemoteError).traceback).toContain('Traceback');
    const nobody = await client.enqueue('py.add', { args: [1, 2], queue: stage.queue('nobody') });
    await expect(nobody.get({ timeoutMs: 50 })).rejects.toThrow(ResultTimeoutError);
  });

  toPython(feature, 'STARTED and states of the application are seen by Node, and RETRY is', async () => {
    await using client = stage.client({ taskDefaultQueue: 'python' });
    const path = join(folder, 'gate');
    const plain = await client.enqueue('py.gate', { args: [path] });
    const meta = await client.wait(plain.id, ({ status }) => status !== 'PENDING', WAIT);
    expect(meta).toMatchObject({ status: 'STARTED', result: { pid: python.pid, hostname: python.hostname } });
    writeFileSync(path, '');
    expect(await plain.get(WAIT)).toBe('passed');

    const other = join(folder, 'other');
    const progress = await client.enqueue('py.gate', { args: [other, { step: 1 }] });
    await until('PROGRESS', async () => (await progress.state()) === 'PROGRESS');
    expect(await progress.meta()).toMatchObject({ result: { step: 1 } });
    writeFileSync(other, '');
    expect(await progress.get(WAIT)).toBe('passed');

    const states: string[] = [];
    const retried = await client.enqueue('py.retry_twice', { args: [0.05] });
    await client.wait(retried.id, ({ status }) => states.push(status) > 0 && status === 'SUCCESS', WAIT);
    expect(states).toContain('RETRY');
    expect(await retried.get(WAIT)).toBe(2);
  });

  toPython(feature, '300 results at once reach Node; another client hears nothing of them', async () => {
    await using client = stage.client({ taskDefaultQueue: 'python' });
    await using other = stage.client();
    await other.open();
    const results = await client.enqueueMany(
      'py.add',
      Array.from({ length: 300 }, (_, n) => ({ args: [n, 1] })),
    );
    const values = await Promise.all(results.map((result) => result.get(WAIT)));
    expect(values).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
    expect(await other.result(results[0]?.id ?? '').state()).toBe('PENDING');
  });

  toPython(
    feature,
    'the queue that Node waits at is as Celery declares its own, and goes with the client',
    async () => {
      const replyQueues = async (): Promise<readonly object[]> =>
        (await stage.rabbit.queues(stage.vhost))
          .filter(({ name }) => /^[0-9a-f-]{36}$/.test(name))
          .map(({ name: _name, ...queue }) => queue);
      await stage.python.value(await stage.python.send('py.add', [1, 2], {}, { queue: 'python' }));
      const theirs = await replyQueues();
      expect(theirs).toHaveLength(1);
      const client = stage.client({ taskDefaultQueue: 'python' });
      await client.open();
      expect(await replyQueues()).toEqual([theirs[0], theirs[0]]);
      await client.close();
      await until('it is gone', async () => (await replyQueues()).length === 1);
    },
  );
});
