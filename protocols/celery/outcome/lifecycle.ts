import { WireError } from '../../errors.ts';
import { isoText } from '../../formats/values.ts';
import type { Disposition, Failure, Outcome, Transition } from '../../job.ts';
import { apply } from '../canvas/apply.ts';
import { partOf, partsOfEnds } from '../canvas/chord.ts';
import { unreachedTasks, failureOfUnreached } from './unreached.ts';
import {
  encodeError,
  exceptionResult,
  failureOf,
  maxRetriesExceeded,
  notRegistered,
  pythonException,
  type PythonException,
  reprException,
  revoked,
  timeLimitExceeded,
  tracebackText,
} from './exceptions.ts';
import { callbacks, errbacks, published } from './links.ts';
import { forwardedTo, postponedOf, retryOf, type TaskMessage } from '../message/message.ts';
import { DEFAULT_RETRY_DELAY_MS, retryAllowed, retryDelayMs } from '../../retry.ts';
import { type CeleryPolicy, publisherOf, type RunMoment, storesErrors, storesSuccess } from './policy.ts';
import { extendedOf, own, type ResultWrite } from './record.ts';
import { replacement } from '../canvas/replace.ts';
import { encodeMeta, encodeSuccess, resultTuple } from './result.ts';
import { type CeleryWrites, type ChordPart, NO_WRITES, type Writes } from './writes.ts';

export type { CeleryPolicy, RetryRules, RunMoment } from './policy.ts';
export { custom, type ResultWrite, revokedByCommand, started } from './record.ts';
export type { CeleryWrites, ChordPart, ErrbackCall, Writes } from './writes.ts';

/**
 * What an outcome of a task comes to on the wire. Pure.
 *
 *     outcome            publish                      results                        ack (late)
 *     success            links, next step of a chain  SUCCESS                        ack
 *     error, fail        errbacks                     FAILURE, here and down a chain ack, or reject
 *     error, retriable   the same message once more   RETRY                          ack
 *     retry              the same message once more   RETRY                          ack
 *     timeout            errbacks                     FAILURE, here and down a chain ack, or requeue
 *     expired, cancelled                              REVOKED                        ack
 *     discard                                                                        ack
 *     replace            the successor                                               ack
 *     reject             the same message, if it was acked and is to be requeued     requeue, or reject
 *     postpone           the same message with an ETA                                ack
 *     unknown            the same message, if it is for another queue                back, or ack
 *
 * Source: celery/app/trace.py build_tracer, celery/backends/base.py mark_as_*, celery/worker/request.py on_* (5.6).
 */
export function settle(
  message: TaskMessage,
  outcome: Outcome,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  switch (outcome.kind) {
    case 'success':
      return succeed(message, outcome.value, policy, moment);
    case 'error':
      return outcome.retriable
        ? retry(message, outcome.error, undefined, policy, moment)
        : failWith(message, outcome.error, policy, moment);
    case 'fail':
      return failWith(message, outcome.error, policy, moment);
    case 'retry':
      return retry(message, outcome.error, outcome.delayMs, policy, moment);
    case 'timeout': {
      const ended = fail(message, timeLimitExceeded(outcome.limitMs / 1000), null, policy, moment);
      // The result says FAILURE and the message comes back all the same: what the original does.
      if (!policy.acksLate || policy.acksOnFailureOrTimeout) return ended;
      return { disposition: { state: 'requeued' }, write: { ...ended.write, ack: 'requeue' } };
    }
    case 'expired':
      return revoke(message, 'expired', policy, moment, late(policy));
    case 'cancelled':
      return revoke(message, outcome.reason === 'revoked' ? 'revoked' : 'terminated', policy, moment, late(policy));
    case 'discard': {
      const write = { ...abandoned(message, 'Ignore', outcome.reason, policy), ack: late(policy) };
      return { disposition: { state: 'discarded' }, write };
    }
    case 'replace':
      return replace(message, outcome.by, policy, moment);
    case 'reject':
      return reject(message, outcome.reason, outcome.requeue, policy, moment);
    case 'postpone':
      return postpone(message, outcome.delayMs, policy, moment);
    case 'unknown':
      return passOn(message, outcome.queue);
  }
}

/** Celery cannot requeue what it has acknowledged, and loses it; we publish it once more. Source: celery/app/trace.py Reject. */
function reject(
  message: TaskMessage,
  reason: string,
  requeue: boolean,
  policy: CeleryPolicy,
  { now }: RunMoment,
): Transition<CeleryWrites> {
  if (!requeue) {
    const write = {
      ...abandoned(message, 'Reject', reason, policy),
      ack: policy.acksLate ? 'reject' : 'done',
    } as const;
    return { disposition: { state: 'discarded' }, write };
  }
  const disposition = { state: 'requeued' } as const;
  if (policy.acksLate) return { disposition, write: { ...NO_WRITES, ack: 'requeue' } };
  const again = retryOf(message, { retries: message.retries, eta: null, origin: policy.origin, now });
  return { disposition, write: { ...NO_WRITES, publish: [again], replacesTask: true, ack: 'done' } };
}

function succeed(
  message: TaskMessage,
  value: unknown,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  const stored = storesSuccess(message, policy);
  const ack = late(policy);
  try {
    if (!message.linked && moment.sent === undefined && !policy.resultExtended && policy.resultSerializer === 'json') {
      if (!stored) return { disposition: SUCCEEDED, write: { ...NO_WRITES, ack } };
      const { id, group, parentId } = message;
      const meta = encodeSuccess(id, value, moment.now, group, parentId, policy.typed);
      // The way most tasks go: spelled out, because a spread costs as much as the rest of it.
      const { chords, publish, chordParts, errbacks: told, errbackCalls, problems } = NO_WRITES;
      const results = [{ id, meta }];
      const write = { chords, publish, results, chordParts, errbacks: told, errbackCalls, problems, ack };
      return { disposition: SUCCEEDED, write };
    }
    const { chords, publish, children } = callbacks(message, value, policy, moment);
    const all = [...(moment.sent ?? []), ...children];
    const results = stored ? [own(message, 'SUCCESS', value, null, all, policy, moment.now)] : [];
    const chordParts = partOf(message, 'SUCCESS', value, policy);
    return { disposition: SUCCEEDED, write: { ...NO_WRITES, chords, publish, results, chordParts, ack } };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    // Nothing has been published yet: a value or a callback that cannot be written fails the task itself.
    const exception =
      error.code === 'unencodable' || error.code === 'too-deep'
        ? encodeError(error.message)
        : error.code === 'no-chords'
          ? { type: 'NotImplementedError', module: 'builtins', args: [error.message] }
          : { type: 'InvalidTaskError', module: 'celery.exceptions', args: [error.message] };
    return fail(message, exception, null, policy, moment);
  }
}

function failWith(
  message: TaskMessage,
  failure: Failure,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  const exception = pythonException(failure, policy.exceptions);
  return fail(message, exception, tracebackText(failure, exception), policy, moment);
}

/** Source: celery/backends/base.py mark_as_failure; celery/worker/request.py on_failure. */
function fail(
  message: TaskMessage,
  exception: PythonException,
  traceback: string | null,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  const result = exceptionResult(exception, policy.resultSerializer, policy.typed);
  const results: ResultWrite[] = [];
  const stored = storesErrors(message, policy);
  if (stored) results.push(own(message, 'FAILURE', result, traceback, moment.sent ?? [], policy, moment.now));
  if (!message.linked) return failed({ ...NO_WRITES, results }, policy);
  const { chain, errbacks: signatures } = message.embed;
  const ends = chain.flatMap(unreachedTasks);
  for (const end of ends) {
    if (stored && end.id !== undefined)
      results.push(failureOfUnreached(end, end.id, exception, traceback, policy, moment.now));
  }
  const chordParts = [...partOf(message, 'FAILURE', result, policy), ...partsOfEnds(ends, 'FAILURE', result, policy)];
  const { children: _, ...told } = errbacks(
    signatures,
    message,
    failureOf(exception, traceback),
    policy,
    publisherOf(message, policy, moment),
  );
  return failed({ ...NO_WRITES, ...told, results, chordParts }, policy);
}

/**
 * A successor takes the task's place: under its id, with its links, its chain and its part in a chord; nothing is stored here.
 * Source: celery/app/task.py Task.replace.
 */
function replace(message: TaskMessage, by: unknown, policy: CeleryPolicy, moment: RunMoment): Transition<CeleryWrites> {
  try {
    const application = apply(replacement(message, by), {}, publisherOf(message, policy, moment));
    return {
      disposition: { state: 'replaced' },
      write: { ...published(application, policy.typed), replacesTask: true, ack: late(policy) },
    };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    const exception = { type: 'ImproperlyConfigured', module: 'celery.exceptions', args: [error.message] };
    return fail(message, exception, null, policy, moment);
  }
}

/**
 * The same task again, later; or its failure, once there are no retries left: as the error, or as MaxRetriesExceededError.
 * Source: celery/app/task.py Task.retry; celery/app/autoretry.py; celery/app/trace.py handle_retry.
 */
function retry(
  message: TaskMessage,
  error: Failure | undefined,
  asked: number | undefined,
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  const retries = message.retries + 1;
  if (!retryAllowed(policy.retry, retries)) {
    if (error !== undefined) return failWith(message, error, policy, moment);
    const { task, id, args, kwargs } = message;
    return fail(message, maxRetriesExceeded(task, id, args, kwargs), null, policy, moment);
  }
  // Whole milliseconds: the traceback shows them, and an ETA holds no more.
  const delayMs = Math.round(asked ?? retryDelayMs(policy.retry, retries, moment.random) ?? DEFAULT_RETRY_DELAY_MS);
  const at = new Date(moment.now.getTime() + delayMs);
  const eta = delayMs > 0 ? isoText(at) : null;
  const publish = [retryOf(message, { retries, eta, origin: policy.origin, now: moment.now })];
  const results: ResultWrite[] = [];
  if (storesErrors(message, policy)) {
    const exception = error === undefined ? undefined : pythonException(error, policy.exceptions);
    const result = exception && exceptionResult(exception, policy.resultSerializer, policy.typed);
    const why = exception === undefined ? '' : `: ${reprException(exception)}`;
    const ending = `Traceback (most recent call last):\ncelery.exceptions.Retry: Retry in ${delayMs / 1000}s${why}\n`;
    const before = error && exception && tracebackText(error, exception);
    const traceback = before ? `${before}${DURING}${ending}` : ending;
    results.push(
      own(message, 'RETRY', result, traceback, [...(moment.sent ?? []), resultTuple(message.id)], policy, moment.now),
    );
  }
  const write = { ...NO_WRITES, publish, replacesTask: true, results, ack: late(policy) } as const;
  return { disposition: { state: 'retrying', at }, write };
}

const DURING = '\nDuring handling of the above exception, another exception occurred:\n\n';

/**
 * Neither errbacks nor the rest of a chain hear of a revoke. A chord does, also one that counts a later step of the chain: the
 * original forgets it there. Source: celery/worker/request.py _announce_revoked.
 */
function revoke(
  message: TaskMessage,
  reason: 'revoked' | 'expired' | 'terminated',
  policy: CeleryPolicy,
  moment: RunMoment,
  ack: CeleryWrites['ack'],
): Transition<CeleryWrites> {
  const result = exceptionResult(revoked(reason));
  const results = storesErrors(message, policy)
    ? [own(message, 'REVOKED', result, null, moment.sent ?? [], policy, moment.now)]
    : [];
  const write = { ...NO_WRITES, results, chordParts: partsWith(message, 'REVOKED', result, policy), ack };
  return { disposition: { state: 'cancelled' }, write };
}

/** A task that is revoked or expired when it arrives: it was never begun, so it is acknowledged now. */
export function revokedBeforeStart(
  message: TaskMessage,
  reason: 'revoked' | 'expired',
  policy: CeleryPolicy,
  moment: RunMoment,
): Transition<CeleryWrites> {
  return revoke(message, reason, policy, moment, 'ack');
}

/**
 * What its handler will not end: nothing is stored, as in the original. A chord that waits for it is told, so that its body fails
 * instead of waiting for ever.
 */
function abandoned(message: TaskMessage, type: 'Ignore' | 'Reject', reason: string, policy: CeleryPolicy): Writes {
  const result = exceptionResult({ type, module: 'celery.exceptions', args: reason === '' ? [] : [reason] });
  return { ...NO_WRITES, chordParts: partsWith(message, 'FAILURE', result, policy) };
}

/** The part of the task itself, and those of the steps after it, which will not run. */
function partsWith(
  message: TaskMessage,
  state: ChordPart['state'],
  result: unknown,
  policy: CeleryPolicy,
): readonly ChordPart[] {
  if (!message.linked) return [];
  return [
    ...partOf(message, state, result, policy),
    ...partsOfEnds(message.embed.chain.flatMap(unreachedTasks), state, result, policy),
  ];
}

/**
 * The same message once more, with an ETA: what a sender writes who wants the task to run then. Nothing is stored and no retry is counted. A worker that
 * has not acknowledged the message may hold it instead, and write nothing.
 */
function postpone(
  message: TaskMessage,
  delayMs: number,
  policy: CeleryPolicy,
  { now, queue = message.routingKey }: RunMoment,
): Transition<CeleryWrites> {
  const at = new Date(now.getTime() + delayMs);
  const again = postponedOf(message, { queue, eta: isoText(at), origin: policy.origin, now });
  return {
    disposition: { state: 'postponed', at },
    write: { ...NO_WRITES, publish: [again], replacesTask: true, ack: late(policy) },
  };
}

/** No handler here knows the task: its message goes to the back of its queue, or to another queue, for workers that know it. */
function passOn(message: TaskMessage, queue: string | undefined): Transition<CeleryWrites> {
  const disposition = { state: 'requeued' } as const;
  if (queue === undefined) return { disposition, write: { ...NO_WRITES, ack: 'back' } };
  const publish = [forwardedTo(queue, message.wire)];
  return { disposition, write: { ...NO_WRITES, publish, replacesTask: true, ack: 'ack' } };
}

/**
 * Celery's own way with a task that no handler here knows: the task fails, and its message is gone. A chord that it is a member of is told, which the
 * original forgets. Source: celery/worker/consumer/consumer.py on_unknown_task, which knows neither group nor parent.
 */
export function rejectUnknown(message: TaskMessage, policy: CeleryPolicy, moment: RunMoment): Transition<CeleryWrites> {
  const result = exceptionResult(notRegistered(message.task));
  const { id } = message;
  const meta = encodeMeta(
    {
      status: 'FAILURE',
      result,
      traceback: null,
      children: [],
      dateDone: isoText(moment.now),
      extended: extendedOf(message, policy),
      taskId: id,
    },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return {
    disposition: { state: 'failed' },
    write: {
      ...NO_WRITES,
      results: [{ id, meta }],
      chordParts: partsWith(message, 'FAILURE', result, policy),
      ack: 'reject',
    },
  };
}

function failed(write: Writes, policy: CeleryPolicy): Transition<CeleryWrites> {
  const ack = !policy.acksLate ? 'done' : policy.acksOnFailureOrTimeout ? 'ack' : 'reject';
  return { disposition: { state: 'failed' }, write: { ...write, ack } };
}

function late(policy: CeleryPolicy): 'ack' | 'done' {
  return policy.acksLate ? 'ack' : 'done';
}

const SUCCEEDED: Disposition = { state: 'succeeded' };
