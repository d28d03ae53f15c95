import { Buffer } from 'node:buffer';
import { WireError } from '../errors.ts';
import { member } from '../formats/json.ts';
import * as json from '../formats/ruby-json.ts';
import type { Failure } from '../job.ts';
import { callScript, type Command, type Exchange, type Script } from '../redis.ts';
import { failedQueue, type Keyspace, queueKey } from './keys.ts';
import { decodePayload } from './message.ts';
import { failedAt } from './times.ts';

/**
 * A failure, as Resque's web pages read it: without `worker`, with a number for `failed_at` or a text for `backtrace` the page of
 * failures breaks.
 *
 *     failed_at, payload, exception, error, backtrace, worker, queue [, retried_at]        in this order
 *
 * Source: failure/redis.rb save, requeue, remove; failure/redis_multi_queue.rb.
 */
export interface FailureRecord {
  readonly failedAt: Date;
  /** The payload's text, as it came. */
  readonly payload: string;
  /** Class of the exception: `Boom`, `Resque::DirtyExit`. */
  readonly exception: string;
  readonly error: string;
  readonly backtrace: readonly string[];
  /** Id of the worker. */
  readonly worker: string;
  readonly queue: string;
}

/** The exception of a job whose process was killed, or ended by itself. */
export const DIRTY_EXIT = 'Resque::DirtyExit';
/** What the worker calls the death of a child process of a job. */
const CHILD_DIED = 'ChildDiedError';

/** The exception of a job whose worker was taken off the list while it ran. */
export const PRUNED = 'Resque::PruneDeadWorkerDirtyExit';

/** `zone` is what stands behind the time: resque-retry's suppressed failures have none. */
export function encodeFailure(record: FailureRecord, zone?: string): string {
  const { exception, error, backtrace, worker, queue } = record;
  const rest = json.stringify({
    exception: wellFormed(exception),
    error: wellFormed(error),
    backtrace: backtrace.map(wellFormed),
    worker,
    queue,
  });
  return `{"failed_at":"${failedAt(record.failedAt, zone)}","payload":${record.payload},${rest.slice(1)}`;
}

/** Half a surrogate pair in a message is no reason to lose the failure. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}

/** An error of JavaScript as an exception of Ruby: its frames, without the message a stack begins with. */
export function failureOf(failure: Failure): {
  readonly exception: string;
  readonly error: string;
  readonly backtrace: readonly string[];
} {
  // The child of a job that was killed: perform_with_fork's DirtyExit.
  if (failure.type === CHILD_DIED) return { exception: DIRTY_EXIT, error: failure.message, backtrace: [] };
  const lines = failure.traceback.split('\n').map((line) => line.trim());
  const frames = lines.filter((line) => line.startsWith('at ') || line.startsWith('Caused by: '));
  const shown =
    frames.length > 0 ? frames.map((line) => line.replace(/^at /, '')) : lines.filter((line) => line !== '');
  const type =
    failure.module === undefined || failure.module === '' ? failure.type : `${failure.module}::${failure.type}`;
  return { exception: type, error: failure.message, backtrace: shown };
}

/** Where failures go: the list `failed`, or a list a queue. */
export type FailureBackend = 'redis' | 'redis_multi_queue';

/** What keeps this failure, in one backend after the other. */
export function saveFailure(
  keys: Keyspace,
  backends: readonly FailureBackend[],
  queue: string,
  text: string,
): readonly Command[] {
  return backends.flatMap((backend): readonly Command[] =>
    backend === 'redis'
      ? [['RPUSH', keys.failed, text]]
      : [
          ['SADD', keys.failedQueues, failedQueue(queue)],
          ['RPUSH', keys.prefix + failedQueue(queue), text],
        ],
  );
}

/** A failure that was read. */
export interface StoredFailure {
  /** As it stands in the list. */
  readonly text: string;
  readonly failedAt: string;
  readonly class: string;
  readonly args: readonly unknown[];
  readonly exception: string;
  readonly error: string;
  readonly backtrace: readonly string[];
  readonly worker: string;
  readonly queue: string;
  readonly retriedAt: string | undefined;
}

/** Reads a failure of any writer, leniently: what is missing is empty. Throws WireError for what is no object. */
export function decodeFailure(bytes: Uint8Array): StoredFailure {
  const text = Buffer.from(bytes).toString();
  const value = json.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WireError('resque', 'undecodable', 'the failure is no JSON object');
  const own = (key: string): unknown =>
    Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
  const textOf = (key: string): string => (typeof own(key) === 'string' ? (own(key) as string) : '');
  const payload = own('payload');
  const { class: name, args } = (typeof payload === 'object' && payload !== null ? payload : {}) as {
    readonly class?: unknown;
    readonly args?: unknown;
  };
  const backtrace = own('backtrace');
  return {
    text,
    failedAt: textOf('failed_at'),
    class: typeof name === 'string' ? name : '',
    args: Array.isArray(args) ? args : [],
    exception: textOf('exception'),
    error: textOf('error'),
    backtrace: Array.isArray(backtrace)
      ? backtrace.map(String)
      : typeof backtrace === 'string'
        ? backtrace.split('\n')
        : [],
    worker: textOf('worker'),
    queue: textOf('queue'),
    retriedAt: own('retried_at') === undefined ? undefined : textOf('retried_at'),
  };
}

/** The list of a backend: `failed`, or that of one queue. */
export function failureList(keys: Keyspace, queue?: string): string {
  return queue === undefined ? keys.failed : keys.prefix + failedQueue(queue);
}

/** `count` failures from `start`; negative numbers count from the end. */
export function failures(keys: Keyspace, start: number, count: number, queue?: string): Exchange<readonly Buffer[]> {
  return {
    commands: [['LRANGE', failureList(keys, queue), start, start < 0 && start + count >= 0 ? -1 : start + count - 1]],
    atomic: false,
    read: ([all]) => all as readonly Buffer[],
  };
}

/**
 * Do something with one failure, if it still stands where it was read: Ruby's own requeue and remove go by the index alone, and hit
 * another row when one before it was removed meanwhile. A script that fails undoes nothing: the job is in its queue before its failure goes.
 *
 * KEYS list, queues, queue. ARGV index, text, text afterwards or '' to remove it, queue, payload or ''.
 */
export const CHANGE_FAILURE: Script = {
  name: 'change-failure',
  keys: 3,
  lua: `
if redis.call('LINDEX', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[5] ~= '' then
  local is = redis.call('TYPE', KEYS[3]).ok
  if is ~= 'none' and is ~= 'list' then return redis.error_reply('WRONGTYPE ' .. KEYS[3] .. ' is a ' .. is .. ', not a list') end
  redis.call('SADD', KEYS[2], ARGV[4])
  redis.call('RPUSH', KEYS[3], ARGV[5])
end
redis.call('LSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[3] == '' then redis.call('LREM', KEYS[1], 1, '') end
return 1`,
};

/**
 * Put the job of a failure into its queue again, and note when; with `remove`, take the failure away. False: the failure is not there any more.
 * Throws WireError for a failure whose payload or queue nobody can run.
 */
export function requeueFailure(
  keys: Keyspace,
  at: { readonly index: number; readonly text: string; readonly list?: string },
  now: Date,
  remove = false,
): Exchange<boolean> {
  const { queue } = decodeFailure(Buffer.from(at.text));
  if (queue === '') throw new WireError('resque', 'undecodable', 'the failure names no queue to put its job into');
  const payload = member(at.text, ['payload']) ?? '';
  decodePayload(Buffer.from(payload));
  const after = remove ? '' : json.edit(at.text, [{ path: ['retried_at'], value: `"${failedAt(now)}"` }]);
  return change(keys, at, after, queue, payload);
}

/** Take one failure away. False: it is not there any more. */
export function removeFailure(
  keys: Keyspace,
  at: { readonly index: number; readonly text: string; readonly list?: string },
): Exchange<boolean> {
  return change(keys, at, '', '', '');
}

function change(
  keys: Keyspace,
  at: { readonly index: number; readonly text: string; readonly list?: string },
  after: string,
  queue: string,
  payload: string,
): Exchange<boolean> {
  return {
    commands: [
      callScript(
        CHANGE_FAILURE,
        [at.list ?? keys.failed, keys.queues, queueKey(keys, queue)],
        [at.index, at.text, after, queue, payload],
      ),
    ],
    atomic: false,
    read: ([done]) => done === 1,
  };
}

/** Forget every failure of a backend's list. */
export function clearFailures(keys: Keyspace, queue?: string): Exchange<void> {
  return {
    commands: [
      ['DEL', failureList(keys, queue)],
      ...(queue === undefined ? [] : [['SREM', keys.failedQueues, failedQueue(queue)] as const]),
    ],
    atomic: false,
    read: () => undefined,
  };
}
