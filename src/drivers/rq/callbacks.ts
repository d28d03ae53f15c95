import { toFailure } from '../../../protocols/errors.ts';
import type { Failure, Job } from '../../../protocols/job.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import { timedOut } from '../../../protocols/rq/lifecycle.ts';
import type { Logger } from '../../log.ts';
import { pause } from '../../source.ts';

/** The data that every callback gets. */
export interface RqCallbackCall {
  readonly job: Job;
  /** The job as RQ stores it. */
  readonly hash: JobHash;
  readonly log: Logger;
  /** Aborts at the callback's time limit. */
  readonly signal: AbortSignal;
}

/** After a success: `value` is the handler's return value. If the callback throws, the job has failed. */
export type RqSuccess = { readonly event: 'success'; readonly value: unknown };
/** After each failed run, including one that will be retried. */
export type RqFailure = { readonly event: 'failure'; readonly error: Failure };

/** After the job was stopped (`stop-job`). */
export type RqStopped = { readonly event: 'stopped' };

/**
 * A callback in this process, awaited. If it throws after a success, the job fails. If it throws after a failure, its error replaces the job's error.
 * If it throws after a stop, the error is logged.
 */
export type RqCallback = (call: RqCallbackCall & (RqSuccess | RqFailure | RqStopped)) => unknown;

/** Callbacks by the dotted names that jobs give them: `{ 'app.jobs.report': (call) => … }`. */
export type RqCallbacks = Readonly<Record<string, RqCallback>>;

/** Seconds. Source: rq/defaults.py CALLBACK_TIMEOUT. */
const CALLBACK_TIMEOUT = 60;

type Told = Omit<RqCallbackCall, 'signal'> & (RqSuccess | RqFailure | RqStopped);

/** Returns the error that the callback threw, or a timeout error; undefined if it ended well. Never rejects. */
export async function callBack(
  callback: RqCallback,
  timeout: number | undefined,
  told: Told,
): Promise<Failure | undefined> {
  const seconds = timeout ?? CALLBACK_TIMEOUT;
  const limit = new AbortController();
  const ended = new AbortController();
  const late = pause(seconds * 1000, ended.signal).then((): Failure => {
    limit.abort();
    return timedOut(seconds * 1000);
  });
  const done = (async (): Promise<Failure | undefined> => {
    try {
      await callback({ ...told, signal: limit.signal });
      return undefined;
    } catch (error) {
      return toFailure(error);
    }
  })();
  try {
    return await Promise.race([done, late]);
  } finally {
    ended.abort();
  }
}
