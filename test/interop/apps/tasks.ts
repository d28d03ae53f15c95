import { appendFile, readFile } from 'node:fs/promises';
import type { Failure } from '../../../protocols/job.ts';
import { canvas, type FailedRequest } from '../../../src/drivers/celery/index.ts';
import { Discard, Fail, Replace, Retry } from '../../../src/signals.ts';
import { pause } from '../../../src/source.ts';
import { defineTask, type Task, Tasks } from '../../../src/task.ts';

/** An exception of the application's own, as app.py has it. */
export class OutOfStock extends Error {
  override readonly name = 'OutOfStock';
}

type AnyFunction = (...args: never[]) => unknown;

/** `node.<name>`, which only this side has, and `both.<name>`, which the Python worker has as well. */
function named<F extends AnyFunction, K = Readonly<Record<string, unknown>>>(
  name: string,
): readonly Task<Parameters<F>, K, Awaited<ReturnType<F>>>[] {
  return [defineTask<F, K>(`node.${name}`), defineTask<F, K>(`both.${name}`)];
}

/** The Node twins of the tasks in app.py, and `node.fail_for_good`. A registry of its own at every call. */
export function interopTasks(): Tasks {
  return new Tasks()
    .handle(named<(x: number, y: number) => unknown>('add'), ({ args: [x, y] }) => sum(x, y))
    .handle(named<(x: number, y: number) => number>('mul'), ({ args: [x, y] }) => x * y)
    .handle(named<(numbers: readonly number[]) => unknown>('tsum'), ({ args: [numbers] }) => numbers.reduce(sum, 0))
    .handle(named<(...args: unknown[]) => unknown>('echo'), ({ args, kwargs }) => [args, kwargs])
    .handle(named<(id: string) => unknown>('told'), ({ args: [id] }) => ['told', id])
    .handle(named<(type?: string, message?: string) => never>('fail'), ({ args: [type, message] }) => {
      throw failure(type ?? 'Error', message ?? 'on purpose');
    })
    .handle(named<(message?: string) => never>('fail_for_good'), ({ args: [message] }) => {
      throw new Fail(message ?? 'on purpose');
    })
    .handle(named<(countdown?: number) => number>('retry_twice'), ({ args: [countdown], attempt }) => {
      if (attempt <= 2) throw again(countdown, new Error(`attempt ${attempt}`));
      return attempt - 1;
    })
    .handle(
      named<(countdown?: number) => never>('retry_out'),
      ({ args: [countdown] }) => {
        throw again(countdown, new Error('never up'));
      },
      { retry: { max: 1 } },
    )
    .handle(
      named<(seconds: number, result?: unknown) => unknown>('slow'),
      async ({ args: [seconds, result] }, { signal }) => {
        await pause(seconds * 1000, signal);
        signal.throwIfAborted();
        return result ?? 'slept';
      },
    )
    .handle(named<(seconds: number) => string>('slow_soft'), async ({ args: [seconds] }, { signal }) => {
      await pause(seconds * 1000, signal);
      return signal.aborted ? 'soft' : 'slept';
    })
    .handle(
      named<(steps?: number, seconds?: number) => number>('progress'),
      async ({ args: [of = 2, seconds = 0.2] }, context) => {
        for (let step = 1; step <= of; step++) {
          await context.update('PROGRESS', { step, of });
          await pause(seconds * 1000, context.signal);
        }
        return of;
      },
    )
    .handle(named<() => never>('ignore'), () => {
      throw new Discard();
    })
    .handle(named<(...args: unknown[]) => never>('become'), ({ args }) => {
      const successor = args.at(-1) as Readonly<Record<string, unknown>>;
      const own = (successor['args'] ?? []) as readonly unknown[];
      if (successor['subtask_type'] !== null) throw new Replace(successor);
      throw new Replace({ ...successor, args: [...args.slice(0, -1), ...own] });
    })
    .handle(named<(...args: unknown[]) => Promise<string>>('grow'), async (job) => {
      await canvas(job).addToChord(job.args.at(-1));
      return 'grown';
    })
    .handle(named<(...args: unknown[]) => Promise<string>>('spawn'), async (job) => {
      await canvas(job).send(job.args.at(-1));
      return 'spawned';
    })
    .handle(
      named<(request: FailedRequest, error: Failure, traceback: string | null, path: string) => Promise<void>>(
        'write_error',
      ),
      async ({ args: [request, error, , path] }) => {
        await appendFile(path, `${JSON.stringify([request.id, error.type, error.message])}\n`);
      },
      { errback: true },
    )
    .handle(named<() => unknown>('context'), ({ id, task, queue, attempt, timeoutMs, softTimeoutMs, expiresAt }) => ({
      id,
      task,
      queue,
      attempt,
      timeoutMs: timeoutMs ?? null,
      softTimeoutMs: softTimeoutMs ?? null,
      expiresAt: expiresAt?.toISOString() ?? null,
    }))
    .handle(named<(path: string, text?: string) => number>('write'), async ({ args: [path, text] }) => {
      await appendFile(path, `${text ?? 'ran'}\n`);
      return (await readFile(path, 'utf8')).split('\n').length - 1;
    });
}

/** Integers stay integers, however large. */
function sum(x: number | bigint, y: number | bigint): number | bigint {
  return typeof x === 'bigint' || typeof y === 'bigint' ? BigInt(x) + BigInt(y) : x + y;
}

function again(countdown: number | undefined, cause: Error): Retry {
  return new Retry({ delayMs: (countdown ?? 0.1) * 1000, cause });
}

/** An error that has this name on the wire. */
function failure(type: string, message: string): Error {
  const error = type === 'OutOfStock' ? new OutOfStock(message) : new Error(message);
  Object.defineProperty(error, 'name', { value: type });
  return error;
}
