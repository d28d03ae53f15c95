import type { Change } from '../formats/json.ts';
import { edit, stringify } from '../formats/ruby-json.ts';
import type { Disposition, Failure, Moment, Outcome, Transition } from '../job.ts';
import type { Command, Exchange } from '../redis.ts';
import { again } from './active-job.ts';
import { compressBacktrace, framesOf } from './backtrace.ts';
import type { Dialect } from './dialect.ts';
import type { Keyspace } from './keys.ts';
import { type JobHash, jidOf, retryOf, type SidekiqMessage } from './message.ts';
import { bury, DEAD_LIMITS, type DeadLimits, later, push, requeue, retryLater } from './redis.ts';
import { LATEST, readTimestamp, timestamp } from './times.ts';

/**
 * What becomes of a job once its handler has ended: retry formulas, limits and the dead set.
 * Mirrors lib/sidekiq/job_retry.rb (6.4 to 8.1) and processor.rb.
 */
export interface SidekiqPolicy {
  readonly keys: Keyspace;
  readonly dialect: Dialect;
  /** Retries of jobs whose `retry` is true. @default 25 */
  readonly maxRetries?: number;
  readonly dead?: DeadLimits;
  /** The class's own `retry`, for jobs whose hash leaves it to the class. @default true */
  readonly retry?: boolean | number;
  /** The class's own delay: `sidekiq_retry_in`. What it throws is ignored, and the default counts. */
  readonly retryIn?: RetryIn | undefined;
  /** Told of what `retryIn` threw. */
  readonly onError?: (error: unknown) => void;
  /** Milliseconds before retry number `count` (0 is the first), kept to the millisecond, where `retryIn` says nothing. */
  readonly delayMs?: ((count: number) => number | undefined) | undefined;
  /** A job of Active Job: a retry that the handler asks for is a new job, as `retry_on` makes it. */
  readonly activeJob?: boolean;
  /** Errors that are not `retriable` are final. @default every error is retried */
  readonly onlyRetriable?: boolean;
}

/**
 * Seconds until the next run, `'discard'` (it is forgotten) or `'kill'` (to the dead set now); anything else is Sidekiq's own
 * delay. `count` is 0 for the first retry.
 */
export type RetryIn = (count: number, error: Failure, hash: JobHash) => number | 'discard' | 'kill' | null | undefined;

/** What is to be written, with what the worker has to know of it. */
export interface SidekiqTransition extends Transition<Exchange<void>> {
  /** Counts as failed in the statistics. */
  readonly failed: boolean;
  /** No retry is left, or none was wanted: `sidekiq_retries_exhausted` is due. */
  readonly exhausted: boolean;
  /** The job hash with what was written into it. */
  readonly text: string;
  /** What it failed with. */
  readonly error: Failure | undefined;
}

/** Message bytes cut to this many characters, as Sidekiq does. */
const MESSAGE_LIMIT = 10_000;

/**
 * What an outcome writes. An error goes by the job's `retry` and `retry_for`, by the policy's `retryIn`, and else by Sidekiq's own delay, whose
 * jitter is `moment.random`. Source: job_retry.rb, processor.rb.
 */
export function settle(
  message: SidekiqMessage,
  outcome: Outcome,
  policy: SidekiqPolicy,
  moment: Moment,
): SidekiqTransition {
  switch (outcome.kind) {
    case 'success':
      return ended(message, { state: 'succeeded' });
    case 'discard':
    case 'expired':
      return ended(message, { state: 'discarded' });
    case 'cancelled':
      return ended(message, { state: 'cancelled' });
    case 'error':
      return failed(message, outcome.error, policy, moment, {
        ...(policy.onlyRetriable === true && !outcome.retriable ? { verdict: 'kill' } : {}),
      });
    case 'retry':
      if (policy.activeJob === true) return enqueuedAgain(message, outcome, policy, moment);
      return failed(message, outcome.error ?? ASKED, policy, moment, { delayMs: outcome.delayMs });
    case 'fail':
      return failed(message, outcome.error, policy, moment, { verdict: 'kill' });
    case 'timeout':
      return failed(message, timeoutError(outcome.limitMs), policy, moment, {});
    case 'replace':
      return failed(message, NO_REPLACEMENT, policy, moment, { verdict: 'kill' });
    case 'postpone':
      return postponed(message, outcome.delayMs, policy.keys, moment);
    case 'unknown':
      return ended(message, { state: 'requeued' }, backFor(message, outcome.queue, policy.keys));
    case 'reject':
      return outcome.requeue
        ? ended(message, { state: 'requeued' }, requeue(policy.keys, message.queue, message.bytes, 'back'))
        : failed(message, rejected(outcome.reason), policy, moment, { verdict: 'kill' });
  }
}

/**
 * Into `schedule` with the same bytes, as a job that was scheduled there: a poller of either language moves it to its queue. A set holds equal members
 * once; so a job without a jid, which another job may equal to the letter, gets one.
 */
function postponed(
  { text, bytes, hash }: SidekiqMessage,
  delayMs: number,
  keys: Keyspace,
  { now, newId }: Moment,
): SidekiqTransition {
  const at = new Date(Math.min(now.getTime() + delayMs, LATEST));
  const member = jidOf(hash) === '' ? edit(text, [{ path: ['jid'], value: stringify(jidFrom(newId())) }]) : bytes;
  return ended({ text }, { state: 'postponed', at }, later(keys, at.getTime(), member));
}

/** To the back of its queue, or of another one that Sidekiq's pages then list. */
function backFor({ queue, bytes }: SidekiqMessage, other: string | undefined, keys: Keyspace): readonly Command[] {
  if (other === undefined) return requeue(keys, queue, bytes, 'back');
  return push(keys, [{ queue: other, text: bytes }]).commands;
}

/**
 * An iterable job that goes on later: behind the others, so that it does not hold them up (job/interrupt_handler.rb). The same
 * job, put in its queue anew.
 */
export function interrupted(
  message: SidekiqMessage,
  { keys, dialect }: Pick<SidekiqPolicy, 'keys' | 'dialect'>,
  now: Date,
): SidekiqTransition {
  const text = edit(message.text, [{ path: ['enqueued_at'], value: timestamp(now.getTime(), dialect) }]);
  return ended(message, { state: 'requeued' }, push(keys, [{ queue: message.queue, text }]).commands);
}

/** The worker stops: back to its queue, next out, the same bytes. */
export function release(message: SidekiqMessage, keys: Keyspace): readonly Command[] {
  return requeue(keys, message.queue, message.bytes, 'front');
}

/** Seconds before retry number `count` (0 is the first), without jitter: job_retry.rb delay_for. */
export function defaultDelay(count: number): number {
  return count ** 4 + 15;
}

/** Seconds of jitter; added to delays of a class's own, too. */
export function jitter(count: number, dialect: Dialect, random: number): number {
  return dialect.jitter === 'wide' ? Math.floor(random * 10 * (count + 1)) : Math.floor(random * 10) * (count + 1);
}

function failed(
  message: SidekiqMessage,
  error: Failure,
  policy: SidekiqPolicy,
  moment: Moment,
  own: { readonly delayMs?: number | undefined; readonly verdict?: 'kill' },
): SidekiqTransition {
  const { hash } = message;
  const { keys, dialect } = policy;
  const retry = retryOf(hash) ?? policy.retry ?? true;
  if (retry === false) {
    // Global handler: without retries there is no dead job either; only death handlers hear of it.
    return { ...ended(message, { state: 'failed' }), failed: true, exhausted: true, error };
  }
  const nowMs = moment.now.getTime();
  const { changes, count, failedAt } = afterFailure(hash, error, dialect, nowMs);
  // Two jobs of the same text are one member of a set: without a name of its own, one of them would be lost.
  if ((hash['jid'] ?? '') === '') changes.push({ path: ['jid'], value: stringify(jidFrom(moment.newId())) });
  const text = edit(message.text, changes);
  const done = { failed: true, text, error };
  const verdict: number | 'discard' | 'kill' | undefined =
    own.verdict ?? (own.delayMs === undefined ? askClass(policy, count, error, hash) : undefined);
  if (verdict === 'discard')
    return { ...done, disposition: { state: 'discarded' }, write: writing([]), exhausted: false };
  if (verdict !== 'kill' && !isExhausted(hash, retry, count, failedAt, policy, nowMs)) {
    const fixed = own.delayMs ?? (verdict === undefined ? askDelay(policy, count) : undefined);
    const usual = (): number => (verdict ?? defaultDelay(count)) + jitter(count, dialect, moment.random);
    // A count from elsewhere may be any number.
    const at = Math.min(nowMs + (fixed ?? 1000 * usual()), LATEST);
    const write = writing(retryLater(keys, at, text));
    return { ...done, disposition: { state: 'retrying', at: new Date(at) }, write, exhausted: false };
  }
  const write = hash['dead'] === false ? writing([]) : writing(bury(keys, nowMs, text, policy.dead ?? DEAD_LIMITS));
  return { ...done, disposition: { state: 'failed' }, write, exhausted: true };
}

/** Active Job's own retry: Sidekiq sees a job that succeeded, and a new one. */
function enqueuedAgain(
  message: SidekiqMessage,
  { delayMs, error }: { readonly delayMs: number | undefined; readonly error: Failure | undefined },
  { keys, dialect }: SidekiqPolicy,
  { now, newId }: Moment,
): SidekiqTransition {
  const jid = jidFrom(newId());
  const payload = again(message, { delayMs, error }, { now, jid, dialect });
  const at = new Date(payload.at ?? now.getTime());
  return ended(message, { state: 'retrying', at }, push(keys, [payload]).commands);
}

/** The error of a run, written into the job hash. */
function afterFailure(
  hash: JobHash,
  error: Failure,
  dialect: Dialect,
  nowMs: number,
): { readonly changes: Change[]; readonly count: number; readonly failedAt: number } {
  const changes: Change[] = [];
  const set = (name: string, value: string): void => void changes.push({ path: [name], value });
  const { retry_queue: retryQueue, queue, retry_count: before, backtrace } = hash;
  if (typeof retryQueue === 'string' && retryQueue !== '') {
    if (retryQueue !== queue) set('queue', stringify(retryQueue));
  } else if (typeof queue !== 'string') {
    set('queue', stringify('default'));
  }
  set('error_message', stringify(wellFormed(error.message.slice(0, MESSAGE_LIMIT))));
  set('error_class', stringify(wellFormed(className(error))));
  let count = 0;
  let failedAt = nowMs;
  if (typeof before === 'number') {
    count = Math.floor(before) + 1;
    failedAt = readTimestamp(hash['failed_at']) ?? nowMs;
    set('retried_at', timestamp(nowMs, dialect));
  } else {
    set('failed_at', timestamp(nowMs, dialect));
  }
  set('retry_count', String(count));
  if (backtrace === true || (typeof backtrace === 'number' && backtrace > 0)) {
    const frames = framesOf(error.traceback);
    const lines = backtrace === true ? frames : frames.slice(0, backtrace);
    set('error_backtrace', stringify(compressBacktrace(lines.map(wellFormed), dialect)));
  }
  return { changes, count, failedAt };
}

function isExhausted(
  hash: JobHash,
  retry: boolean | number,
  count: number,
  failedAt: number,
  { dialect, maxRetries = 25 }: SidekiqPolicy,
  nowMs: number,
): boolean {
  const { retry_for: retryFor } = hash;
  const until = typeof retryFor === 'number' && dialect.retryFor !== 'ignored' ? failedAt + retryFor * 1000 : undefined;
  const late = until !== undefined && until < nowMs;
  if (until !== undefined && dialect.retryFor === 'instead') return late;
  return late || count >= (typeof retry === 'number' ? retry : maxRetries);
}

function askClass(
  { retryIn, onError }: SidekiqPolicy,
  count: number,
  error: Failure,
  hash: JobHash,
): number | 'discard' | 'kill' | undefined {
  if (retryIn === undefined) return undefined;
  try {
    const answer = retryIn(count, error, hash);
    if (answer === 'discard' || answer === 'kill') return answer;
    return typeof answer === 'number' && answer > 0 && Number.isFinite(answer) ? answer : undefined;
  } catch (thrown) {
    onError?.(thrown);
    return undefined;
  }
}

/** Of the class's own retry policy; what is no time is Sidekiq's own delay. */
function askDelay({ delayMs, onError }: SidekiqPolicy, count: number): number | undefined {
  try {
    const ms = delayMs?.(count);
    return typeof ms === 'number' && ms >= 0 ? ms : undefined;
  } catch (thrown) {
    onError?.(thrown);
    return undefined;
  }
}

function ended(
  { text }: Pick<SidekiqMessage, 'text'>,
  disposition: Disposition,
  commands: readonly Command[] = [],
): SidekiqTransition {
  return { disposition, write: writing(commands), failed: false, exhausted: false, text, error: undefined };
}

/** 24 hex digits of a UUID. */
function jidFrom(uuid: string): string {
  return uuid.replaceAll('-', '').slice(0, 24);
}

/** More than one command goes in one MULTI, as Ruby sends it. */
function writing(commands: readonly Command[]): Exchange<void> {
  return { commands, atomic: commands.length > 1, read: () => undefined };
}

function className({ type, module }: Failure): string {
  return module === undefined || module === '' ? type : `${module}::${type}`;
}

/** Half a surrogate pair cannot be written as UTF-8. */
function wellFormed(text: string): string {
  return text.replaceAll(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd');
}

const ASKED: Failure = { type: 'Retry', message: 'the handler asked to be run again', traceback: '' };
const NO_REPLACEMENT: Failure = {
  type: 'Replace',
  message: 'Sidekiq has no way for another job to take the place of this one; enqueue it instead',
  traceback: '',
};

function rejected(reason: string): Failure {
  return { type: 'Reject', message: reason, traceback: '' };
}

/** As Ruby's Timeout module has it. */
function timeoutError(limitMs: number): Failure {
  return { type: 'Timeout::Error', message: `execution expired after ${limitMs / 1000}s`, traceback: '' };
}
