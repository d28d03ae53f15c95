import { describe, expect, test } from 'vitest';
import type { Executor } from '../../../src/executor.ts';
import { Postpone } from '../../../src/signals.ts';
import { defineTask, type Handler, Tasks } from '../../../src/task.ts';
import type { Middleware } from '../../../src/worker/middleware.ts';
import { Worker } from '../../../src/worker/worker.ts';
import { ScriptedSource } from './scripted.ts';

/** Writes down what happens to it. */
function executorOf(name: string, log: string[], value: () => unknown = () => name): Executor {
  return {
    async open() {
      log.push(`open ${name}`);
    },
    async run(job) {
      log.push(`run ${job.task} in ${name}`);
      return value();
    },
    async close() {
      log.push(`close ${name}`);
    },
  };
}

const here: Handler = () => 'here';

class OwnSource extends ScriptedSource {
  override readonly system: string = 'scripted';
  readonly executor?: Executor;
  readonly tasks = new Tasks().handle(defineTask('builtin'), here);
  constructor(executor?: Executor) {
    super({ concurrency: 1 });
    if (executor !== undefined) this.executor = executor;
  }
}

describe('an executor', () => {
  test("is the task's, else the source's, else the worker's", async () => {
    const log: string[] = [];
    const [ofTask, ofSource, ofWorker] = ['task', 'source', 'worker'].map((name) => executorOf(name, log));
    const tasks = new Tasks()
      .handle(defineTask('special'), here, { executor: ofTask! })
      .handle(defineTask('plain'), here);
    const [own, other] = [new OwnSource(ofSource), new OwnSource()];
    await using worker = new Worker({ tasks, sources: [own, other], executor: ofWorker! });
    await worker.start();
    for (const source of [own, other]) {
      for (const task of ['special', 'plain', 'builtin']) {
        const settled = worker.once('job:settled');
        const [delivery] = source.push({ id: task, task });
        await settled;
        log.push(`${String((delivery!.outcome as { value: unknown }).value)}`);
      }
    }
    expect(log.filter((line) => !line.startsWith('open'))).toEqual([
      ...['run special in task', 'task', 'run plain in source', 'source', 'here'],
      ...['run special in task', 'task', 'run plain in worker', 'worker', 'here'],
    ]);
  });

  test('is opened once before the first job is fetched, and closed when the worker has stopped', async () => {
    const log: string[] = [];
    const executor = executorOf('shared', log);
    const tasks = new Tasks().handle(defineTask('work'), here, { executor });
    const source = new ScriptedSource();
    const worker = new Worker({ tasks, sources: [source], executor });
    expect(log).toEqual([]);
    await worker.start();
    expect(log).toEqual(['open shared']);
    await worker.stop();
    expect(log).toEqual(['open shared', 'close shared']);
  });

  test('that cannot be opened keeps the worker from starting', async () => {
    const log: string[] = [];
    const broken: Executor = { ...executorOf('broken', log), open: () => Promise.reject(new Error('no threads')) };
    const source = new ScriptedSource();
    const worker = new Worker({ tasks: new Tasks(), sources: [source], executor: broken });
    await expect(worker.start()).rejects.toThrow('no threads');
    expect([source.log, log, worker.state]).toEqual([[], ['close broken'], 'stopped']);
  });

  test('takes the place of the handler, inside all middleware', async () => {
    const log: string[] = [];
    const around: Middleware = async (_job, next) => {
      log.push('before');
      const value = await next();
      log.push('after');
      return value;
    };
    const tasks = new Tasks().handle(defineTask('work'), () => log.push('handler'));
    const source = new ScriptedSource();
    await using worker = new Worker({
      tasks,
      sources: [source],
      middleware: [around],
      executor: executorOf('other', log),
    });
    await worker.start();
    source.push({ id: '1' });
    await worker.once('job:settled');
    expect(log).toEqual(['open other', 'before', 'run work in other', 'after']);
  });

  test('rejects with what the handler threw, and the worker takes it as such', async () => {
    const executor = executorOf('other', [], () => {
      throw new Postpone({ delayMs: 5 });
    });
    const source = new ScriptedSource();
    await using worker = new Worker({
      tasks: new Tasks().handle(defineTask('work'), here),
      sources: [source],
      executor,
    });
    await worker.start();
    source.push({ id: '1' });
    const { outcome } = await worker.once('job:settled');
    expect(outcome).toMatchObject({ kind: 'postpone', delayMs: 5 });
  });

  test('that is middleware is opened and closed with its worker, too', async () => {
    const log: string[] = [];
    const middleware = Object.assign((() => 'value') as Middleware, executorOf('middleware', log));
    const worker = new Worker({ tasks: new Tasks(), sources: [new ScriptedSource()] }).use(middleware);
    await worker.start();
    await worker.stop();
    expect(log).toEqual(['open middleware', 'close middleware']);
  });
});
