import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Job } from '../../../protocols/job.ts';
import { JobTimeoutError } from '../../../src/errors.ts';
import { silent } from '../../../src/log.ts';
import { retryUntilWritten } from '../../../src/retry-until-written.ts';
import { Discard, Fail, Retry } from '../../../src/signals.ts';
import { defineTask, type Handler, type TaskOptions } from '../../../src/task.ts';
import { CancelledError, type Ended, Run, ShutdownError } from '../../../src/worker/runner.ts';
import { ScriptedDelivery } from './scripted.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function runOf(
  handler: Handler,
  job: Partial<Job> = {},
  options: TaskOptions = {},
): { readonly run: Run; readonly ended: Promise<Ended>; readonly delivery: ScriptedDelivery; readonly log: string[] } {
  const log: string[] = [];
  const delivery = new ScriptedDelivery(log, { id: '1', ...job });
  const run = new Run(delivery, 'scripted', silent);
  const registration = { task: defineTask('work'), handler, options };
  return { run, delivery, log, ended: run.execute(registration, handler) };
}

const never = (): Promise<never> => new Promise(() => {});
const untilAborted: Handler = (_, { signal }) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });

test('an outcome that is known at the start is the outcome, and no handler is called', async () => {
  const delivery = new ScriptedDelivery([], { id: '1' });
  delivery.begin = () => Promise.resolve({ kind: 'success', value: 7 });
  const run = new Run(delivery, 'scripted', silent);
  const handler = vi.fn<Handler>();
  const registration = { task: defineTask('work'), handler, options: {} };
  expect(await run.execute(registration, handler)).toEqual({ kind: 'success', value: 7 });
  expect(handler).not.toHaveBeenCalled();
});

describe('what a handler does and what it comes to', () => {
  class OutOfStock extends Error {
    override readonly name = 'OutOfStock';
  }
  const thrower =
    (error: unknown): Handler =>
    () => {
      throw error;
    };
  const noRetry: TaskOptions = { retry: { on: (error) => !(error instanceof OutOfStock) } };

  test.each<[string, Handler, TaskOptions, object]>([
    ['returns a value', () => 7, {}, { kind: 'success', value: 7 }],
    ['returns a promise', () => Promise.resolve([1]), {}, { kind: 'success', value: [1] }],
    ['returns nothing', () => undefined, {}, { kind: 'success', value: undefined }],
    [
      'throws',
      thrower(new OutOfStock('no more')),
      {},
      { kind: 'error', retriable: false, error: { type: 'OutOfStock', message: 'no more' } },
    ],
    [
      'rejects',
      () => Promise.reject(new TypeError('x')),
      {},
      { kind: 'error', retriable: false, error: { type: 'TypeError' } },
    ],
    ['throws, and retries by policy', thrower(new Error('x')), { retry: {} }, { kind: 'error', retriable: true }],
    [
      'throws what its policy does not retry',
      thrower(new OutOfStock('x')),
      noRetry,
      { kind: 'error', retriable: false },
    ],
    ['throws what its policy retries', thrower(new Error('x')), noRetry, { kind: 'error', retriable: true }],
    ['throws a text', thrower('words'), {}, { kind: 'error', error: { type: 'Error', message: 'words' } }],
    ['throws nothing', thrower(undefined), {}, { kind: 'error', error: { message: 'undefined' } }],
    [
      'throws an object without a prototype',
      thrower(Object.create(null)),
      {},
      { kind: 'error', error: { type: 'Error' } },
    ],
    ['throws Retry', thrower(new Retry()), {}, { kind: 'retry', delayMs: undefined, error: undefined }],
    [
      'throws Retry in 3 s, because',
      thrower(new Retry({ delayMs: 3_000, cause: new OutOfStock('x') })),
      {},
      { kind: 'retry', delayMs: 3_000, error: { type: 'OutOfStock' } },
    ],
    [
      'throws Fail with a reason',
      thrower(new Fail('enough')),
      {},
      { kind: 'fail', error: { type: 'Fail', message: 'enough' } },
    ],
    [
      'throws Fail with an error',
      thrower(new Fail(new OutOfStock('gone'))),
      { retry: {} },
      { kind: 'fail', error: { type: 'OutOfStock', message: 'gone' } },
    ],
    ['throws Discard', thrower(new Discard('not wanted')), {}, { kind: 'discard', reason: 'not wanted' }],
  ])('%s', async (_, handler, options, expected) => {
    expect(await runOf(handler, {}, options).ended).toMatchObject(expected);
  });

  test('its retry policy throws: the job fails by that', async () => {
    const on = (): never => {
      throw new RangeError('the policy has a bug');
    };
    const { ended } = runOf(thrower(new Error('x')), {}, { retry: { on } });
    expect(await ended).toMatchObject({ kind: 'error', retriable: false, error: { type: 'RangeError' } });
  });

  test('throws what cannot even be looked at: the job fails', async () => {
    const trap = (): never => {
      throw new Error('hands off');
    };
    const secretive = new Proxy({}, { get: trap, getPrototypeOf: trap, has: trap, ownKeys: trap });
    const touchy = Object.defineProperty(new Error('x'), 'message', { get: () => trap() });
    for (const error of [secretive, touchy])
      expect(await runOf(thrower(error)).ended).toMatchObject({ kind: 'error', retriable: false });
  });

  test('is told the system, the log and the signal, and may record states', async () => {
    const { ended, log } = runOf(async (_, context) => {
      await context.update('PROGRESS', { done: 1 });
      return [context.system, context.log === silent, context.signal.aborted];
    });
    expect(await ended).toEqual({ kind: 'success', value: ['scripted', true, false] });
    expect(log).toEqual(['begin 1', 'update 1 PROGRESS']);
  });
});

describe('time limits', () => {
  test('soft: the signal aborts with a JobTimeoutError, and the handler may still end well', async () => {
    let reason: unknown;
    const { ended } = runOf(
      (_, { signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            resolve('in time');
          });
        }),
      { softTimeoutMs: 100, timeoutMs: 200 },
    );
    await vi.advanceTimersByTimeAsync(100);
    expect(await ended).toEqual({ kind: 'success', value: 'in time' });
    expect(reason).toBeInstanceOf(JobTimeoutError);
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each<[string, Handler]>([
    ['passes the reason on', untilAborted],
    [
      'ends with a library’s AbortError',
      (_, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
        }),
    ],
    [
      'wraps it',
      (_, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Error('fetch failed', { cause: signal.reason })));
        }),
    ],
  ])('soft: a handler that %s failed by that limit', async (_, handler) => {
    const { ended } = runOf(handler, { softTimeoutMs: 100 });
    await vi.advanceTimersByTimeAsync(100);
    expect(await ended).toMatchObject({ kind: 'error', error: { type: 'JobTimeoutError' } });
  });

  test('hard: the run is over, whatever the handler does; what it does later changes nothing', async () => {
    let late = (): void => {};
    const { ended } = runOf(() => new Promise<void>((resolve) => (late = resolve)), { timeoutMs: 200 });
    await vi.advanceTimersByTimeAsync(200);
    late();
    expect(await ended).toEqual({ kind: 'timeout', limitMs: 200 });
  });

  test('a limit longer than timers can count is no limit', async () => {
    const { ended, run } = runOf(never, { timeoutMs: 2 ** 40, softTimeoutMs: 2 ** 40 });
    await vi.advanceTimersByTimeAsync(2 ** 31);
    expect(run.signal.aborted).toBe(false);
    run.end(undefined);
    expect(await ended).toBeUndefined();
  });
});

describe('a run that is asked to end', () => {
  test('by the worker’s stop: given back', async () => {
    const { run, ended } = runOf(untilAborted);
    run.abort(new ShutdownError());
    expect(await ended).toBeUndefined();
  });

  test('by the worker’s stop, but it finished: settled', async () => {
    const { run, ended } = runOf(
      (_, { signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(1))),
    );
    run.abort(new ShutdownError());
    expect(await ended).toEqual({ kind: 'success', value: 1 });
  });

  test.each([
    [new Fail('no'), 'fail'],
    [new Retry(), 'retry'],
    [new Discard(), 'discard'],
  ])('by the worker’s stop, with a decision of its own (%s): that decision', async (decision, kind) => {
    const { run, ended } = runOf(
      (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(decision))),
    );
    run.abort(new ShutdownError());
    expect(await ended).toMatchObject({ kind });
  });

  test('because its job was cancelled: cancelled, whether it threw or returned', async () => {
    for (const handler of [
      untilAborted,
      ((_, { signal }) => new Promise((resolve) => signal.addEventListener('abort', resolve))) as Handler,
    ]) {
      const { run, ended } = runOf(handler);
      run.abort(new CancelledError('terminated'));
      expect(await ended).toEqual({ kind: 'cancelled', reason: 'terminated' });
    }
  });

  test('twice: the first reason counts', async () => {
    const { run, ended } = runOf(untilAborted);
    run.abort(new CancelledError('first'));
    run.abort(new ShutdownError());
    expect(await ended).toEqual({ kind: 'cancelled', reason: 'first' });
  });

  test('before it looks at its signal: the signal is aborted when it does', async () => {
    let look = (): void => {};
    const { run, ended } = runOf(async (_, context) => {
      await new Promise<void>((resolve) => (look = resolve));
      context.signal.throwIfAborted();
    });
    run.abort(new ShutdownError());
    look();
    expect(await ended).toBeUndefined();
  });

  test('before it has begun: nothing runs', async () => {
    const handler = vi.fn<Handler>();
    const delivery = new ScriptedDelivery([], { id: '1' });
    delivery.beginFailures = Number.POSITIVE_INFINITY;
    const run = new Run(delivery, 'scripted', silent);
    const failed = vi.fn<(error: unknown) => void>();
    const ended = run.execute({ task: defineTask('work'), handler, options: {} }, handler, failed);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(failed.mock.calls.length).toBeGreaterThan(1);
    run.abort(new ShutdownError());
    expect(await ended).toBeUndefined();
    expect(handler).not.toHaveBeenCalled();
  });
});

describe('writing until it sticks', () => {
  test('tries again with back-off', async () => {
    let failures = 3;
    const failed = vi.fn<(error: unknown) => void>();
    const written = retryUntilWritten(
      () => (failures-- > 0 ? Promise.reject(new Error('away')) : Promise.resolve('done')),
      new AbortController().signal,
      failed,
    );
    await vi.advanceTimersByTimeAsync(100 + 200 + 400);
    expect(await written).toBe('done');
    expect(failed).toHaveBeenCalledTimes(3);
  });

  test('gives up when told to, after one more try', async () => {
    const giveUp = new AbortController();
    const work = vi.fn(() => Promise.reject(new Error('away')));
    const written = retryUntilWritten(work, giveUp.signal, () => {});
    await vi.advanceTimersByTimeAsync(60_000);
    const tries = work.mock.calls.length;
    expect(tries).toBeLessThan(30);
    giveUp.abort();
    expect(await written).toBeUndefined();
    expect(work).toHaveBeenCalledTimes(tries + 1);
  });
});
