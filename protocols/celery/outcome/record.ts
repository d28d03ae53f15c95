import { WireError } from '../../errors.ts';
import { isoText } from '../../formats/values.ts';
import type { Moment } from '../../job.ts';
import { exceptionResult, revoked, storable } from './exceptions.ts';
import type { TaskMessage } from '../message/message.ts';
import { type CeleryPolicy, storesSuccess } from './policy.ts';
import { encodeMeta, EXCEPTION_STATES, type ExtendedMeta, READY_STATES, type ResultTuple } from './result.ts';
import { isPickle } from '../message/serializers.ts';

/** What is stored about a task. Source: celery/backends/base.py store_result, mark_as_* (5.6). */

/** One result to be stored, unless a SUCCESS is there already. */
export interface ResultWrite {
  readonly id: string;
  readonly meta: string | Uint8Array;
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
 * `sent`: what the handler has published so far.
 * Source: celery/app/task.py update_state, which stores even where results are ignored.
 */
export function custom(
  message: TaskMessage,
  state: string,
  meta: unknown,
  policy: CeleryPolicy,
  sent: readonly ResultTuple[] = [],
): ResultWrite {
  if (READY_STATES.has(state) || EXCEPTION_STATES.has(state) || state === '') {
    throw new WireError(
      'celery',
      'reserved-state',
      `the state '${state}' is recorded by the worker. Choose a name of your own, like PROGRESS`,
    );
  }
  return own(message, state, meta, null, sent, policy, undefined);
}

/** The meta of a task in this state. `now` is when it ended, if it did. */
export function own(
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

export function extendedOf(message: TaskMessage, policy: CeleryPolicy): ExtendedMeta | undefined {
  if (!policy.resultExtended) return undefined;
  const { args, kwargs } = message.exactArguments();
  const pickled = isPickle(message.wire.contentType);
  const kept = (value: unknown): unknown => (pickled ? storable(value, policy.resultSerializer, policy.typed) : value);
  return {
    name: message.task,
    args: kept(args),
    kwargs: kept(kwargs),
    worker: policy.nodename,
    retries: message.retries,
    queue: message.routingKey,
    stampedHeaders: message.stampedHeaders,
    stamps: message.stamps,
  };
}
