import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest';
import { defineTask, Tasks } from '../../src/task.ts';
import { temporaryFolder } from '../support/folder.ts';
import { hold } from '../support/leash.mjs';
import { PATIENCE_MS } from '../support/until.ts';
import { Stage, until } from './support/stage.ts';
import { BETWEEN, elsewhere, facts, SETTINGS } from './support/table.ts';

describe.each([...SETTINGS, BETWEEN])(
  'Celery $version and Node beside each other on $broker',
  ({ version, broker }) => {
    const both = facts('celery-shared', { version, broker }, 'both');
    const toNode = facts('celery-shared', { version, broker }, 'Python → Node');
    const toPython = facts('celery-shared', { version, broker }, 'Node → Python');
    const redis = broker === 'redis';
    const patient = redis ? { broker_transport_options: { visibility_timeout: 3600 } } : {};
    let stage: Stage;
    let folder: string;

    beforeAll(async () => {
      // Workers that die leave claims, which come back after this many seconds.
      const config = redis ? { broker_transport_options: { visibility_timeout: 1 } } : {};
      stage = await Stage.start(version, { ...config, result_extended: true }, { broker });
      folder = temporaryFolder('jobglot-interop-');
    });
    afterEach(() => stage.nothingHeld());
    afterAll(async () => {
      rmSync(folder, { recursive: true, force: true });
      await stage[Symbol.asyncDispose]();
    });

    both(
      'a queue shared by workers of both languages',
      'every task is run once, by a worker that knows it',
      async () => {
        const queue = stage.queue('shared');
        const path = join(folder, 'shared');
        await using client = stage.client({ taskDefaultQueue: queue });
        await using python = await stage.worker({ queues: [queue], config: patient });
        await using node = await stage.node({
          queues: [queue],
          unknownTaskDelayMs: 100,
          resultExtended: true,
          concurrency: 2,
          prefetchMultiplier: 1,
        });
        const count = 30;
        const calls = Array.from({ length: count }, (_, n) => n);
        // What both know, and what only Python knows: Python is given nothing else, for it would fail it as unregistered.
        const known = await client.enqueueMany(
          'both.write',
          calls.map((n) => ({ args: [path, `both-${n}`] })),
        );
        const foreign = await client.enqueueMany(
          'py.write',
          calls.map((n) => ({ args: [path, `py-${n}`] })),
        );
        const results = [...known, ...foreign];
        const ends = await Promise.allSettled(results.map((result) => result.get({ timeoutMs: PATIENCE_MS })));
        const lost = results.filter((_, n) => ends[n]?.status === 'rejected').map(({ id }) => id);
        const left = `${await stage.waiting(queue)} in the queue, ${await stage.unacked()} claimed`;
        expect(
          lost,
          `${left}
${python.log()}`,
        ).toEqual([]);
        expect(readFileSync(path, 'utf8').trim().split('\n').sort()).toEqual(
          [...calls.map((n) => `both-${n}`), ...calls.map((n) => `py-${n}`)].sort(),
        );
        const metas = await Promise.all([...known, ...foreign].map((result) => result.meta()));
        expect(new Set(metas.map((meta) => meta?.status))).toEqual(new Set(['SUCCESS']));
        expect(await stage.waiting(queue)).toBe(0);
        expect(node.worker.health[0]?.processed).toBeGreaterThan(0);
        expect(python.log()).not.toContain('unregistered');
      },
    );

    (redis ? both : elsewhere)(
      'a queue shared by workers of both languages',
      'a task nobody there knows stays in the queue, whole',
      async () => {
        const queue = stage.queue('shared');
        const id = await stage.python.send(
          'py.add',
          [1, 2],
          { note: 'é' },
          { queue, headers: { x_tenant: 'acme' }, priority: 3 },
        );
        const key = `${queue}\x06\x163`;
        const [before] = await stage.store.lrange(key, 0, -1);
        {
          await using pushes = await stage.pushes(key);
          await using _ = await stage.node({ queues: [queue], unknownTaskDelayMs: 50 });
          // Claimed and given back, several times over: it is in the queue too briefly to be seen there by looking.
          await until('it was given back twice', () => pushes.count >= 2);
        }
        const [after] = await stage.store.lrange(key, 0, -1);
        const [was, is] = [JSON.parse(before as string), JSON.parse(after as string)];
        expect({ ...is, headers: { ...is.headers, redelivered: undefined }, properties: undefined }).toEqual({
          ...was,
          headers: { ...was.headers, redelivered: undefined },
          properties: undefined,
        });
        expect(await stage.python.state(id)).toBe('PENDING');
        await stage.store.del(key);
      },
    );

    (redis ? elsewhere : both)(
      'a queue shared by workers of both languages',
      'a task nobody there knows goes back to its queue as it was',
      async () => {
        const queue = stage.queue('shared');
        const options = { queue, headers: { x_tenant: 'acme' }, priority: 3 };
        const id = await stage.python.send('py.add', [1, 2], { note: 'é' }, options);
        const [before] = await stage.rabbit.get(queue, stage.vhost);
        {
          await using _ = await stage.node({ queues: [queue], unknownTaskDelayMs: 60_000 });
          await until('Node has it', async () => (await stage.unacked()) === 1);
        }
        await until('it is back', async () => (await stage.waiting(queue)) === 1);
        const [after] = await stage.rabbit.get(queue, stage.vhost);
        expect([after?.content, after?.properties]).toEqual([before?.content, before?.properties]);
        expect(await stage.python.state(id)).toBe('PENDING');
        await stage.rabbit.purge(queue, stage.vhost);
      },
    );

    toNode(
      'revival of what a killed worker held',
      'a task that a killed Python worker held is run by Node',
      async () => {
        const queue = stage.queue('revive');
        const python = await stage.worker({ queues: [queue], config: { task_acks_late: true } });
        const id = await stage.python.send('both.slow', [60, 'from python'], {}, { queue });
        await until('Python runs it', () => python.log().includes(`both.slow[${id}] received`));
        expect(await stage.unacked()).toBe(1);
        await python.kill();
        const tasks = new Tasks().handle(defineTask('both.slow'), ({ args }) => args[1]);
        await using node = await stage.node({
          tasks,
          queues: [queue],
          acksLate: true,
          resultExtended: true,
          nodename: 'node@host',
          brokerTransportOptions: { visibilityTimeout: 1 },
        });
        expect(await stage.python.value(id)).toBe('from python');
        expect(await stage.python.meta(id)).toMatchObject({ status: 'SUCCESS', worker: 'node@host' });
        expect(node.worker.running).toEqual([]);
      },
    );

    toPython(
      'revival of what a killed worker held',
      'a task that a killed Node worker held is run by Python',
      async () => {
        const queue = stage.queue('revive');
        const options = {
          ...stage.urls,
          queues: [queue],
          acksLate: true,
          brokerTransportOptions: { visibilityTimeout: 1 },
        };
        const worker = fork(fileURLToPath(new URL('apps/node-worker.ts', import.meta.url)), [JSON.stringify(options)], {
          execArgv: ['--import', 'tsx'],
          stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        });
        hold(worker);
        await once(worker, 'message');
        await using client = stage.client();
        const starting = once(worker, 'message');
        const result = await client.enqueue('both.slow', { args: [0, 'from node'], queue });
        const [started] = await starting;
        expect(started).toEqual({ started: result.id });
        expect(await stage.unacked()).toBe(1);
        const gone = once(worker, 'exit');
        worker.kill('SIGKILL');
        await gone;
        // A Python worker looks for abandoned messages when it starts, and after that only every hundred seconds or so.
        const isOld = async (): Promise<boolean> =>
          (await stage.store.zcount('unacked_index', 0, Date.now() / 1000 - 1.05)) === 1;
        if (redis) await until('its claim is old', isOld);
        await using python = await stage.worker({ queues: [queue] });
        const told = await result.get({ timeoutMs: PATIENCE_MS }).catch(String);
        expect(told, python.log()).toBe('from node');
        expect(JSON.parse((await stage.stored(result.id)) ?? '')).toMatchObject({
          status: 'SUCCESS',
          worker: python.hostname,
        });
      },
    );

    (redis ? toNode : elsewhere)(
      'acknowledgement',
      'what a Node worker runs longer than the visibility_timeout is not run by Python too',
      async () => {
        const queue = stage.queue('long');
        let release: () => void = () => {};
        const released = new Promise<string>((resolve) => (release = () => resolve('once')));
        const tasks = new Tasks().handle(defineTask('both.slow'), () => released);
        const visibilityTimeout = 3;
        const brokerTransportOptions = { visibilityTimeout };
        await using node = await stage.node({ tasks, queues: [queue], acksLate: true, brokerTransportOptions });
        const started = node.started('both.slow');
        const id = await stage.python.send('both.slow', [0.1], {}, { queue });
        await started;
        const since = Date.now() / 1000;
        await until(
          'its claim was kept longer than the time-out',
          async () => (await stage.store.zcount('unacked_index', since + visibilityTimeout, '+inf')) === 1,
        );
        // Starting, it looks for abandoned messages.
        const config = { broker_transport_options: { visibility_timeout: visibilityTimeout } };
        await using python = await stage.worker({ queues: [queue], config });
        expect(await stage.python.state(id)).toBe('PENDING');
        release();
        expect(await stage.python.value(id)).toBe('once');
        await python.stop();
        expect(python.log()).not.toContain(id);
      },
    );

    toPython(
      'time limits',
      'timeLimit and softTimeLimit of Node stop a Python task: the classes of billiard',
      async () => {
        const queue = stage.queue('limits');
        await using _ = await stage.worker({ queues: [queue], pool: 'prefork', concurrency: 2, config: patient });
        await using client = stage.client({ taskDefaultQueue: queue });
        const [soft, caught, hard] = [
          await client.enqueue('py.slow', { args: [10], softTimeLimit: 1 }),
          await client.enqueue('py.slow_soft', { args: [10], softTimeLimit: 1 }),
          await client.enqueue('py.slow', { args: [10], timeLimit: 1 }),
        ];
        await expect(soft.get({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject({
          type: 'SoftTimeLimitExceeded',
          module: 'billiard.exceptions',
        });
        expect(await caught.get({ timeoutMs: PATIENCE_MS })).toBe('soft');
        await expect(hard.get({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject({
          type: 'TimeLimitExceeded',
          module: 'billiard.exceptions',
          args: [1],
        });
      },
    );
  },
);
