import { toFailure } from '../../../protocols/errors.ts';
import type { Failure, Job } from '../../../protocols/job.ts';
import type { JobHash } from '../../../protocols/rq/message.ts';
import { timedOut } from '../../../protocols/rq/lifecycle.ts';
import type { Logger } from '../../log.ts';
import { pause } from '../../source.ts';

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

/** After the job was stopped (`stop-job`). */
export type RqStopped = { readonly event: 'stopped' };

/** A callback of this process, awaited. What it throws after a success fails the job, after a failure stands in for its error, after a stop is logged. */
export type RqCallback = (call: RqCallbackCall & (RqSuccess | RqFailure | RqStopped)) => unknown;

/** By the dotted names that jobs give them: `{ 'app.jobs.report': (call) => … }`. */
export type RqCallbacks = Readonly<Record<string, RqCallback>>;

/** Seconds. Source: rq/defaults.py CALLBACK_TIMEOUT. */
const CALLBACK_TIMEOUT = 60;

type Told = Omit<RqCallbackCall, 'signal'> & (RqSuccess | RqFailure | RqStopped);

/** What the callback threw, or that it took too long; undefined where it ended well. Never rejects. */
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
