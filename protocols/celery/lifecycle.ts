import { WireError } from '../errors.ts';
import { isoText } from '../formats/values.ts';
import type { Disposition, Failure, Moment, Outcome, Transition } from '../job.ts';
import {
  encodeError,
  type ExceptionNames,
  exceptionResult,
  maxRetriesExceeded,
  notRegistered,
  pythonException,
  type PythonException,
  reprException,
  revoked,
  timeLimitExceeded,
  tracebackText,
} from './exceptions.ts';
import { encodeTask, type ExactMap, type Publication, retryOf, type TaskMessage } from './message.ts';
import {
  encodeMeta,
  encodeSuccess,
  EXCEPTION_STATES,
  type ExtendedMeta,
  READY_STATES,
  type ResultTuple,
  resultTuple,
} from './result.ts';
import { type Application, apply, groupOf, type Publisher, readSignature, type Route } from './signature.ts';

/** One result to be stored, unless a SUCCESS is there already. */
export interface ResultWrite {
  readonly id: string;
  readonly meta: string | Uint8Array;
}

/** A finished member of a chord's header: the chord's counter is to be told. */
export interface ChordPart {
  readonly id: string;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  /** The chord's body. */
  readonly body: ExactMap;
  readonly state: 'SUCCESS' | 'FAILURE' | 'REVOKED';
  /** The value, or the map of `exceptionResult`. */
  readonly result: unknown;
}

/** What settling a task writes. A driver carries it out in this order: publish, results, chord parts, ack. */
export interface CeleryWrites {
  readonly publish: readonly Publication[];
  readonly results: readonly ResultWrite[];
  readonly chordParts: readonly ChordPart[];
  /** What had to be left out: an errback that cannot be read or written. For the log. */
  readonly problems: readonly WireError[];
  /** `done`: it was acknowledged at begin; acknowledge it if that did not happen. `reject`: without requeue. */
  readonly ack: 'ack' | 'reject' | 'requeue' | 'done';
}

/** When a task is run again. */
export interface RetryRules {
  /** Retries after the first run; null is forever. @default 3 */
  readonly max?: number | null;
  /** Before retry number `attempt` (1 is the first). @default 180 000 */
  readonly delayMs?: number | ((attempt: number) => number);
  /** `factorMs · 2^retries`, at most `maxMs` (600 000), full jitter. Wins over `delayMs`. */
  readonly backoff?: { readonly factorMs?: number; readonly maxMs?: number; readonly jitter?: boolean };
}

/** What the worker knows about a task, everything resolved; one object a task, made once. */
export interface CeleryPolicy {
  /** There is no result backend: whatever a message asks for, nothing is stored and nothing encoded. @default false */
  readonly resultsDisabled?: boolean;
  /** The task's option; a header in the message wins. */
  readonly ignoreResult: boolean;
  readonly storeErrorsEvenIfIgnored: boolean;
  readonly acksLate: boolean;
  readonly acksOnFailureOrTimeout: boolean;
  readonly retry: RetryRules;
  readonly resultSerializer: string;
  readonly resultExtended: boolean;
  /** Typed JSON in results and arguments. */
  readonly typed: boolean;
  /** `celery@host`, for extended results. */
  readonly nodename: string;
  readonly exceptions?: ExceptionNames | undefined;
  /** `gen<pid>@<host>`. */
  readonly origin: string;
  readonly replyTo: string;
  readonly route: Route;
  readonly taskSerializer: string;
  readonly taskCompression?: string | null | undefined;
  /** Options of tasks known here, for callbacks published by name. */
  readonly taskDefaults?: ((task: string) => ExactMap | undefined) | undefined;
  readonly inheritParentPriority: boolean;
}

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
 *     reject             the same message, if it was acked and is to be requeued     requeue, or reject
 *
 * Source: celery/app/trace.py build_tracer, celery/backends/base.py mark_as_*, celery/worker/request.py on_* (5.6).
 */
export function settle(
  message: TaskMessage,
  outcome: Outcome,
  policy: CeleryPolicy,
  moment: Moment,
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
    case 'discard':
      return { disposition: { state: 'discarded' }, write: { ...NOTHING, ack: late(policy) } };
    case 'reject':
      return reject(message, outcome.requeue, policy);
  }
}

/** Celery cannot requeue what it has acknowledged, and loses it; we publish it once more. Source: celery/app/trace.py Reject. */
function reject(message: TaskMessage, requeue: boolean, policy: CeleryPolicy): Transition<CeleryWrites> {
  if (!requeue)
    return { disposition: { state: 'discarded' }, write: { ...NOTHING, ack: policy.acksLate ? 'reject' : 'done' } };
  const disposition = { state: 'requeued' } as const;
  if (policy.acksLate) return { disposition, write: { ...NOTHING, ack: 'requeue' } };
  const again = retryOf(message, { retries: message.retries, eta: null, origin: policy.origin });
  return { disposition, write: { ...NOTHING, publish: [again], ack: 'done' } };
}

function succeed(message: TaskMessage, value: unknown, policy: CeleryPolicy, moment: Moment): Transition<CeleryWrites> {
  const stored = storesSuccess(message, policy);
  const ack = late(policy);
  try {
    if (!message.linked && !policy.resultExtended && policy.resultSerializer === 'json') {
      if (!stored) return { disposition: SUCCEEDED, write: { ...NOTHING, ack } };
      const { id, group, parentId } = message;
      const meta = encodeSuccess(id, value, moment.now, group, parentId, policy.typed);
      // The way most tasks go: spelled out, because a spread costs as much as the rest of it.
      const { publish, chordParts, problems } = NOTHING;
      return { disposition: SUCCEEDED, write: { publish, results: [{ id, meta }], chordParts, problems, ack } };
    }
    const { publish, children } = callbacks(message, value, policy, moment);
    const results = stored ? [own(message, 'SUCCESS', value, null, children, policy, moment.now)] : [];
    const chordParts = partOf(message, 'SUCCESS', value);
    return { disposition: SUCCEEDED, write: { publish, results, chordParts, problems: [], ack } };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    // Nothing has been published yet: a value or a callback that cannot be written fails the task itself.
    const exception =
      error.code === 'unencodable' || error.code === 'too-deep'
        ? encodeError(error.message)
        : { type: 'InvalidTaskError', module: 'celery.exceptions', args: [error.message] };
    return fail(message, exception, null, policy, moment);
  }
}

/**
 * Links, then the next step of the chain. One link is applied as it is; of several, groups are applied apart and the others
 * become one group. Source: celery/app/trace.py _dispatch_callbacks_and_chain.
 */
function callbacks(
  message: TaskMessage,
  value: unknown,
  policy: CeleryPolicy,
  moment: Moment,
): { readonly publish: readonly Publication[]; readonly children: readonly ResultTuple[] } {
  if (!message.linked) return { publish: [], children: [] };
  const args = [value ?? null];
  const publisher = publisherOf(message, policy, moment);
  const options = new Map<string, unknown>([
    ['parent_id', message.id],
    ['root_id', message.rootId],
    ['priority', policy.inheritParentPriority ? message.priority : null],
  ]);
  const { callbacks: links, chain } = message.embed;
  const applications: Application[] = [];
  const [link] = links;
  if (links.length === 1) {
    applications.push(apply(readSignature(link), { args, options }, publisher));
  } else if (links.length > 1) {
    const signatures = links.map((each) => ({ each, signature: readSignature(each) }));
    const others = signatures.filter(({ signature }) => signature.subtaskType !== 'group').map(({ each }) => each);
    for (const { signature } of signatures) {
      if (signature.subtaskType === 'group') applications.push(apply(signature, { args, options }, publisher));
    }
    if (others.length > 0) applications.push(apply(groupOf(others), { args, options }, publisher));
  }
  const step = chain.at(-1);
  if (step !== undefined) {
    const rest = new Map(options).set('chain', chain.slice(0, -1));
    applications.push(apply(readSignature(step), { args, options: rest }, publisher));
  }
  return {
    publish: applications.flatMap(({ calls }) => calls).map((call) => encodeTask(call, { typed: policy.typed })),
    children: applications.map(({ child }) => child).filter((child) => child !== undefined),
  };
}

function failWith(
  message: TaskMessage,
  failure: Failure,
  policy: CeleryPolicy,
  moment: Moment,
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
  moment: Moment,
): Transition<CeleryWrites> {
  const result = exceptionResult(exception, policy.resultSerializer, policy.typed);
  const results: ResultWrite[] = [];
  const chordParts: ChordPart[] = [...partOf(message, 'FAILURE', result)];
  const stored = storesErrors(message, policy);
  if (stored) results.push(own(message, 'FAILURE', result, traceback, [], policy, moment.now));
  if (!message.linked) return failed({ ...NOTHING, results }, policy);
  for (const step of message.embed.chain) {
    const later = laterStep(step);
    if (later === undefined) continue;
    if (stored && later.id !== undefined) results.push(ofStep(later, later.id, result, traceback, policy, moment.now));
    if (later.chord !== undefined) {
      const { id = '', group, groupIndex, chord: body } = later;
      chordParts.push({ id, group, groupIndex, body, state: 'FAILURE', result });
    }
  }
  return failed({ ...errbacks(message, policy, moment), results, chordParts }, policy);
}

/**
 * Errbacks that take the failed task's id, published as one group, also where there is only one. Those that take
 * (request, exception, traceback) run inside Python workers, and there is no telling them apart from here; the original, too,
 * publishes what it does not know. Source: celery/backends/base.py _call_task_errbacks.
 */
function errbacks(message: TaskMessage, policy: CeleryPolicy, moment: Moment): typeof NOTHING {
  const problems: WireError[] = [];
  const readable = message.embed.errbacks.filter((errback) => {
    try {
      readSignature(errback);
      return true;
    } catch (error) {
      problems.push(wireError(error));
      return false;
    }
  });
  if (readable.length === 0) return { ...NOTHING, problems };
  const options = new Map([
    ['parent_id', message.id],
    ['root_id', message.rootId],
  ]);
  try {
    const { calls } = apply(groupOf(readable), { args: [message.id], options }, publisherOf(message, policy, moment));
    return { ...NOTHING, publish: calls.map((call) => encodeTask(call, { typed: policy.typed })), problems };
  } catch (error) {
    // The failure itself must be recorded, whatever its errbacks look like.
    return { ...NOTHING, problems: [...problems, wireError(error)] };
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
  moment: Moment,
): Transition<CeleryWrites> {
  const retries = message.retries + 1;
  const { max = 3 } = policy.retry;
  if (max !== null && retries > max) {
    if (error !== undefined) return failWith(message, error, policy, moment);
    const { task, id, args, kwargs } = message;
    return fail(message, maxRetriesExceeded(task, id, args, kwargs), null, policy, moment);
  }
  const delayMs = asked ?? retryDelayMs(policy.retry, message.retries, moment.random);
  const at = new Date(moment.now.getTime() + delayMs);
  const publish = [retryOf(message, { retries, eta: delayMs > 0 ? isoText(at) : null, origin: policy.origin })];
  const results: ResultWrite[] = [];
  if (storesErrors(message, policy)) {
    const exception = error === undefined ? undefined : pythonException(error, policy.exceptions);
    const result = exception && exceptionResult(exception, policy.resultSerializer, policy.typed);
    const why = exception === undefined ? '' : `: ${reprException(exception)}`;
    const ending = `Traceback (most recent call last):\ncelery.exceptions.Retry: Retry in ${delayMs / 1000}s${why}\n`;
    const before = error && exception && tracebackText(error, exception);
    const traceback = before ? `${before}${DURING}${ending}` : ending;
    results.push(own(message, 'RETRY', result, traceback, [resultTuple(message.id)], policy, moment.now));
  }
  return { disposition: { state: 'retrying', at }, write: { ...NOTHING, publish, results, ack: late(policy) } };
}

const DURING = '\nDuring handling of the above exception, another exception occurred:\n\n';

/**
 * Milliseconds before the next run of a task that has been retried so often. Whole seconds are drawn in whole seconds, as the
 * original draws them. Source: celery/utils/time.py get_exponential_backoff_interval.
 */
export function retryDelayMs(rules: RetryRules, retries: number, random: number): number {
  const { backoff, delayMs = 180_000 } = rules;
  if (backoff === undefined) return Math.max(0, typeof delayMs === 'function' ? delayMs(retries + 1) : delayMs);
  const { factorMs = 1000, maxMs = 600_000, jitter = true } = backoff;
  const longest = Math.max(0, Math.min(maxMs, factorMs * 2 ** retries));
  if (!jitter) return longest;
  const unit = longest % 1000 === 0 ? 1000 : 1;
  return Math.floor(random * (longest / unit + 1)) * unit;
}

/** Neither errbacks nor the rest of a chain hear of a revoke. Source: celery/worker/request.py _announce_revoked. */
function revoke(
  message: TaskMessage,
  reason: 'revoked' | 'expired' | 'terminated',
  policy: CeleryPolicy,
  moment: Moment,
  ack: CeleryWrites['ack'],
): Transition<CeleryWrites> {
  const result = exceptionResult(revoked(reason));
  const results = storesErrors(message, policy) ? [own(message, 'REVOKED', result, null, [], policy, moment.now)] : [];
  const write = { ...NOTHING, results, chordParts: partOf(message, 'REVOKED', result), ack };
  return { disposition: { state: 'cancelled' }, write };
}

/** A task that is revoked or expired when it arrives: it was never begun, so it is acknowledged now. */
export function revokedBeforeStart(
  message: TaskMessage,
  reason: 'revoked' | 'expired',
  policy: CeleryPolicy,
  moment: Moment,
): Transition<CeleryWrites> {
  return revoke(message, reason, policy, moment, 'ack');
}

/** What a `revoke` command stores at once, knowing only the id. Source: celery/worker/control.py _revoke (5.6.2). */
export function revokedByCommand(
  id: string,
  policy: Pick<CeleryPolicy, 'resultSerializer' | 'typed'>,
  moment: Moment,
): ResultWrite {
  const meta = encodeMeta(
    {
      status: 'REVOKED',
      result: exceptionResult(revoked('revoked')),
      traceback: null,
      children: null,
      dateDone: isoText(moment.now),
      taskId: id,
    },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return { id, meta };
}

/**
 * A task that nobody here runs. `reject` is Celery's way: the task fails, and its message is gone. `requeue` leaves it to
 * workers that know it. Source: celery/worker/consumer/consumer.py on_unknown_task, which knows neither group nor parent.
 */
export function unknownTask(
  message: TaskMessage,
  way: 'reject' | 'requeue',
  policy: CeleryPolicy,
  moment: Moment,
): Transition<CeleryWrites> {
  if (way === 'requeue') return { disposition: { state: 'requeued' }, write: { ...NOTHING, ack: 'requeue' } };
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
  return { disposition: { state: 'failed' }, write: { ...NOTHING, results: [{ id, meta }], ack: 'reject' } };
}

/** STARTED, for tasks that track it; undefined when results are ignored. */
export function started(
  message: TaskMessage,
  by: { readonly pid: number; readonly hostname: string },
  policy: CeleryPolicy,
): ResultWrite | undefined {
  if (!storesSuccess(message, policy)) return undefined;
  return own(message, 'STARTED', { pid: by.pid, hostname: by.hostname }, null, [], policy, undefined);
}

/**
 * A state of the handler's own, like PROGRESS. Throws WireError: `reserved-state` for the states a task ends in and for RETRY,
 * whose result must be an exception, or Python clients fail to read it; `unencodable`.
 * Source: celery/app/task.py update_state, which stores even where results are ignored.
 */
export function custom(message: TaskMessage, state: string, meta: unknown, policy: CeleryPolicy): ResultWrite {
  if (READY_STATES.has(state) || EXCEPTION_STATES.has(state) || state === '') {
    throw new WireError(
      'celery',
      'reserved-state',
      `the state '${state}' is recorded by the worker. Choose a name of your own, like PROGRESS`,
    );
  }
  return own(message, state, meta, null, [], policy, undefined);
}

function own(
  message: TaskMessage,
  status: string,
  result: unknown,
  traceback: string | null,
  children: readonly ResultTuple[],
  policy: CeleryPolicy,
  now: Date | undefined,
): ResultWrite {
  const { id, group, parentId } = message;
  const meta = encodeMeta(
    {
      status,
      result,
      traceback,
      children,
      dateDone: now !== undefined && READY_STATES.has(status) ? isoText(now) : null,
      groupId: group,
      parentId,
      extended: extendedOf(message, policy),
      taskId: id,
    },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return { id, meta };
}

function extendedOf(message: TaskMessage, policy: CeleryPolicy): ExtendedMeta | undefined {
  if (!policy.resultExtended) return undefined;
  const { args, kwargs } = message.exactArguments();
  return {
    name: message.task,
    args,
    kwargs,
    worker: policy.nodename,
    retries: message.retries,
    queue: message.routingKey,
    stampedHeaders: message.stampedHeaders,
    stamps: message.stamps,
  };
}

interface LaterStep {
  readonly id: string | undefined;
  readonly group: string | undefined;
  readonly groupIndex: number | undefined;
  readonly parentId: string | undefined;
  readonly chord: ExactMap | undefined;
  readonly task: string;
  readonly args: unknown;
  readonly kwargs: unknown;
  readonly retries: number;
}

/** A step of the chain that will never run. One that cannot be read has no id to fail under. */
function laterStep(step: ExactMap): LaterStep | undefined {
  const options = step.get('options');
  const option = (name: string): unknown => (options instanceof Map ? (options as ExactMap).get(name) : undefined);
  const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
  const index = option('group_index');
  const chord = option('chord');
  return {
    id: text(option('task_id')),
    group: text(option('group_id')),
    groupIndex: typeof index === 'number' ? index : undefined,
    parentId: text(option('parent_id')),
    chord: chord instanceof Map ? (chord as ExactMap) : undefined,
    task: text(step.get('task')) ?? '',
    args: step.get('args') ?? [],
    kwargs: step.get('kwargs') ?? new Map(),
    retries: typeof option('retries') === 'number' ? (option('retries') as number) : 0,
  };
}

function ofStep(
  step: LaterStep,
  id: string,
  result: unknown,
  traceback: string | null,
  policy: CeleryPolicy,
  now: Date,
): ResultWrite {
  const { task: name, args, kwargs, retries, group: groupId, parentId } = step;
  const extended = policy.resultExtended ? { name, args, kwargs, worker: null, retries, queue: null } : undefined;
  const meta = encodeMeta(
    {
      status: 'FAILURE',
      result,
      traceback,
      children: [],
      dateDone: isoText(now),
      groupId,
      parentId,
      extended,
      taskId: id,
    },
    { serializer: policy.resultSerializer, typed: policy.typed },
  );
  return { id, meta };
}

/** The chord counts every end of a member, whether its result is stored or not. */
function partOf(message: TaskMessage, state: ChordPart['state'], result: unknown): readonly ChordPart[] {
  const body = message.linked ? message.embed.chord : undefined;
  if (body === undefined) return NO_PARTS;
  const { id, group, groupIndex } = message;
  return [{ id, group, groupIndex, body, state, result }];
}

function publisherOf(message: TaskMessage, policy: CeleryPolicy, moment: Moment): Publisher {
  return {
    now: moment.now,
    mint: moment.mint,
    origin: policy.origin,
    route: policy.route,
    replyTo: policy.replyTo,
    rootId: message.rootId,
    parentId: message.id,
    serializer: policy.taskSerializer,
    ...(policy.taskCompression === undefined ? {} : { compression: policy.taskCompression }),
    ...(policy.taskDefaults === undefined ? {} : { defaults: policy.taskDefaults }),
  };
}

function storesErrors(message: TaskMessage, policy: CeleryPolicy): boolean {
  return storesSuccess(message, policy) || (policy.storeErrorsEvenIfIgnored && policy.resultsDisabled !== true);
}

function storesSuccess(message: TaskMessage, policy: CeleryPolicy): boolean {
  return policy.resultsDisabled !== true && !(message.ignoreResult ?? policy.ignoreResult);
}

function failed(write: Omit<CeleryWrites, 'ack'>, policy: CeleryPolicy): Transition<CeleryWrites> {
  const ack = !policy.acksLate ? 'done' : policy.acksOnFailureOrTimeout ? 'ack' : 'reject';
  return { disposition: { state: 'failed' }, write: { ...write, ack } };
}

function late(policy: CeleryPolicy): 'ack' | 'done' {
  return policy.acksLate ? 'ack' : 'done';
}

function wireError(error: unknown): WireError {
  if (error instanceof WireError) return error;
  throw error;
}

const SUCCEEDED: Disposition = { state: 'succeeded' };
const NO_PARTS: readonly ChordPart[] = [];
const NOTHING: Omit<CeleryWrites, 'ack'> = { publish: [], results: [], chordParts: NO_PARTS, problems: [] };
