import { existsSync } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import type { Redis } from 'ioredis';
import type { RqCallbackCall, RqCallbacks, RqFailure, RqStopped, RqSuccess } from '../../../src/drivers/rq/index.ts';
import { Fail, Retry } from '../../../src/signals.ts';
import { pause } from '../../../src/source.ts';
import { defineTask, type Task, Tasks } from '../../../src/task.ts';

/** As Python's built-in, so that tracebacks end in the same line. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}

/** An exception of the application's own, as rq_app.py has it. */
export class OutOfStock extends Error {
  override readonly name = 'OutOfStock';
}

type AnyFunction = (...args: never[]) => unknown;

/** `node.<name>`, which only this side has, and `rq_app.<name>`, which a Python worker imports. */
function named<F extends AnyFunction>(name: string): readonly Task<Parameters<F>, Record<string, unknown>>[] {
  return [defineTask<F>(`node.${name}`), defineTask<F>(`rq_app.${name}`)];
}

/** The Node twins of rq_app.py. `store` is where runs are counted. A registry of its own at every call. */
export function rqTasks(store?: Redis): Tasks {
  return new Tasks()
    .handle(named<(x: number, y: number) => number>('add'), ({ args: [x, y] }) => x + y)
    .handle(named<(...numbers: number[]) => number>('total'), ({ args }) => args.reduce((sum, one) => sum + one, 0))
    .handle(named<() => null>('nothing'), () => null)
    .handle(named<(...args: unknown[]) => unknown>('echo'), ({ args, kwargs }) =>
      args.length === 1 && Object.keys(kwargs).length === 0 ? args[0] : [args, kwargs],
    )
    .handle(named<(message?: string) => never>('fail'), ({ args: [message = 'on purpose'] }) => {
      throw new ValueError(message);
    })
    .handle(named<(message?: string) => never>('fail_for_good'), ({ args: [message = 'on purpose'] }) => {
      throw new Fail(message);
    })
    .handle(named<(item: string, left: number) => never>('out_of_stock'), ({ args: [item, left] }) => {
      throw new OutOfStock(`('${item}', ${left})`);
    })
    .handle(named<(path: string, runs: number) => Promise<number>>('fail_until'), async ({ args: [path, runs] }) => {
      const run = await write(path);
      if (run < runs) throw new Error(`run ${run}`);
      return run;
    })
    .handle(
      named<(max?: number, interval?: number) => string>('once_more'),
      ({ args: [max = 1, interval = 0], attempt }) => {
        if (attempt > max) return 'enough';
        throw new Retry({ delayMs: interval * 1000 });
      },
    )
    .handle(
      named<(seconds: number, result?: unknown) => unknown>('slow'),
      async ({ args: [seconds, result] }, { signal }) => {
        await pause(seconds * 1000, signal);
        signal.throwIfAborted();
        return result ?? 'slept';
      },
    )
    .handle(named<(path: string) => Promise<string>>('gate'), async ({ args: [path] }, { signal }) => {
      while (!existsSync(path)) await pause(10, signal);
      return 'passed';
    })
    .handle(named<() => string>('who'), () => 'node')
    .handle(named<(path: string, text?: string) => Promise<number>>('write'), ({ args: [path, text] }) =>
      write(path, text),
    )
    .handle(named<(seconds?: number) => Promise<string>>('count'), async ({ id, args: [seconds = 0] }, { signal }) => {
      await store?.multi().hincrby('runs', id, 1).hincrby('runs-by', 'node', 1).exec();
      await pause(seconds * 1000, signal);
      return 'counted';
    });
}

/** The Node twins of the callbacks in rq_app.py: each says in a list that it was called. */
export function rqCallbacks(store: Redis): RqCallbacks {
  const called = (name: string, { job }: RqCallbackCall, ...more: readonly unknown[]): Promise<number> =>
    store.rpush('callbacks', JSON.stringify([name, job.id, ...more]));
  return {
    'rq_app.on_success': (call) => called('success', call, String((call as RqSuccess).value)),
    'rq_app.on_failure': (call) => {
      const { error } = call as RqFailure;
      return called('failure', call, error.type, error.message);
    },
    'rq_app.on_stopped': (call) => called((call as RqStopped).event, call),
    'rq_app.on_success_fails': () => {
      throw new Error('the callback broke');
    },
  };
}

async function write(path: string, text = 'ran'): Promise<number> {
  await appendFile(path, `${text}\n`);
  return (await readFile(path, 'utf8')).split('\n').length - 1;
}
