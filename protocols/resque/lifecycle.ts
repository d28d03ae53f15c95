import {
  DIRTY_EXIT,
  encodeFailure,
  type FailureBackend,
  failureOf,
  type FailureRecord,
  saveFailure,
} from './failure.ts';
import type { Failure, Moment, Outcome, Transition } from '../job.ts';
import type { Command } from '../redis.ts';
import { DEFAULT_RETRY_DELAY_MS, retryAllowed, retryDelayMs, type RetryPolicy } from '../retry.ts';
import type { Keyspace } from './keys.ts';
import { again as activeJobAgain } from './active-job.ts';
import { encodeDelayed } from './message.ts';
import { putBehind } from './redis.ts';
import { countFailed } from './presence.ts';
import { countAttempt, retryKeys } from './retry.ts';
import { pushDelayed } from './schedule.ts';

/**
 * What an outcome of a job comes to. Pure.
 *
 *     outcome            the job                                  failures     stat:failed
 *     success            gone                                     –
 *     error, fail        gone                                     recorded     +1
 *     error, retriable   delayed, or in its queue again           put aside    +1       with a scheduler; else as error
 *     retry              delayed, or in its queue again           put aside    +1       with a scheduler; else recorded
 *     timeout            gone                                     recorded     +1
 *     cancelled          gone                                     DirtyExit
 *     discard, expired   gone                                     –                     as DontPerform
 *     postpone           delayed, or kept claimed                 –                     kept claimed without a scheduler
 *     unknown            at the back of its queue, or of another  –
 *     reject             in its queue again, or as error
 *     replace            gone                                     recorded     +1       there is no such thing in Resque
 *
 * Source: worker.rb perform, job.rb fail, failure.rb create; resque-retry plugins/retry.rb, failure/multiple_with_retry_suppression.rb.
 */
export function settle(
  run: ResqueRun,
  outcome: Outcome,
  policy: ResquePolicy,
  moment: Moment,
): Transition<ResqueWrites> {
  switch (outcome.kind) {
    case 'success':
      return { disposition: { state: 'succeeded' }, write: { ...NOTHING, commands: forgetAttempts(run, policy) } };
    case 'error':
      return outcome.retriable
        ? retry(run, outcome.error, undefined, policy, moment)
        : fail(run, outcome.error, policy, moment);
    case 'fail':
      return fail(run, outcome.error, policy, moment);
    case 'retry':
      return retry(run, outcome.error ?? askedFor(policy), outcome.delayMs, policy, moment);
    case 'timeout':
      return fail(run, timedOut(outcome.limitMs), policy, moment);
    case 'cancelled':
      return dirtyExit(run, outcome.reason, policy, moment);
    case 'discard':
    case 'expired':
      return { disposition: { state: 'discarded' }, write: { ...NOTHING, commands: forgetAttempts(run, policy) } };
    case 'postpone':
      return postpone(run, outcome.delayMs, policy, moment);
    case 'unknown':
      return requeue(run, policy, outcome.queue);
    case 'reject':
      return outcome.requeue ? requeue(run, policy) : fail(run, plain('Rejected', outcome.reason), policy, moment);
    case 'replace':
      return fail(
        run,
        plain('Replaced', 'Resque has no job that takes the place of another; enqueue it instead'),
        policy,
        moment,
      );
  }
}

/** A job that was run. */
export interface ResqueRun {
  readonly queue: string;
  /** Its payload, to the letter. */
  readonly payload: string;
  /** Number of this run, 1 for the first. */
  readonly attempt: number;
  /** The worker it ran in. */
  readonly worker: string;
  /** Name of its retry key, where attempts are counted. */
  readonly retryName: string | undefined;
  /** Active Job counts its runs itself, in its own data. */
  readonly activeJob?: boolean;
}

export interface ResquePolicy {
  readonly keys: Keyspace;
  readonly failures: readonly FailureBackend[];
  /** Undefined where no scheduler moves delayed jobs: then no job is retried. */
  readonly retry: Pick<RetryPolicy, 'max' | 'delayMs' | 'backoff'> | undefined;
}

/** What becomes of the job, beside the end of its claim and of `worker:<id>`. */
export interface ResqueWrites {
  readonly commands: readonly Command[];
  /** Whether the worker has processed it. A job that goes back has not been. */
  readonly processed: boolean;
  /** What a function as failure backend is told. */
  readonly failure: FailureRecord | undefined;
  /** Nothing is written: the process keeps the claim until then, and runs the job again. */
  readonly heldUntil?: Date;
}

/** The last moment there is. A second that is no number could not be written, and its job would never end. */
const LATEST = 8.64e15;

const NOTHING: ResqueWrites = { commands: [], processed: true, failure: undefined };

function fail(run: ResqueRun, failure: Failure, policy: ResquePolicy, moment: Moment): Transition<ResqueWrites> {
  const { keys } = policy;
  const record: FailureRecord = { ...recordOf(run, moment), ...failureOf(failure) };
  return {
    disposition: { state: 'failed' },
    write: {
      commands: [
        ...forgetAttempts(run, policy),
        ...saveFailure(keys, policy.failures, run.queue, encodeFailure(record)),
        ...(record.exception === DIRTY_EXIT ? [] : countFailed(keys, run.worker)),
      ],
      processed: true,
      failure: record,
    },
  };
}

/** worker.rb perform_with_fork: what becomes of a job whose child was killed. It is not counted as failed. */
function dirtyExit(run: ResqueRun, reason: string, policy: ResquePolicy, moment: Moment): Transition<ResqueWrites> {
  const record: FailureRecord = { ...recordOf(run, moment), exception: DIRTY_EXIT, error: reason, backtrace: [] };
  return {
    disposition: { state: 'cancelled' },
    write: {
      commands: [
        ...forgetAttempts(run, policy),
        ...saveFailure(policy.keys, policy.failures, run.queue, encodeFailure(record)),
      ],
      processed: true,
      failure: record,
    },
  };
}

function retry(
  run: ResqueRun,
  failure: Failure,
  delayMs: number | undefined,
  policy: ResquePolicy,
  moment: Moment,
): Transition<ResqueWrites> {
  const { keys, retry: wanted } = policy;
  if (wanted === undefined || (run.retryName === undefined && run.activeJob !== true))
    return fail(run, failure, policy, moment);
  if (!retryAllowed(wanted, run.attempt)) return fail(run, failure, policy, moment);
  const asked = Number(delayMs ?? retryDelayMs(wanted, run.attempt, moment.random) ?? DEFAULT_RETRY_DELAY_MS);
  // A function of the user's may return anything.
  const wait = Number.isNaN(asked) ? DEFAULT_RETRY_DELAY_MS : Math.max(0, asked);
  const at = new Date(Math.min(moment.now.getTime() + wait, LATEST));
  if (run.activeJob === true || run.retryName === undefined)
    return enqueuedAgain(run, failure, wait > 0 ? at : undefined, policy, moment);
  const { attempts, failure: suppressed } = retryKeys(keys, run.retryName);
  const record: FailureRecord = { ...recordOf(run, moment), ...failureOf(failure) };
  const again: readonly Command[] =
    wait === 0
      ? putBehind(keys, run.queue, run.payload)
      : [
          ...pushDelayed(keys, encodeDelayed(run.payload, run.queue), at),
          [
            'SETEX',
            suppressed,
            Math.max(1, Math.ceil((at.getTime() - moment.now.getTime()) / 500)),
            encodeFailure(record, ''),
          ],
        ];
  return {
    disposition: { state: 'retrying', at },
    write: {
      commands: [countAttempt(attempts, run.attempt), ...again, ...countFailed(keys, run.worker)],
      processed: true,
      failure: undefined,
    },
  };
}

/** Active Job's `retry_job`: another payload. To Resque this run has succeeded, as in Ruby. */
function enqueuedAgain(
  run: ResqueRun,
  error: Failure,
  at: Date | undefined,
  { keys }: ResquePolicy,
  { now }: Moment,
): Transition<ResqueWrites> {
  const { queue = run.queue, payload } = activeJobAgain(run.payload, { now, at, error });
  return {
    disposition: { state: 'retrying', at: at ?? now },
    write: {
      commands:
        at === undefined ? putBehind(keys, queue, payload) : pushDelayed(keys, encodeDelayed(payload, queue), at),
      processed: true,
      failure: undefined,
    },
  };
}

/** The same job at a later time: a scheduler of either language moves it. Without one, the process that has claimed it keeps it. */
function postpone(
  { queue, payload }: ResqueRun,
  delayMs: number,
  { keys, retry: wanted }: ResquePolicy,
  { now }: Moment,
): Transition<ResqueWrites> {
  const at = new Date(Math.min(now.getTime() + delayMs, LATEST));
  const write = { processed: false, failure: undefined };
  if (delayMs <= 0)
    return { disposition: { state: 'postponed', at }, write: { ...write, commands: putBehind(keys, queue, payload) } };
  if (wanted === undefined)
    return { disposition: { state: 'postponed', at }, write: { ...write, commands: [], heldUntil: at } };
  const commands = pushDelayed(keys, encodeDelayed(payload, queue), at);
  return { disposition: { state: 'postponed', at }, write: { ...write, commands } };
}

/** To the back of its queue, or of another, as if it had not been run. */
function requeue(run: ResqueRun, { keys }: ResquePolicy, queue: string = run.queue): Transition<ResqueWrites> {
  return {
    disposition: { state: 'requeued' },
    write: {
      commands: putBehind(keys, queue, run.payload),
      processed: false,
      failure: undefined,
    },
  };
}

/** resque-retry clean_retry_key, and of its backend clear_retry_key: the job is over, whatever came of it. */
function forgetAttempts(run: ResqueRun, { keys }: ResquePolicy): readonly Command[] {
  // Before a first run there is nothing to forget.
  if (run.retryName === undefined || run.attempt === 1) return [];
  const { attempts, failure } = retryKeys(keys, run.retryName);
  return [
    ['DEL', attempts],
    ['DEL', failure],
  ];
}

function recordOf(
  { payload, worker, queue }: ResqueRun,
  { now }: Moment,
): Pick<FailureRecord, 'failedAt' | 'payload' | 'worker' | 'queue'> {
  return { failedAt: now, payload, worker, queue };
}

function askedFor({ retry: wanted }: ResquePolicy): Failure {
  const why =
    wanted === undefined ? ', but no scheduler is configured. Pass scheduler: true, or throw an Error instead' : '';
  return plain('Retry', `the handler asked to be run again${why}`);
}

function plain(type: string, message: string): Failure {
  return { type, message, traceback: '' };
}

function timedOut(limitMs: number): Failure {
  return plain('JobTimeoutError', `hard time limit (${limitMs / 1000}s) exceeded`);
}
