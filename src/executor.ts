import type { Job } from '../protocols/job.ts';
import type { TaskContext } from './task.ts';

/**
 * Where handlers run: in the event loop of the worker, in a process for each job, in threads. The worker calls it in place of the handler, inside all
 * middleware; begin, time limits, outcome and settle stay with the worker. It is chosen for a task, for a source or for a worker, in this order.
 *
 * Its own size, where it has one, bounds how many jobs it runs at once; `concurrency` bounds how many the worker starts. The smaller number counts: a job
 * that the worker has started and the executor has no room for waits inside `run`, and its time limits run meanwhile.
 */
export interface Executor {
  /**
   * Runs the handler of `job` and resolves with its value. Rejects with what the handler threw: signals (`Retry`, `Fail`, `Postpone` …) keep their class.
   * It observes `context.signal`, and uses `context.update` and `context.log` for the handler.
   */
  run(job: Job, context: TaskContext): Promise<unknown>;
  /** The worker has started and loads what it needs ahead of the first job. */
  open?(): Promise<void>;
  /** The worker has stopped: nothing runs any more, and nothing will. */
  close(): Promise<void>;
}
