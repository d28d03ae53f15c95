/**
 * Signals that a handler may throw on purpose. Any other thrown value is an error, and the system's own policy decides. Each signal is recognised by
 * a mark, not only by its class: a task file may have loaded another copy of this package.
 */
function marked(thrown: unknown, name: string): boolean {
  return typeof thrown === 'object' && thrown !== null && 'jobglotSignal' in thrown && thrown.jobglotSignal === name;
}

/**
 * Run this job again, after `delayMs` (the policy's delay when left out). `cause` is recorded as the reason. Throws RangeError unless `delayMs` is a
 * number of milliseconds from now.
 */
export class Retry extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Retry');
  }
  override readonly name: string = 'Retry';
  readonly jobglotSignal: string = 'Retry';
  readonly delayMs: number | undefined;
  constructor(options: { readonly delayMs?: number; readonly cause?: unknown; readonly message?: string } = {}) {
    super(options.message ?? 'the handler asked to be run again', { cause: options.cause });
    if (options.delayMs !== undefined && !(options.delayMs >= 0 && options.delayMs < 8.64e15)) {
      throw new RangeError(`Retry: delayMs must be milliseconds from now, not ${options.delayMs}`);
    }
    this.delayMs = options.delayMs;
  }
}

/** Never retry this job. The error is recorded as the job's failure. */
export class Fail extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Fail');
  }
  override readonly name: string = 'Fail';
  readonly jobglotSignal: string = 'Fail';
  constructor(reason: string | Error, options: { readonly cause?: unknown } = {}) {
    super(typeof reason === 'string' ? reason : reason.message, {
      cause: typeof reason === 'string' ? options.cause : reason,
    });
  }
}

/** Drop this job: no result, no failure, no retry. Celery: a chord that waits for it fails, instead of waiting for ever. */
export class Discard extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Discard');
  }
  override readonly name: string = 'Discard';
  readonly jobglotSignal: string = 'Discard';
  constructor(reason = 'discarded by its handler') {
    super(reason);
  }
}

/**
 * Do not run this job here. It goes back to its queue (`requeue: true`), or it is refused as the system refuses a message (Celery: rejected without
 * requeue; a dead-letter exchange gets it where there is one). No result is stored and no attempt is counted.
 */
export class Reject extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Reject');
  }
  override readonly name: string = 'Reject';
  readonly jobglotSignal: string = 'Reject';
  readonly requeue: boolean;
  constructor(reason = 'rejected by its handler', options: { readonly requeue?: boolean } = {}) {
    super(reason);
    this.requeue = options.requeue ?? false;
  }
}

/**
 * Let another job replace this job. The other job ends under this job's id, and the jobs that were to follow this job follow it. `by` is in the
 * system's own terms; for Celery a signature, `{ task: 'shop.charge', args: [7] }`, or a chain, group or chord. In a system without this feature the
 * job fails.
 */
export class Replace extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Replace');
  }
  override readonly name: string = 'Replace';
  readonly jobglotSignal: string = 'Replace';
  readonly by: unknown;
  constructor(by: unknown) {
    super('replaced by another job');
    this.by = by;
  }
}

/**
 * Run this job later, after `delayMs`, because it should not run now. No attempt is counted, no error is recorded, and the system's own tools show an
 * ordinary scheduled job. A handler or a middleware throws it. Throws RangeError unless `delayMs` is a number of milliseconds from now.
 */
export class Postpone extends Error {
  static override [Symbol.hasInstance](thrown: unknown): boolean {
    return marked(thrown, 'Postpone');
  }
  override readonly name: string = 'Postpone';
  readonly jobglotSignal: string = 'Postpone';
  readonly delayMs: number;
  constructor(options: { readonly delayMs: number; readonly reason?: string }) {
    super(options.reason ?? 'postponed by its handler');
    if (!(options.delayMs >= 0 && options.delayMs < 8.64e15))
      throw new RangeError(`Postpone: delayMs must be milliseconds from now, not ${options.delayMs}`);
    this.delayMs = options.delayMs;
  }
}
