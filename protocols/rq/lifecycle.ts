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

/** One run of a job: what was claimed, and by whom. */
export interface Execution {
  readonly job: JobHash;
  /** Undefined for a run of RQ 1. */
  readonly execution: string | undefined;
  /** Where the job was found. */
  readonly queue: string;
  readonly worker: string;
  /** Undefined where it is not known: somebody else's run. */
  readonly startedAt: Date | undefined;
}

/** What a worker decides where the job does not. */
export interface RqPolicy {
  /** Of the job: what it returns is written as it was called. */
  readonly serializer: SerializerName;
  /** Seconds; -1 is for ever, 0 not at all. */
  readonly resultTtl: number;
  readonly failureTtl: number;
  /** Also into the hash of the job, for readers that know no results stream: RQ before 1.12. @default false */
  readonly resultsInHash?: boolean;
  /** The task's own policy, for a job that brings no `retry`; `delayMs` before the retry of this number, 1 being the first. */
  readonly retry?: { readonly max: number | null; readonly delayMs: (retry: number) => number };
}

/** What becomes of a job, and what is to be written for it. */
export interface RqTransition extends Transition<Settlement> {
  /** Why the value that was returned is not what is stored. */
  readonly unwritable?: WireError;
}

/** Seconds a finished job is kept that does not say. Source: rq/defaults.py. */
export const DEFAULT_RESULT_TTL = 500;

/** Seconds a failed job is kept that does not say: a year. Source: rq/defaults.py. */
export const DEFAULT_FAILURE_TTL = 31_536_000;

/** What a run that ended otherwise than by its handler is told as. */
export const STOPPED = 'Job stopped by user, work-horse terminated.';

/**
 * What one run came to, in the terms of RQ. Mirrors rq/worker/base.py handle_job_success, handle_job_failure, handle_job_retry.
 *
 * | outcome | status | registry | result | then |
 * |---|---|---|---|---|
 * | success | finished | finished | 1, with the value | dependents; again where it repeats |
 * | error, timeout with retries left | queued or scheduled | – | – | |
 * | error, timeout, fail, replace, reject | failed | failed | 2, with the traceback | dependents that allow it |
 * | retry | queued or scheduled | – | 4, with a Retry | |
 * | retry beyond the limit | failed | failed | 5, with that Retry | dependents that allow it |
 * | discard | the job is deleted | – | – | dependents |
 * | reject with requeue | queued | – | – | back to the tail, as it was |
 * | postpone | scheduled | scheduled | – | as it was before the run; due at a whole second, never early |
 * | unknown | queued | – | – | to the tail of its queue or of another one, as it was |
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

/** The job as it was before the run, back in its queue: no attempt is counted. */
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
 * The job as it was before the run, in the schedule: a scheduler moves it to its queue when it is due, as it moves one that `enqueue_in` has made. Its
 * `ttl` begins again then: RQ lets a job expire in its queue, not in the schedule. Source: rq/queue.py schedule_job, rq/scheduler.py (2.10).
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

/** The fields that a claim writes, as they were before it. */
function untouched(job: JobHash, queue: string): [string, string][] {
  return [
    ['origin', queue],
    ['started_at', job.startedAt === undefined ? '' : dateText(job.startedAt)],
    ['last_heartbeat', job.lastHeartbeat === undefined ? '' : dateText(job.lastHeartbeat)],
    ['worker_name', job.workerName ?? ''],
  ];
}

/**
 * A run whose worker is gone. Fails it, or runs it again where the job has retries left. Source: rq/registry.py
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

/** A job without what a run wrote over, which is not known: that of a run nobody here saw begin. */
export function unstarted(job: JobHash): JobHash {
  const { startedAt: _, workerName: __, lastHeartbeat: ___, ...rest } = job;
  return rest;
}

/** Ids that name no job: nothing is written but that. */
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

/** The list of intervals is taken from its end. Source: rq/repeat.py schedule, get_interval. */
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

/** What the job itself brings comes first: its `retry`. The task's policy is for jobs that bring none. */
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

/** The interval is looked up by what is left, counted from the end of the list. Source: rq/job.py get_retry_interval. */
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

/** How often a handler may ask to be run again where its task has no `retry`. */
const DEFAULT_MAX_RETRIES = 3;

/**
 * As a job that returns `Retry(max, interval)`, `max` being that of the task. Source: rq/worker/base.py handle_job_retry, rq/job.py
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
  // Without a limit it is one further each time, since Python's has one.
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
      // Without a limit of the job's own Python leaves this stream for ever.
      result: { entry: entry(run, now, 'retried', what), ttl: seconds(job.failureTtl ?? policy.failureTtl) },
      next: next.next,
      counted: 'failed',
    },
  };
}

/** What a run that is over leaves in the hash. */
function ended(now: Date): [string, string][] {
  const date = dateText(now);
  return [
    ['last_heartbeat', date],
    ['ended_at', date],
  ];
}

/**
 * What the last run came to as fields of the hash, where RQ before 1.12 looks for it, and newer ones' `job.result` where the stream has no
 * success. What an earlier run left there goes. Source: rq/job.py to_dict, restore (1.10).
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

/** Into the queue now, or into the schedule: at a whole second, and never before the time. */
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
      // Python leaves the stream for ever where the job has no limit of its own; the worker's is as long as the job is kept.
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

/** As Redis takes it: any negative one is for ever, and none is longer than 30,000 years. */
function seconds(ttl: number): number {
  return ttl < 0 ? -1 : Math.min(ttl, 1e12);
}

/** What RQ stores in place of a value that it cannot serialize. */
export const UNSERIALIZABLE = 'Unserializable return value';

/** No bytes for None. */
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

/** Python's `Retry(max, interval)`. JSON has no form for it; nor has Python's own worker then. */
function retryObject(max: number, interval: number, serializer: SerializerName): Buffer | undefined {
  if (serializer === 'json') return dumps('json', UNSERIALIZABLE);
  const retry = new PyObject(new PyGlobal('rq.job', 'Retry'), new Tuple(), 'new');
  retry.state = { max, intervals: [interval], enqueue_at_front: false };
  return dumps('pickle', retry);
}

/** How RQ tells of a job that ran too long. */
export function timedOut(limitMs: number): Failure {
  const message = `Task exceeded maximum timeout value (${limitMs / 1000} seconds)`;
  return { type: 'JobTimeoutException', module: 'rq.timeouts', message, traceback: '' };
}

/** A traceback that ends in the line Python's would end in: `ValueError: no such thing`. */
export function excString(failure: Failure): string {
  const { type, module, message } = failure;
  const name = module === undefined || module === 'builtins' ? type : `${module}.${type}`;
  const line = message === '' ? name : `${name}: ${message}`;
  return pythonTraceback(failure.traceback, line) ?? `Traceback (most recent call last):\n${line}\n`;
}

/** How long a job that was given back may still wait. */
function remaining(job: JobHash, now: Date): number | undefined {
  if (job.ttl === undefined || job.ttl <= 0) return undefined;
  const waited = job.enqueuedAt === undefined ? 0 : (now.getTime() - job.enqueuedAt.getTime()) / 1000;
  return Math.max(1, Math.ceil(job.ttl - waited));
}
