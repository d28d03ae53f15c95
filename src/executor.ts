import type { Job } from '../protocols/job.ts';
import type { Check } from './check.ts';
import type { TaskContext } from './context.ts';

/**
 * Where handlers run: in the event loop of the worker, in a process for each job, or in threads. The worker calls an executor in place of the
 * handler, inside all middleware. Begin, time limits, outcome and settle stay with the worker. An executor is chosen for a task
 * (`TaskOptions.executor`), for a source (`Source.executor`) or for a worker (`WorkerOptions.executor`), in this order. Without one, handlers run in
 * the event loop. Tasks that a system itself brings always run in the event loop. An executor belongs to one worker, which opens it at its start and
 * closes it at its stop.
 *
 * The size of an executor, where it has one, bounds how many jobs it runs at once. `concurrency` bounds how many jobs the worker starts. The smaller
 * number counts. When the worker has started a job and the executor has no room for it, the job waits inside `run`, and its time limits run
 * meanwhile.
 */
export interface Executor {
  /**
   * Runs the handler of `job` and resolves with its value. Rejects with the value that the handler threw: signals (`Retry`, `Fail`, `Postpone` …)
   * keep their class. It observes `context.signal`, and uses `context.update` and `context.log` for the handler.
   */
  run(job: Job, context: TaskContext): Promise<unknown>;
  /** Called when the worker starts: prepare for the first job. Where it rejects, the worker does not start. */
  open?(): Promise<void>;
  /** Called when the worker has stopped: no further job comes. A job that still runs was given back or settled, and may be ended. */
  close(): Promise<void>;
}

/** An option that takes an executor: an object, or a function, with `run` and `close`. */
export const executor: Check = (value) =>
  isExecutor(value) ? undefined : 'must be an executor, such as childProcess({ tasks })';

/** Whether a value is an executor, and not middleware, for example. */
export function isExecutor(value: unknown): value is Executor {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return false;
  return 'run' in value && typeof value.run === 'function' && 'close' in value && typeof value.close === 'function';
}
