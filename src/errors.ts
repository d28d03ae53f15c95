import { JobglotError, WireError } from '../protocols/errors.ts';

export { JobglotError, WireError };

/** An option, a flag or a config file is wrong. Thrown before anything is opened. */
export class ConfigError extends JobglotError {
  override readonly name: string = 'ConfigError';
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('config', message, options);
  }
}

/** A server cannot be reached, or the connection was lost during an operation. */
export class ConnectionError extends JobglotError {
  override readonly name: string = 'ConnectionError';
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('connection', message, options);
  }
}

/** The broker has no queue for a message and returned it: the message was not sent. */
export class UnroutableError extends JobglotError {
  override readonly name: string = 'UnroutableError';
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('unroutable', message, options);
  }
}

/** A message names a task that has no handler here. */
export class UnknownTaskError extends JobglotError {
  override readonly name: string = 'UnknownTaskError';
  /** The task's name in the system. */
  readonly task: string;
  constructor(system: string, task: string) {
    super(
      'unknown-task',
      `${system}: no handler for the task '${task}'. Register it with tasks.handle(defineTask('${task}'), handler).`,
    );
    this.task = task;
  }
}

/** A time limit of a job passed. `soft` aborts the handler's signal with it; `hard` settles the job without the handler. */
export class JobTimeoutError extends JobglotError {
  override readonly name: string = 'JobTimeoutError';
  readonly limitMs: number;
  readonly kind: 'soft' | 'hard';
  constructor(kind: 'soft' | 'hard', limitMs: number) {
    super('timeout', `${kind} time limit (${limitMs / 1000}s) exceeded`);
    this.kind = kind;
    this.limitMs = limitMs;
  }
}

/** The process of a job ended before the job did: it was killed, or the handler ended it. */
export class ChildDiedError extends JobglotError {
  override readonly name: string = 'ChildDiedError';
  readonly exitCode: number | null;
  readonly signal: string | null;
  constructor(message: string, exitCode: number | null, signal: string | null) {
    super('child-died', message);
    this.exitCode = exitCode;
    this.signal = signal;
  }
}

/** There was no result within `timeoutMs`. The job itself is not changed. */
export class ResultTimeoutError extends JobglotError {
  override readonly name: string = 'ResultTimeoutError';
  constructor(id: string, timeoutMs: number) {
    super(
      'result-timeout',
      `no result of ${id} within ${timeoutMs} ms; it may still be running, or waiting for a worker`,
    );
  }
}

/** The job does not exist: it was never enqueued, was deleted, or has expired. */
export class NoSuchJobError extends JobglotError {
  override readonly name: string = 'NoSuchJobError';
  constructor(system: string, id: string) {
    super(
      'no-such-job',
      `${system}: there is no job ${id}: it was never there, was deleted, or is not kept any longer`,
    );
  }
}

/** A job with this id exists already, and the new job was to be unique. */
export class DuplicateJobError extends JobglotError {
  override readonly name: string = 'DuplicateJobError';
  constructor(system: string, id: string) {
    super(
      'duplicate-job',
      `${system}: a job ${id} is there already, and this one was to be unique; nothing was enqueued`,
    );
  }
}

/** The state of a job does not permit the operation. */
export class InvalidJobOperationError extends JobglotError {
  override readonly name: string = 'InvalidJobOperationError';
  constructor(message: string) {
    super('invalid-operation', message);
  }
}

/** There will be no result, because no worker will run the job. */
export class CanceledJobError extends JobglotError {
  override readonly name: string = 'CanceledJobError';
  constructor(system: string, id: string) {
    super('canceled', `${system}: the job ${id} was canceled`);
  }
}

/** A job failed in a worker of another language or process. Carries that worker's data about the error. */
export class RemoteError extends JobglotError {
  override readonly name: string = 'RemoteError';
  /** The error's class there: `ValueError`. */
  readonly type: string;
  /** Its module: `builtins`. */
  readonly module: string | undefined;
  /** Its constructor arguments, as the wire has them. */
  readonly args: readonly unknown[];
  /** The traceback text of the worker. */
  readonly traceback: string | undefined;
  constructor(failure: {
    readonly type: string;
    readonly module?: string | undefined;
    readonly args: readonly unknown[];
    readonly traceback?: string | undefined;
  }) {
    super(
      'remote',
      `${failure.type}: ${failure.args.map((arg) => (typeof arg === 'string' ? arg : JSON.stringify(arg))).join(', ')}`,
    );
    this.type = failure.type;
    this.module = failure.module;
    this.args = failure.args;
    this.traceback = failure.traceback;
  }
}
