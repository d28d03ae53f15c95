import { Discard, Fail, Retry } from '../signals.ts';
import { Tasks } from '../task.ts';
import type { Middleware } from '../worker/middleware.ts';

/** Whether a task file took its `Tasks` from another copy of this package: a global command beside a local library, or ESM beside CommonJS. */
export function isOtherCopy(tasks: object): boolean {
  return !(tasks instanceof Tasks);
}

/** Throws what a handler of another copy threw on purpose as ours, which the worker tells from an error by its class. */
export const translateSignals: Middleware = async (_job, next) => {
  try {
    return await next();
  } catch (error) {
    throw ours(error);
  }
};

function ours(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof Retry || error instanceof Fail || error instanceof Discard)
    return error;
  const { name, message, cause, stack } = error;
  switch (name) {
    case 'Retry': {
      const delayMs: unknown = 'delayMs' in error ? error.delayMs : undefined;
      return new Retry({ message, cause, ...(typeof delayMs === 'number' ? { delayMs } : {}) });
    }
    case 'Fail': {
      const fail = new Fail(message, { cause });
      if (stack !== undefined) fail.stack = stack;
      return fail;
    }
    case 'Discard':
      return new Discard(message);
    default:
      return error;
  }
}
