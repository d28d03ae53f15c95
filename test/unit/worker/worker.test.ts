import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, test, vi } from 'vitest';
import { ConfigError } from '../../../src/errors.ts';
import type { Logger } from '../../../src/log.ts';
import { type Agent, every, pause } from '../../../src/source.ts';
import { defineTask, type Handler, Tasks } from '../../../src/task.ts';
import type { WorkerState } from '../../../src/worker/events.ts';
import { Worker, type WorkerOptions } from '../../../src/worker/worker.ts';
import { Gate, ScriptedSource, tasksOf } from './scripted.ts';

const untilAborted: Handler = (_, { signal }) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });

function workerOf(source: ScriptedSource, handler: Handler, options: Partial<WorkerOptions> = {}): Worker {
  return new Worker({ tasks: tasksOf(handler), sources: [source], abortGraceMs: 30, ...options });
}

describe('the life of a worker', () => {
  test('nothing happens before it starts; it goes through its states once', async () => {
    const source = new ScriptedSource();
    const worker = workerOf(source, () => 1);
    const states: WorkerState[] = [];
    worker.on('worker:state', ({ state }) => states.push(state));
    expect(worker.state).toBe('idle');
    expect(source.log).toEqual([]);
    await worker.start();
    await worker.quiet();
    await worker.stop();
    await worker.stop();
    expect(states).toEqual(['running', 'quiet', 'stopping', 'stopped']);
    expect(source.log).toEqual(['open', 'quiet', 'close']);
    await expect(worker.start()).rejects.toThrow(ConfigError);
  });

  test('one without sources cannot be made', () => {
    expect(() => new Worker({ tasks: new Tasks(), sources: [] })).toThrow(ConfigError);
  });

  test.each([
    [{ shutdownTimeout: 5 }, "unknown option 'shutdownTimeout'; did you mean 'shutdownTimeoutMs'?"],
    [
      { shutdownTimeoutMs: '25s' },
      'shutdownTimeoutMs must be a number of milliseconds, 0 or more; Infinity for no limit',
    ],
    [{ shutdownTimeoutMs: -1 }, 'shutdownTimeoutMs must be a number'],
    [{ abortGraceMs: Number.NaN }, 'abortGraceMs must be a number of milliseconds, 0 or more, not NaN'],
    [{ sources: new ScriptedSource() }, 'sources must be a list of sources, such as celery({ broker }), not an object'],
    [{ sources: [{ url: 'redis://' }] }, 'sources must be a list of sources'],
    [{ middleware: ['log'] }, 'middleware must be a list of functions'],
    [{ tasks: [defineTask('work')] }, 'tasks must be a registry: new Tasks(), not a list'],
    [{ log: console.log }, 'log must be a logger with debug, info, warn and error'],
    [{ executor: { run: () => 1 } }, 'executor must be an executor, such as childProcess({ tasks })'],
  ])('options are checked: %o', (wrong, message) => {
    const options = { tasks: new Tasks(), sources: [new ScriptedSource()], ...wrong } as unknown as WorkerOptions;
    expect(() => new Worker(options)).toThrow(ConfigError);
    expect(() => new Worker(options)).toThrow(`Worker: ${message}`);
  });

  test('stop waits without limit where the timeout is Infinity, and takes no other thing than a number', async () => {
    const source = new ScriptedSource();
    const gate = new Gate();
    const worker = workerOf(source, gate.handler, { shutdownTimeoutMs: Number.POSITIVE_INFINITY });
    await worker.start();
    const [one] = source.push({ id: '1' });
    await expect.poll(() => gate.started).toEqual(['1']);
    await expect(worker.stop({ timeoutMs: 'soon' as never })).rejects.toThrow('timeoutMs must be a number');
    const stopped = worker.stop();
    await pause(50);
    expect(one!.released).toBe(false);
    gate.open();
    await stopped;
    expect(one!.outcome).toMatchObject({ kind: 'success' });
  });

  test('one that was never started stops at once', async () => {
    const source = new ScriptedSource();
    const worker = workerOf(source, () => 1);
    await worker.stop();
    expect(worker.state).toBe('stopped');
    expect(source.log).toEqual([]);
  });

  test('when one source cannot be opened, those that were are closed, and the worker is stopped', async () => {
    const [fine, broken] = [new ScriptedSource(), new ScriptedSource()];
    broken.openFailure = new Error('no server');
    const worker = new Worker({ tasks: new Tasks(), sources: [fine, broken] });
    await expect(worker.start()).rejects.toThrow('no server');
    expect(worker.state).toBe('stopped');
    expect(fine.log).toEqual(['open', 'close']);
    expect(broken.log).toEqual(['open', 'close']);
  });

  test('run ends when its signal aborts, also when that was before', async () => {
    for (const early of [true, false]) {
      const stop = new AbortController();
      if (early) stop.abort();
      const worker = workerOf(new ScriptedSource(), () => 1);
      const ended = worker.run(stop.signal);
      stop.abort();
      await ended;
      expect(worker.state).toBe('stopped');
    }
  });

  test('run rejects when the worker cannot start', async () => {
    const source = new ScriptedSource();
    source.openFailure = new Error('no server');
    await expect(workerOf(source, () => 1).run()).rejects.toThrow('no server');
  });

  test('await using stops it', async () => {
    const source = new ScriptedSource();
    {
      await using worker = workerOf(source, () => 1);
      await worker.start();
    }
    expect(source.log).toEqual(['open', 'quiet', 'close']);
  });

  test('what a source asks of its host is done', async () => {
    const source = new ScriptedSource();
    const worker = workerOf(source, untilAborted);
    await worker.start();
    const [job] = source.push({ id: '1' });
    await worker.once('job:started');
    expect(source.host?.cancel('1', 'terminated')).toBe(true);
    expect((await worker.once('job:settled')).outcome).toEqual({ kind: 'cancelled', reason: 'terminated' });
    expect(job?.outcome).toEqual({ kind: 'cancelled', reason: 'terminated' });
    expect(source.host?.tasks.names('scripted')).toEqual(['work']);
    const stopped = worker.once('worker:state', ({ state }) => state === 'stopped');
    source.host?.stop();
    await stopped;
  });
});

describe('stop', () => {
  test('waits for what runs, and settles it before it closes', async () => {
    const source = new ScriptedSource();
    const gate = new Gate();
    const worker = workerOf(source, gate.handler);
    await worker.start();
    source.push({ id: '1' });
    await expect.poll(() => gate.started).toEqual(['1']);
    const stopping = worker.once('worker:state', ({ state }) => state === 'stopping');
    const stopped = worker.stop();
    await stopping;
    expect(source.log).not.toContain('close');
    gate.open();
    await stopped;
    expect(source.log).toEqual(['open', 'begin 1', 'quiet', 'settle 1 success', 'close']);
  });

  test('past its deadline aborts the signals: a handler that ends by that is given back, not failed', async () => {
    const source = new ScriptedSource();
    const worker = workerOf(source, untilAborted);
    await worker.start();
    source.push({ id: '1' });
    await worker.once('job:started');
    await worker.stop({ timeoutMs: 10 });
    expect(source.log).toEqual(['open', 'begin 1', 'quiet', 'release 1', 'close']);
  });

  test('a handler that does not listen is given back without it, and its late end changes nothing', async () => {
    const source = new ScriptedSource();
    const gate = new Gate();
    const worker = workerOf(source, gate.handler);
    await worker.start();
    source.push({ id: '1' });
    await expect.poll(() => gate.started).toEqual(['1']);
    await worker.stop({ timeoutMs: 10 });
    gate.open();
    await pause(5);
    expect(source.log).toEqual(['open', 'begin 1', 'quiet', 'release 1', 'close']);
  });

  test('a second call with no time hurries the first', async () => {
    const source = new ScriptedSource();
    const worker = workerOf(source, untilAborted);
    await worker.start();
    source.push({ id: '1' });
    await worker.once('job:started');
    const from = performance.now();
    const first = worker.stop({ timeoutMs: 60_000 });
    await worker.stop({ timeoutMs: 0 });
    await first;
    expect(performance.now() - from).toBeLessThan(30_000);
    expect(source.log).toContain('release 1');
  });

  test('ends although the store takes nothing: an outcome, a release, a quiet, a close that never end', async () => {
    const source = new ScriptedSource({ concurrency: 2, prefetch: 2 });
    const gate = new Gate();
    const worker = workerOf(source, gate.handler);
    await worker.start();
    const [unsettled, , waiting] = source.push({ id: '1' }, { id: '2' }, { id: '3' });
    await expect.poll(() => gate.started).toEqual(['1', '2']);
    unsettled!.settleFailures = waiting!.releaseFailures = Number.POSITIVE_INFINITY;
    source.quiet = () => Promise.reject(new Error('away'));
    source.close = () => new Promise(() => {});
    gate.open('1');
    await worker.once('job:unsettled');
    vi.useFakeTimers();
    const stopped = worker.stop({ timeoutMs: 10 });
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    await stopped;
    expect(worker.state).toBe('stopped');
  });
});

describe('several sources', () => {
  test('have their own slots each: a flood of one leaves the other’s free', async () => {
    const [busy, calm] = [
      new ScriptedSource({ system: 'busy', concurrency: 2 }),
      new ScriptedSource({ system: 'calm', concurrency: 1 }),
    ];
    const gate = new Gate();
    const worker = new Worker({ tasks: tasksOf(gate.handler), sources: [busy, calm] });
    await worker.start();
    busy.push(...Array.from({ length: 20 }, (_, index) => ({ id: `busy-${index}` })));
    await expect.poll(() => gate.started.length).toBe(2);
    calm.push({ id: 'calm-1' });
    await expect.poll(() => gate.started.length).toBe(3);
    expect(worker.running.map(({ id }) => id)).toEqual(['busy-0', 'busy-1', 'calm-1']);
    expect(worker.health).toMatchObject([
      { system: 'busy', running: 2 },
      { system: 'calm', running: 1 },
    ]);
    const opener = setInterval(() => gate.open(), 1);
    await worker.stop();
    clearInterval(opener);
  });

  test('find a task under the name it has in their system', async () => {
    const [one, two] = [
      new ScriptedSource({ system: 'one' }),
      new ScriptedSource({ system: 'two', unknownTaskDelayMs: 0 }),
    ];
    const tasks = new Tasks().handle(defineTask('work', { names: { two: 'Work' } }), () => 'done');
    await using worker = new Worker({ tasks, sources: [one, two] });
    await worker.start();
    const settled = [
      worker.once('job:settled', ({ job }) => job.id === '1'),
      worker.once('job:settled', ({ job }) => job.id === '2'),
    ];
    one.push({ id: '1', task: 'work' });
    two.push({ id: '2', task: 'Work' });
    expect((await Promise.all(settled)).map(({ outcome }) => outcome.kind)).toEqual(['success', 'success']);
    two.push({ id: '3', task: 'work' });
    const unknown = await worker.once('job:settled', ({ job }) => job.id === '3');
    expect(unknown.outcome).toEqual({ kind: 'unknown' });
  });
});

describe('middleware', () => {
  test('runs around the handler, the first outermost, and sees what comes back', async () => {
    const source = new ScriptedSource();
    const order: string[] = [];
    const worker = workerOf(source, () => {
      order.push('handler');
      return 1;
    });
    worker
      .use(async (_, next) => {
        order.push('first');
        const value = await next();
        order.push('first again');
        return (value as number) + 10;
      })
      .use(async (job, next, { system }) => {
        order.push(`second ${job.id} ${system}`);
        return ((await next()) as number) * 2;
      });
    await worker.start();
    source.push({ id: '1' });
    const { outcome } = await worker.once('job:settled');
    expect(outcome).toEqual({ kind: 'success', value: 12 });
    expect(order).toEqual(['first', 'second 1 scripted', 'handler', 'first again']);
    expect(() => worker.use(() => 1)).toThrow(ConfigError);
    await worker.stop();
  });

  test.each<[string, () => unknown, object]>([
    [
      'next() twice fails the job',
      () => 0,
      { kind: 'error', error: { message: expect.stringContaining('twice') as string } },
    ],
    [
      'a middleware that throws fails the job',
      () => {
        throw new RangeError('no');
      },
      { kind: 'error', error: { type: 'RangeError' } },
    ],
    ['a middleware that does not call next() decides alone', () => 'decided', { kind: 'success', value: 'decided' }],
  ])('%s', async (what, layer, expected) => {
    const source = new ScriptedSource();
    const handler = vi.fn<Handler>();
    const middleware = what.startsWith('next()')
      ? async (_: unknown, next: () => Promise<unknown>): Promise<unknown> => {
          await next();
          return next();
        }
      : layer;
    await using worker = workerOf(source, handler, { middleware: [middleware] });
    await worker.start();
    source.push({ id: '1' });
    expect((await worker.once('job:settled')).outcome).toMatchObject(expected);
    expect(handler).toHaveBeenCalledTimes(what.startsWith('next()') ? 1 : 0);
  });
});

describe('agents', () => {
  test('are restarted with back-off when they reject, or end too early; and told of', async () => {
    const runs: string[] = [];
    const agents: Agent[] = ['rejects', 'ends'].map((name) => ({
      name,
      run: async (signal) => {
        runs.push(name);
        if (runs.filter((one) => one === name).length > 2) return pause(60_000, signal);
        if (name === 'rejects') throw new Error('no');
      },
    }));
    const worker = workerOf(new ScriptedSource({ agents }), () => 1);
    const failed: string[] = [];
    worker.on('agent:failed', ({ agent }) => failed.push(agent));
    await worker.start();
    await expect.poll(() => runs.length).toBe(6);
    expect(failed).toEqual(['rejects', 'rejects']);
    await worker.stop();
  });

  test('are stopped in reverse, each after the one that was started later', async () => {
    const ended: string[] = [];
    const agents: Agent[] = ['first', 'second', 'third'].map((name) => ({
      name,
      run: async (signal) => {
        await pause(60_000, signal);
        await pause(5);
        ended.push(name);
      },
    }));
    const source = new ScriptedSource({ agents });
    const worker = workerOf(source, () => 1);
    await worker.start();
    await worker.stop();
    expect(ended).toEqual(['third', 'second', 'first']);
  });

  test('one that does not hear does not keep the worker from stopping', async () => {
    const deaf: Agent = { name: 'deaf', run: () => new Promise(() => {}) };
    const worker = workerOf(new ScriptedSource({ agents: [deaf] }), () => 1);
    await worker.start();
    await worker.stop();
    expect(worker.state).toBe('stopped');
  });

  test('every() calls its step again and again until stopped', async () => {
    const stop = new AbortController();
    let steps = 0;
    const done = every('step', 1, async () => void steps++).run(stop.signal);
    await expect.poll(() => steps).toBeGreaterThan(3);
    stop.abort();
    await done;
    const then = steps;
    await pause(10);
    expect(steps).toBe(then);
  });
});

describe('events and lines', () => {
  test('tell a job’s life, to listeners and on diagnostics_channel', async () => {
    const source = new ScriptedSource();
    await using worker = workerOf(source, () => 7);
    const heard: unknown[] = [];
    const published: unknown[] = [];
    const listen = (event: unknown): void => void published.push(event);
    subscribe('jobglot:job:settled', listen);
    worker.on('job:started', ({ job }) => heard.push(['started', job.id]));
    worker.on('job:settled', ({ job, disposition, ms }) => heard.push([disposition.state, job.id, ms >= 0]));
    await worker.start();
    source.push({ id: '1' });
    await worker.once('job:settled');
    unsubscribe('jobglot:job:settled', listen);
    expect(heard).toEqual([
      ['started', '1'],
      ['succeeded', '1', true],
    ]);
    expect(published).toMatchObject([{ system: 'scripted', job: { id: '1' }, outcome: { value: 7 } }]);
  });

  test('a listener is called no more once it is off; once() waits for the one that matches', async () => {
    const source = new ScriptedSource();
    await using worker = workerOf(source, () => 7);
    const heard: string[] = [];
    const off = worker.on('job:settled', ({ job }) => heard.push(job.id));
    await worker.start();
    source.push({ id: '1' }, { id: '2' });
    await worker.once('job:settled', ({ job }) => job.id === '2');
    off();
    source.push({ id: '3' });
    await worker.once('job:settled');
    expect(heard).toEqual(['1', '2']);
  });

  test('one line a job, with its fields, and never its arguments', async () => {
    const source = new ScriptedSource({ concurrency: 1 });
    const lines: { level: string; fields: object; message: string }[] = [];
    await using worker = workerOf(
      source,
      ({ id }) => {
        if (id === 'bad') throw new TypeError('no');
        return 'secret result';
      },
      { log: recorder(lines) },
    );
    await worker.start();
    source.push({ id: 'good', args: ['secret argument'] }, { id: 'bad', kwargs: { password: 'secret' } });
    await worker.once('job:settled', ({ job }) => job.id === 'bad');
    await expect.poll(() => lines.length).toBe(2);
    expect(lines).toMatchObject([
      { level: 'info', fields: { system: 'scripted', task: 'work', id: 'good', queue: 'default' } },
      { level: 'error', fields: { id: 'bad', error: 'TypeError: no' } },
    ]);
    expect(lines[0]?.message).toMatch(/^succeeded in [\d.]+s$/);
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  test('a poisoned message is an event and a line that says where it is', async () => {
    const source = new ScriptedSource();
    const lines: { level: string; fields: object; message: string }[] = [];
    await using worker = workerOf(source, () => 1, { log: recorder(lines) });
    await worker.start();
    const heard = worker.once('job:poison');
    const report = {
      system: 'scripted',
      queue: 'q',
      id: '1',
      code: 'undecodable',
      reason: 'it is noise',
      kept: 'It is in q2.',
    };
    source.host?.poison(report);
    expect(await heard).toEqual(report);
    expect(lines).toEqual([
      {
        level: 'error',
        fields: { system: 'scripted', queue: 'q', id: '1', code: 'undecodable' },
        message: 'not a job: it is noise. It is in q2.',
      },
    ]);
  });
});

function recorder(lines: { level: string; fields: object; message: string }[]): Logger {
  const at =
    (level: string) =>
    (fields: object, message: string): void =>
      void lines.push({ level, fields, message });
  return { level: 'info', debug: () => {}, info: at('info'), warn: at('warn'), error: at('error') };
}
