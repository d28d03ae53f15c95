import { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import { PyGlobal, PyObject, Tuple } from '../formats/pickle/index.ts';
import { pythonTraceback } from '../formats/python-traceback.ts';
import type { Failure, Outcome, Transition } from '../job.ts';
import { attemptOf, type JobHash } from './message.ts';
import type { Settlement } from './redis.ts';
import { type ResultEntry, type ResultType, writeResult } from './result.ts';
import { deflate, dumps, type SerializerName } from './serializers.ts';
import { dateText, dueScore, epochSeconds } from './times.ts';

/** One run of a job: the claimed job and its worker. */
export interface Execution {
  readonly job: JobHash;
  /** Undefined for a run of RQ 1. */
  readonly execution: string | undefined;
  /** The queue the job was found in. */
  readonly queue: string;
  readonly worker: string;
  /** Undefined if it is not known, for a run of another worker. */
  readonly startedAt: Date | undefined;
}

/** The worker's settings, used where the job has none of its own. */
export interface RqPolicy {
  /** The serializer of the job. The result is written with the serializer of the call. */
  readonly serializer: SerializerName;
  /** Seconds; -1 keeps it for ever, 0 does not keep it. */
  readonly resultTtl: number;
  readonly failureTtl: number;
  /** Write results into the job hash too, for readers without the results stream: RQ before 1.12. @default false */
  readonly resultsInHash?: boolean;
  /** The task's own policy, for a job without `retry`. `delayMs` returns the delay before a retry; the first retry has the number 1. */
  readonly retry?: { readonly max: number | null; readonly delayMs: (retry: number) => number };
}

/** The disposition of a job, and the settlement to write for it. */
export interface RqTransition extends Transition<Settlement> {
  /** Why another value than the returned one is stored. */
  readonly unwritable?: WireError;
}

/** Seconds a finished job without `result_ttl` is kept. Source: rq/defaults.py. */
export const DEFAULT_RESULT_TTL = 500;

/** Seconds a failed job without `failure_ttl` is kept: a year. Source: rq/defaults.py. */
export const DEFAULT_FAILURE_TTL = 31_536_000;

/** The failure text of a stopped job. */
export const STOPPED = 'Job stopped by user, work-horse terminated.';

/**
 * Maps the outcome of one run to RQ's terms. Mirrors rq/worker/base.py handle_job_success, handle_job_failure, handle_job_retry.
 *
 * | outcome | status | registry | result | then |
 * |---|---|---|---|---|
 * | success | finished | finished | 1, with the value | releases dependents; queued again if it repeats |
 * | error, timeout with retries left | queued or scheduled | – | – | |
 * | error, timeout, fail, replace, reject | failed | failed | 2, with the traceback | releases dependents that allow failures |
 * | retry | queued or scheduled | – | 4, with a Retry | |
 * | retry beyond the limit | failed | failed | 5, with that Retry | releases dependents that allow failures |
 * | discard | the job is deleted | – | – | releases dependents |
 * | reject with requeue | queued | – | – | at the tail, with its fields as before the run |
 * | postpone | scheduled | scheduled | – | with its fields as before the run; due at a whole second, never early |
 * | unknown | queued | – | – | at the tail of its queue or of another queue, with its fields as before the run |
 * | cancelled | stopped | failed | 2 | |
 */
export function settle(run: Execution, outcome: Outcome, policy: RqPolicy, now: Date): RqTransition {
  switch (outcome.kind) {
    case 'success':
      return succeeded(run, outcome.value, policy, now);
    case 'error':
      return failedOrAgain(run, outcome.error, policy, now, outcome.retriable);
    case 'timeout':
      return failedOrAgain(run, timedOut(outcome.limitMs), policy, now, true);
    case 'fail':
      return failed(run, excString(outcome.error), policy, now);
    case 'retry':
      return returnedRetry(run, outcome.delayMs, outcome.error, policy, now);
    case 'discard':
      return {
        disposition: { state: 'discarded' },
        write: { ...ending(run, now), fields: [], ttl: 0, ended: 'finished', counted: 'successful' },
      };
    case 'reject':
      return outcome.requeue
        ? { disposition: { state: 'requeued' }, write: giveBack(run, now, 'tail') }
        : failed(run, `Job rejected by its handler: ${outcome.reason}`, policy, now);
    case 'postpone':
      return postponed(run, outcome.delayMs, now);
    case 'unknown':
      return { disposition: { state: 'requeued' }, write: giveBack(run, now, 'tail', outcome.queue) };
    case 'replace':
      return failed(
        run,
        'The handler asked for another job in place of this one, which RQ does not have.',
        policy,
        now,
      );
    case 'expired':
      return failed(run, 'The time of this job had passed before it was run.', policy, now);
    case 'cancelled': {
      const transition = failed(run, STOPPED, policy, now, 'stopped');
      return { ...transition, disposition: { state: 'cancelled' } };
    }
  }
}

/** Puts the job back into a queue, as it was before the run. No attempt is counted. */
export function giveBack(run: Execution, now: Date, where: 'head' | 'tail', queue: string = run.queue): Settlement {
  return {
    ...ending(run, now),
    fields: [['status', 'queued'], ...untouched(run.job, queue)],
    ttl: remaining(run.job, now),
    next: { push: where, queue },
    seconds: 0,
  };
}

/**
 * Puts the job into the schedule, as it was before the run. A scheduler moves it to its queue when it is due, like a job of `enqueue_in`. Its `ttl`
 * begins again then, because RQ lets a job expire in its queue and not in the schedule. Source: rq/queue.py schedule_job, rq/scheduler.py (2.10).
 */
function postponed(run: Execution, delayMs: number, now: Date): Transition<Settlement> {
  const at = new Date(now.getTime() + delayMs);
  const { queue } = run;
  return {
    disposition: { state: 'postponed', at },
    write:
      delayMs <= 0
        ? giveBack(run, now, 'tail')
        : {
            ...ending(run, now),
            fields: [['status', 'scheduled'], ...untouched(run.job, queue)],
            ttl: undefined,
            next: { at: dueScore(at), queue },
            seconds: 0,
          },
  };
}

/** The fields that a claim writes, with their values before the claim. */
function untouched(job: JobHash, queue: string): [string, string][] {
  return [
    ['origin', queue],
    ['started_at', job.startedAt === undefined ? '' : dateText(job.startedAt)],
    ['last_heartbeat', job.lastHeartbeat === undefined ? '' : dateText(job.lastHeartbeat)],
    ['worker_name', job.workerName ?? ''],
  ];
}

/**
 * Ends a run whose worker is gone. It fails the job, or runs it again if the job has retries left. Source: rq/registry.py
 * StartedJobRegistry.cleanup.
 */
export function abandoned(run: Execution, policy: RqPolicy, now: Date, before: number): Transition<Settlement> {
  const at = `${dateText(now).slice(0, -1).replace('T', ' ')}+00:00`;
  const why = `Moved to FailedJobRegistry, due to AbandonedJobError, at ${at}`;
  const { job } = run;
  const transition = (job.retriesLeft ?? 0) > 0 ? again(run, job, now) : failed(run, why, policy, now);
  const { counted: _, ...write } = transition.write;
  return { ...transition, write: { ...write, abandonedBefore: before } };
}

/** The job without the fields that the claim overwrote. Their old values are unknown, because this process did not claim the run. */
export function unstarted(job: JobHash): JobHash {
  const { startedAt: _, workerName: __, lastHeartbeat: ___, ...rest } = job;
  return rest;
}

/** For an id that names no job. It only puts the id into quarantine. */
export function quarantined(run: Execution, reason: string, now: Date): Settlement {
  return { ...ending(run, now), fields: [], ttl: undefined, aside: reason, seconds: 0 };
}

function ending(run: Execution, now: Date): Pick<Settlement, 'id' | 'execution' | 'queue' | 'seconds'> {
  const { job, execution, queue, startedAt } = run;
  const seconds = startedAt === undefined ? 0 : Math.max(0, (now.getTime() - startedAt.getTime()) / 1000);
  return { id: job.id, execution, queue, seconds };
}

function succeeded(run: Execution, value: unknown, policy: RqPolicy, now: Date): RqTransition {
  const { job } = run;
  const { bytes, unwritable } = returned(value, policy.serializer);
  const ttl = seconds(job.resultTtl ?? policy.resultTtl);
  const repeat = repeated(run, now);
  const fields = [
    ...ended(now),
    ['status', 'finished'] as const,
    ...inHash(policy, { result: bytes }),
    ...(repeat?.fields ?? []),
  ];
  const write: Settlement = {
    ...ending(run, now),
    fields,
    ttl: repeat === undefined ? ttl : job.ttl,
    ...(ttl === 0
      ? {}
      : {
          result: { entry: entry(run, now, 'successful', bytes === undefined ? {} : { returnValue: bytes }), ttl },
          registry: { name: 'finished', score: ttl < 0 ? '+inf' : epochSeconds(now) + ttl },
        }),
    ...(repeat === undefined ? {} : { next: repeat.next }),
    ended: 'finished',
    counted: 'successful',
  };
  return { disposition: { state: 'succeeded' }, write, ...(unwritable === undefined ? {} : { unwritable }) };
}

/** The index of the interval counts from the end of the list. Source: rq/repeat.py schedule, get_interval. */
function repeated(
  run: Execution,
  now: Date,
): { readonly fields: [string, string][]; readonly next: NonNullable<Settlement['next']> } | undefined {
  const left = run.job.repeatsLeft ?? 0;
  if (left <= 0) return undefined;
  const intervals = run.job.repeatIntervals ?? [];
  const interval = intervals[Math.min(left - 1, intervals.length - 1)] ?? 0;
  const next = nextRun(run, interval * 1000, now, 'tail');
  return { fields: [['repeats_left', String(left - 1)], ...next.fields], next: next.next };
}

/** The job's own `retry` comes first. The task's policy applies to jobs without a `retry`. */
function failedOrAgain(
  run: Execution,
  error: Failure,
  policy: RqPolicy,
  now: Date,
  retriable: boolean,
): Transition<Settlement> {
  const { job } = run;
  if ((job.retriesLeft ?? 0) > 0) return again(run, job, now);
  const { retry } = policy;
  const retries = attemptOf(job) - 1;
  if (job.retriesLeft === undefined && retriable && retry !== undefined && retries < (retry.max ?? Infinity))
    return retried(run, retry.delayMs(retries + 1), now, { attempts: (job.attempts ?? 0) + 1 });
  return failed(run, excString(error), policy, now);
}

/** The index of the interval is the number of retries left, counted from the end of the list. Source: rq/job.py get_retry_interval. */
function again(run: Execution, job: JobHash, now: Date): Transition<Settlement> {
  const left = job.retriesLeft as number;
  const intervals = job.retryIntervals ?? [];
  const interval = intervals[Math.max(intervals.length - left, 0)] ?? 0;
  const head = job.enqueueAtFrontOnRetry === true;
  return retried(run, interval * 1000, now, { attempts: (job.attempts ?? 0) + 1, left: left - 1, head });
}

function retried(
  run: Execution,
  delayMs: number,
  now: Date,
  with_: { readonly attempts: number; readonly left?: number; readonly head?: boolean },
): Transition<Settlement> {
  const next = nextRun(run, delayMs, now, with_.head === true ? 'head' : 'tail');
  const fields: [string, string][] = [...ended(now), ...next.fields];
  if (with_.left !== undefined) fields.push(['retries_left', String(with_.left)]);
  fields.push(['jobglot_attempts', String(with_.attempts)]);
  return {
    disposition: { state: 'retrying', at: new Date(now.getTime() + delayMs) },
    write: { ...ending(run, now), fields, ttl: run.job.ttl, next: next.next, counted: 'failed' },
  };
}

/** How often a handler may throw `Retry` if its task has no `retry`. */
const DEFAULT_MAX_RETRIES = 3;

/**
 * Treats the job like a Python job that returns `Retry(max, interval)`. `max` is the task's. Source: rq/worker/base.py handle_job_retry, rq/job.py
 * _handle_retry_result.
 */
function returnedRetry(
  run: Execution,
  asked: number | undefined,
  error: Failure | undefined,
  policy: RqPolicy,
  now: Date,
): Transition<Settlement> {
  const { job } = run;
  const before = job.numberOfRetries ?? 0;
  const count = before + 1;
  const max = policy.retry === undefined ? DEFAULT_MAX_RETRIES : policy.retry.max;
  const delayMs = asked ?? policy.retry?.delayMs(count) ?? 0;
  // Python's Retry needs a limit. If the task has none, the limit is the current count, so it grows each time.
  const value = retryObject(max ?? count, Math.ceil(delayMs / 1000), policy.serializer);
  const what = {
    ...(value === undefined ? {} : { returnValue: value }),
    ...(error === undefined ? {} : { excString: excString(error) }),
  };
  if (max !== null && before >= max) {
    const { write, disposition } = failed(run, what.excString ?? '', policy, now);
    const result = {
      entry: entry(run, now, 'max_retries_exceeded', what),
      ttl: seconds(job.failureTtl ?? policy.failureTtl),
    };
    return { disposition, write: { ...write, result } };
  }
  const next = nextRun(run, delayMs, now, 'tail');
  const fields: [string, string][] = [...ended(now), ...next.fields, ['number_of_retries', String(count)]];
  return {
    disposition: { state: 'retrying', at: new Date(now.getTime() + delayMs) },
    write: {
      ...ending(run, now),
      fields,
      ttl: job.ttl,
      // Python keeps this stream for ever if the job has no `failure_ttl`.
      result: { entry: entry(run, now, 'retried', what), ttl: seconds(job.failureTtl ?? policy.failureTtl) },
      next: next.next,
      counted: 'failed',
    },
  };
}

/** The fields of the hash that every ended run sets. */
function ended(now: Date): [string, string][] {
  const date = dateText(now);
  return [
    ['last_heartbeat', date],
    ['ended_at', date],
  ];
}

/**
 * The result of the last run as fields of the hash. RQ before 1.12 reads it there. In newer RQ, `job.result` reads it there if the stream has no
 * success. The fields of an earlier run are removed. Source: rq/job.py to_dict, restore (1.10).
 */
function inHash(
  policy: RqPolicy,
  { result, excText }: { readonly result?: Buffer | undefined; readonly excText?: string },
): Settlement['fields'] {
  if (policy.resultsInHash !== true) return [];
  const excInfo = excText === undefined ? undefined : deflate(Buffer.from(excText, 'utf8'));
  return [
    ['result', result],
    ['exc_info', excInfo],
  ];
}

/** Puts the job into the queue now, or into the schedule. The due time is a whole second and never early. */
function nextRun(
  run: Execution,
  delayMs: number,
  now: Date,
  push: 'head' | 'tail',
): { readonly fields: [string, string][]; readonly next: NonNullable<Settlement['next']> } {
  const { queue } = run;
  if (delayMs <= 0)
    return {
      fields: [
        ['status', 'queued'],
        ['enqueued_at', dateText(now)],
      ],
      next: { push, queue },
    };
  const at = dueScore(new Date(now.getTime() + delayMs));
  return { fields: [['status', 'scheduled']], next: { at, queue } };
}

function failed(
  run: Execution,
  excText: string,
  policy: RqPolicy,
  now: Date,
  status: 'failed' | 'stopped' = 'failed',
): Transition<Settlement> {
  const { job } = run;
  const ttl = seconds(job.failureTtl ?? policy.failureTtl);
  const result = entry(run, now, 'failed', { excString: excText });
  return {
    disposition: { state: 'failed' },
    write: {
      ...ending(run, now),
      fields: [...ended(now), ['status', status], ...inHash(policy, { excText })],
      ttl,
      // Python keeps the stream for ever if the job has no `failure_ttl`. jobglot keeps it as long as the job.
      result: { entry: result, ttl },
      registry: { name: 'failed', score: ttl < 0 ? ttl : epochSeconds(now) + ttl },
      ended: status,
      excString: excText,
      counted: 'failed',
    },
  };
}

function entry(
  run: Execution,
  now: Date,
  type: ResultType,
  what: Pick<ResultEntry, 'returnValue' | 'excString'>,
): string[] {
  const { startedAt, execution } = run;
  return writeResult({
    type,
    workerName: startedAt === undefined ? '' : run.worker,
    ...what,
    ...(startedAt === undefined || execution === undefined
      ? {}
      : { executionId: execution, startedAt: startedAt.getTime(), endedAt: now.getTime() }),
  });
}

/** A ttl that Redis accepts: every negative ttl becomes -1 (for ever), and the longest is 30,000 years. */
function seconds(ttl: number): number {
  return ttl < 0 ? -1 : Math.min(ttl, 1e12);
}

/** What RQ stores in place of a value that it cannot serialize. */
export const UNSERIALIZABLE = 'Unserializable return value';

/** Returns no bytes for None. */
function returned(
  value: unknown,
  serializer: SerializerName,
): { readonly bytes?: Buffer; readonly unwritable?: WireError } {
  if (value === undefined || value === null) return {};
  try {
    return { bytes: dumps(serializer, value, 'result') };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return { bytes: dumps(serializer, UNSERIALIZABLE), unwritable: error };
  }
}

/** Python's `Retry(max, interval)`. JSON cannot hold it, and Python's own worker cannot write it as JSON either. */
function retryObject(max: number, interval: number, serializer: SerializerName): Buffer | undefined {
  if (serializer === 'json') return dumps('json', UNSERIALIZABLE);
  const retry = new PyObject(new PyGlobal('rq.job', 'Retry'), new Tuple(), 'new');
  retry.state = { max, intervals: [interval], enqueue_at_front: false };
  return dumps('pickle', retry);
}

/** The failure that RQ reports for a job that ran too long. */
export function timedOut(limitMs: number): Failure {
  const message = `Task exceeded maximum timeout value (${limitMs / 1000} seconds)`;
  return { type: 'JobTimeoutException', module: 'rq.timeouts', message, traceback: '' };
}

/** A traceback with the same last line as Python's: `ValueError: no such thing`. */
export function excString(failure: Failure): string {
  const { type, module, message } = failure;
  const name = module === undefined || module === 'builtins' ? type : `${module}.${type}`;
  const line = message === '' ? name : `${name}: ${message}`;
  return pythonTraceback(failure.traceback, line) ?? `Traceback (most recent call last):\n${line}\n`;
}

/** Seconds that a job that was given back may still wait. */
function remaining(job: JobHash, now: Date): number | undefined {
  if (job.ttl === undefined || job.ttl <= 0) return undefined;
  const waited = job.enqueuedAt === undefined ? 0 : (now.getTime() - job.enqueuedAt.getTime()) / 1000;
  return Math.max(1, Math.ceil(job.ttl - waited));
}
