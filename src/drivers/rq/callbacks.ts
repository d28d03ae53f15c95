import type { Failure, Job } from '../../../protocols/job.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import type { Logger } from '../../log.ts';

/** What a callback is told. */
export interface RqCallbackCall {
  readonly job: Job;
  /** The job as RQ keeps it. */
  readonly hash: JobHash;
  readonly log: Logger;
  /** Aborts at the callback's time limit. */
  readonly signal: AbortSignal;
}

/** After a success: `value` is what the handler returned. When it throws, the job has failed. */
export type RqSuccess = { readonly event: 'success'; readonly value: unknown };
/** After each failed run, also one that will be tried again. */
export type RqFailure = { readonly event: 'failure'; readonly error: Failure };
export type RqStopped = { readonly event: 'stopped' };

export type RqCallback = (call: RqCallbackCall & (RqSuccess | RqFailure | RqStopped)) => unknown;

/** By the dotted names that jobs give them: `{ 'app.jobs.report': (call) => … }`. */
export type RqCallbacks = Readonly<Record<string, RqCallback>>;
