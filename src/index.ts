import './systems.ts';

export type { Disposition, Failure, Job, Outcome } from '../protocols/job.ts';
export type { RetryPolicy } from '../protocols/retry.ts';
export {
  type Call,
  type CallArguments,
  type Client,
  type ClientEvents,
  type ClientMiddleware,
  type Envelope,
  type NoKeywords,
  NotEnqueuedError,
} from './client.ts';
export type { Executor } from './executor.ts';
export { type Config, defineConfig } from './config.ts';
export {
  CanceledJobError,
  ChildDiedError,
  ConfigError,
  ConnectionError,
  DuplicateJobError,
  InvalidJobOperationError,
  JobglotError,
  JobTimeoutError,
  NoSuchJobError,
  RemoteError,
  ResultTimeoutError,
  UnknownTaskError,
  UnroutableError,
  WireError,
} from './errors.ts';
export type * from './inspector.ts';
export { createLogger, type Logger, type LoggerOptions, type LogLevel, silent } from './log.ts';
export { Discard, Fail, Postpone, Reject, Replace, Retry } from './signals.ts';
export type { Agent, Delivery, Host, PoisonReport, Source, UnknownTaskPolicy } from './source.ts';
export {
  defineTask,
  type Handler,
  type Registration,
  type Registry,
  type SystemName,
  type Systems,
  type Task,
  type TaskContext,
  type TaskOptions,
  Tasks,
} from './task.ts';
export type { CeleryTaskOptions, SidekiqTaskOptions } from './systems.ts';
export { childProcess, type ChildProcessExecutor, type ChildProcessOptions } from './worker/child-process.ts';
export type { WorkerEvents, WorkerState } from './worker/events.ts';
export type { Middleware } from './worker/middleware.ts';
export { CancelledError, ShutdownError } from './worker/runner.ts';
export { Worker, type WorkerOptions } from './worker/worker.ts';
