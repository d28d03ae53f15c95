import { afterAll, describe, expect, test } from 'vitest';
import type { Job } from '../../../protocols/job.ts';
import { ChildDiedError, JobTimeoutError } from '../../../src/errors.ts';
import { silent } from '../../../src/log.ts';
import { Retry } from '../../../src/signals.ts';
import {
  childProcess,
  type ChildProcessExecutor,
  type ChildProcessOptions,
} from '../../../src/worker/child-process.ts';
import { CancelledError } from '../../../src/worker/runner.ts';

const options: ChildProcessOptions = {
  tasks: new URL('../../interop/apps/resque-tasks.ts', import.meta.url),
  execArgv: ['--import', 'tsx'],
  termTimeoutMs: 500,
};
const run = childProcess(options);
afterAll(() => run.close());

function call(task: string, args: readonly unknown[] = [], signal = new AbortController().signal): Promise<unknown> {
  const job: Job = { id: '1', task, args, kwargs: {}, queue: 'q', attempt: 1 };
  const next = (): Promise<never> => Promise.reject(new Error('it takes the place of the handler'));
  return Promise.resolve(run(job, next, { system: 'any', signal, log: silent, update: () => Promise.resolve() }));
}

/** As an executor. */
function execute(
  executor: ChildProcessExecutor,
  task: string,
  signal = new AbortController().signal,
): Promise<unknown> {
  const job: Job = { id: '1', task, args: [], kwargs: {}, queue: 'q', attempt: 1 };
  return executor.run(job, { system: 'any', signal, log: silent, update: () => Promise.resolve() });
}

describe('a process for each job', () => {
  test('each is another, and none is this one', async () => {
    const pids = await Promise.all([call('PidJob'), call('PidJob'), call('PidJob')]);
    expect(new Set([...pids, process.pid]).size).toBe(4);
  });

  test('an error comes with its type, its words and its stack; a signal as a signal', async () => {
    const error: unknown = await call('FailJob').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'RangeError', type: 'RangeError', message: 'in the child' });
    expect((error as Error).stack).toContain('resque-tasks.ts');
    expect(await call('RetryJob').catch((thrown: unknown) => thrown)).toBeInstanceOf(Retry);
    await expect(call('NoSuchJob')).rejects.toThrow("any: no handler for the task 'NoSuchJob'");
  });

  test('its death is an error that says how', async () => {
    await expect(call('KillJob')).rejects.toThrow(ChildDiedError);
    await expect(call('ExitJob')).rejects.toMatchObject({ exitCode: 3, signal: null });
  });

  test('what cannot be sent fails the job, not the worker', async () => {
    await expect(call('PidJob', [() => 1])).rejects.toThrow('could not be cloned');
    expect(await call('PidJob')).not.toBe(process.pid);
  });

  test('a soft limit is only told; a hard one and a cancellation kill', async () => {
    const soft = new AbortController();
    const heeding = call('HangJob', [], soft.signal);
    soft.abort(new JobTimeoutError('soft', 10));
    await expect(heeding).rejects.toMatchObject({ name: 'AbortError' });
    for (const reason of [new JobTimeoutError('hard', 10), new CancelledError('not needed')]) {
      const hard = new AbortController();
      const spinning = call('SpinJob', [], hard.signal);
      hard.abort(reason);
      await expect(spinning).rejects.toMatchObject({ name: 'ChildDiedError', signal: 'SIGKILL' });
    }
  });

  test('a handler that sends null to its parent fails its job, not the worker', async () => {
    await expect(call('NullJob')).rejects.toThrow('process.send(null)');
    expect(await call('PidJob')).not.toBe(process.pid);
  });

  test('no more run at once than its size; a job that waits ends with its signal', async () => {
    const one = childProcess({ ...options, size: 1 });
    const [first, third] = [new AbortController(), new AbortController()];
    const order: string[] = [];
    const hanging = execute(one, 'HangJob', first.signal).catch(() => order.push('first'));
    const second = execute(one, 'PidJob').then(() => order.push('second'));
    const waiting = execute(one, 'PidJob', third.signal).catch((error: unknown) => error);
    third.abort(new Error('not needed'));
    expect(await waiting).toMatchObject({ message: 'not needed' });
    first.abort(new JobTimeoutError('hard', 10));
    await Promise.all([hanging, second]);
    expect(order).toEqual(['first', 'second']);
    await one.close();
  });

  test('close ends the processes that are left', async () => {
    const executor = childProcess(options);
    await executor.open?.();
    const hanging = execute(executor, 'HangJob').catch((error: unknown) => error);
    await executor.close();
    expect(await hanging).toMatchObject({ name: 'ChildDiedError', signal: 'SIGKILL' });
  });

  test('options are checked', () => {
    expect(() => childProcess({ ...options, size: 0 })).toThrow('childProcess: size must be a whole number, 1 or more');
    expect(() => childProcess({ ...options, raedy: 2 } as ChildProcessOptions)).toThrow("did you mean 'ready'?");
  });
});
