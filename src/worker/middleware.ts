import type { Job } from '../../protocols/job.ts';
import type { Handler, TaskContext } from '../task.ts';

/** Runs around every handler: call `next()` once and return (or change) what it gives. */
export type Middleware = (job: Job, next: () => Promise<unknown>, context: TaskContext) => unknown;

/** The handler inside its middleware, first one outermost. Without middleware, the handler itself. */
export function compose(middleware: readonly Middleware[], handler: Handler): Handler {
  if (middleware.length === 0) return handler;
  return (job, context) => {
    const call = (index: number): Promise<unknown> => {
      const layer = middleware[index];
      return layer === undefined
        ? Promise.resolve(handler(job, context))
        : Promise.resolve(
            layer(
              job,
              once(() => call(index + 1)),
              context,
            ),
          );
    };
    return call(0);
  };
}

function once(next: () => Promise<unknown>): () => Promise<unknown> {
  let called = false;
  return () => {
    if (called) return Promise.reject(new Error('next() was called twice in one middleware'));
    called = true;
    return next();
  };
}
