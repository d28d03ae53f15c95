import { toFailure } from '../../protocols/errors.ts';
import type { Failure, Job, Outcome } from '../../protocols/job.ts';
import { ConfigError, JobTimeoutError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Discard, Fail, Postpone, Reject, Replace, Retry } from '../signals.ts';
import { type Delivery, pause } from '../source.ts';
import type { Handler, Registration, TaskContext } from '../task.ts';
import { backoff } from '../backoff.ts';

/** Why a handler's signal aborts when the worker stops: give the job back, count no attempt. */
export class ShutdownError extends Error {
  override readonly name: string = 'ShutdownError';
  constructor() {
    super('the worker is stopping; the job is given back');
  }
}

/** Why a handler's signal aborts when its job is cancelled from outside. */
export class CancelledError extends Error {
  override readonly name: string = 'CancelledError';
}

/** How a run ended: an outcome to settle, or undefined where the job is to be given back. */
export type Ended = Outcome | undefined;

/**
 * One run of one delivery. It is the handler's context, too. The signal is made when it is first read, because most handlers never read it.
 */
export class Run implements TaskContext {
  readonly delivery: Delivery;
  readonly system: string;
  readonly log: Logger;
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #end: (ended: Ended) => void = () => {};
  readonly #ended: Promise<Ended> = new Promise((resolve) => (this.#end = resolve));

  constructor(delivery: Delivery, system: string, log: Logger) {
    this.delivery = delivery;
    this.system = system;
    this.log = log;
  }

  get job(): Job {
    return this.delivery.job;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** A getter, so that a handler may take it out of its context: `(job, { update }) => …`. */
  get update(): TaskContext['update'] {
    return async (state, meta) => {
      if (this.delivery.update === undefined)
        throw new ConfigError(`${this.system}: this system keeps no states of a job`);
      await this.delivery.update(state, meta);
    };
  }

  /** Ask the handler to end. Of several reasons the first counts. */
  abort(reason: Error): void {
    this.#reason ??= reason;
    this.#controller?.abort(this.#reason);
  }

  /** End the run now, even if the handler goes on: with an outcome to settle, or undefined to give the job back. */
  end(ended: Ended): void {
    this.#end(ended);
  }

  /** Begin, run the handler, and resolve with the end of the run. A start that cannot be written is tried again; `failed` gets each error. */
  async execute(
    registration: Registration,
    handler: Handler,
    failed: (error: unknown) => void = () => {},
  ): Promise<Ended> {
    for (let attempt = 0; ; attempt++) {
      try {
        const begun = this.delivery.begin();
        const known = begun === undefined ? undefined : await begun;
        if (known !== undefined) return known;
        break;
      } catch (error) {
        failed(error);
        if (this.#reason === undefined) await pause(backoff(attempt, Math.random()), this.signal);
        // No handler has run, so there is no other outcome.
        if (this.#reason instanceof CancelledError) return { kind: 'cancelled', reason: this.#reason.message };
        if (this.#reason !== undefined) return undefined;
      }
    }
    const { timeoutMs, softTimeoutMs } = this.job;
    // #call never rejects. Of the handler's end and a forced end, the first counts.
    void this.#call(registration, handler).then(this.#end);
    const outcome = this.#ended;
    if (timeoutMs === undefined && softTimeoutMs === undefined) return outcome;
    const timers: NodeJS.Timeout[] = [];
    if (softTimeoutMs !== undefined)
      timers.push(later(softTimeoutMs, () => this.abort(new JobTimeoutError('soft', softTimeoutMs))));
    if (timeoutMs !== undefined) {
      timers.push(
        later(timeoutMs, () => {
          this.abort(new JobTimeoutError('hard', timeoutMs));
          this.end({ kind: 'timeout', limitMs: timeoutMs });
        }),
      );
    }
    try {
      return await outcome;
    } finally {
      for (const timer of timers) clearTimeout(timer);
    }
  }

  async #call(registration: Registration, handler: Handler): Promise<Ended> {
    try {
      const value = await handler(this.job, this);
      return this.#reason instanceof CancelledError
        ? { kind: 'cancelled', reason: this.#reason.message }
        : { kind: 'success', value };
    } catch (error) {
      try {
        return this.#thrown(error, registration);
      } catch (thrown) {
        // `retry.on` threw, or the thrown value cannot be read at all. The job fails with that error, and its slot is free.
        return { kind: 'error', error: failureOf(thrown), retriable: false };
      }
    }
  }

  #thrown(error: unknown, registration: Registration): Ended {
    if (this.#reason instanceof CancelledError) return { kind: 'cancelled', reason: this.#reason.message };
    if (
      this.#reason instanceof ShutdownError &&
      !(
        error instanceof Fail ||
        error instanceof Discard ||
        error instanceof Postpone ||
        error instanceof Reject ||
        error instanceof Replace ||
        error instanceof Retry
      )
    ) {
      return undefined;
    }
    if (error instanceof Retry) {
      return {
        kind: 'retry',
        delayMs: error.delayMs,
        error: error.cause === undefined ? undefined : toFailure(error.cause),
      };
    }
    if (error instanceof Fail)
      return { kind: 'fail', error: toFailure(error.cause instanceof Error ? error.cause : error) };
    if (error instanceof Discard) return { kind: 'discard', reason: error.message };
    if (error instanceof Replace) return { kind: 'replace', by: error.by };
    if (error instanceof Postpone) return { kind: 'postpone', delayMs: error.delayMs, reason: error.message };
    if (error instanceof Reject) return { kind: 'reject', reason: error.message, requeue: error.requeue };
    const { retry } = registration.options;
    return {
      kind: 'error',
      error: toFailure(this.#softLimit(error)),
      retriable: retry !== undefined && (retry.on?.(error) ?? true),
    };
  }

  /** A handler that rejects because its soft limit aborted the signal has ended by that limit. Libraries word such an abort differently. */
  #softLimit(error: unknown): unknown {
    const reason = this.#reason;
    if (!(reason instanceof JobTimeoutError)) return error;
    return error === reason || (error instanceof Error && (error.name === 'AbortError' || error.cause === reason))
      ? reason
      : error;
  }
}

function failureOf(thrown: unknown): Failure {
  try {
    return toFailure(thrown);
  } catch {
    const message = 'the handler threw something that cannot be described';
    return { type: 'Error', message, traceback: `Error: ${message}` };
  }
}

const LONGEST = 2 ** 31 - 1;

/** A timer that may be longer than the 24.8 days setTimeout can count: longer ones never fire within a run. */
function later(ms: number, action: () => void): NodeJS.Timeout {
  return setTimeout(
    () => {
      if (ms <= LONGEST) action();
    },
    Math.min(ms, LONGEST),
  );
}
