import { Buffer, isUtf8 } from 'node:buffer';
import { WireError } from '../errors.ts';
import * as json from '../formats/json.ts';
import { Tuple } from '../formats/pickle/index.ts';
import type { Job } from '../job.ts';
import { deflate, dumps, inflate, type LoadOptions, loads, type SerializerName, sniff } from './serializers.ts';
import { dateText, readDate } from './times.ts';

/**
 * A job as RQ stores it: the hash `rq:job:J`. Source: rq/job.py to_dict and restore, 2.10. Jobs of RQ 1.10 and newer can be read.
 *
 * Every value is text or bytes. None is an empty text in the fields that are always written, and a missing field elsewhere. RQ reads
 * strictly: its readers raise over one broken integer, date or status. `readJob` is as strict, and returns the names of the broken fields.
 */
export interface JobHash {
  readonly id: string;
  readonly createdAt?: Date;
  /** The call, serialized and deflated: as it is on the wire. */
  readonly data: Buffer;
  readonly successCallbackName?: string;
  readonly failureCallbackName?: string;
  readonly stoppedCallbackName?: string;
  readonly startedAt?: Date;
  readonly endedAt?: Date;
  readonly lastHeartbeat?: Date;
  readonly workerName?: string;
  readonly groupId?: string;
  /** Runs that ended by returning a Retry. */
  readonly numberOfRetries?: number;
  /** Runs that may still be made after an exception. */
  readonly retriesLeft?: number;
  /** Seconds. */
  readonly retryIntervals?: readonly number[];
  readonly enqueueAtFrontOnRetry?: boolean;
  /** The queue it was enqueued to, without the prefix. */
  readonly origin?: string;
  readonly description?: string;
  readonly enqueuedAt?: Date;
  readonly repeatsLeft?: number;
  /** Seconds. */
  readonly repeatIntervals?: readonly number[];
  /** The return value, serialized, written by RQ before 1.12. */
  readonly result?: Buffer;
  /** The traceback, deflated, written by RQ before 1.12. */
  readonly excInfo?: Buffer;
  /** Seconds; -1 means no limit. */
  readonly timeout?: number;
  readonly successCallbackTimeout?: number;
  readonly failureCallbackTimeout?: number;
  readonly stoppedCallbackTimeout?: number;
  /** JSON, as it is on the wire. */
  readonly webhooks?: string;
  /** Seconds; -1 keeps it for ever, 0 does not keep it. */
  readonly resultTtl?: number;
  readonly failureTtl?: number;
  readonly status?: JobStatus;
  readonly dependencyIds?: readonly string[];
  /** Serialized: as it is on the wire. */
  readonly meta?: Buffer;
  readonly ttl?: number;
  readonly allowDependencyFailures?: boolean;
  readonly enqueueAtFront?: boolean;
  /** RQ after 2.12. */
  readonly rateLimitKey?: string;
  readonly rateLimitConcurrency?: number;
  /** jobglot only: runs that ended in an exception and were retried. RQ does not count them. */
  readonly attempts?: number;
  /** Unknown fields, unchanged. */
  readonly unknown?: ReadonlyMap<string, Buffer>;
}

/** All values of the field `status`. RQ's readers raise over any other value. Source: rq/job.py JobStatus. */
export const STATUSES = [
  'created',
  'queued',
  'finished',
  'failed',
  'started',
  'deferred',
  'scheduled',
  'stopped',
  'canceled',
  // RQ after 2.12. jobglot never writes them.
  'rate_limited',
  'ready_to_enqueue',
] as const;

/** The field `status` of a job. */
export type JobStatus = (typeof STATUSES)[number];

/** A field over which RQ's readers raise. */
export interface BrokenField {
  readonly field: string;
  readonly reason: string;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Draft = Mutable<JobHash> & { unknown?: Map<string, Buffer> };

/** How one field is read and written, in the order of the wire. */
interface Field {
  readonly name: string;
  readonly read: (draft: Draft, value: Buffer) => void;
  /** Undefined: the field is not written. */
  readonly write: (job: JobHash) => string | number | Buffer | undefined;
}

/** Thrown by a field's reader. Its message becomes the reason in `broken`. */
class Broken extends Error {}

/**
 * Reads the reply of HGETALL as a job. Fields that cannot be read are left out of the job and returned in `broken`. Returns undefined
 * if there is no such job: the hash has no fields, or no `data`.
 */
export function readJob(
  id: string,
  flat: readonly Buffer[],
): { readonly job: JobHash; readonly broken: readonly BrokenField[] } | undefined {
  const draft: Draft = { id, data: NOTHING };
  let broken: BrokenField[] = NONE;
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const name = (flat[at] as Buffer).toString('latin1');
    const value = flat[at + 1] as Buffer;
    const field = BY_NAME.get(name);
    if (field === undefined) {
      (draft.unknown ??= new Map<string, Buffer>()).set(name, value);
      continue;
    }
    try {
      field.read(draft, value);
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      if (broken === NONE) broken = [];
      broken.push({ field: name, reason: error.message });
    }
  }
  // With an empty `data` the job exists, but its call cannot be read. With a missing `data` there is no job.
  if (draft.data === NOTHING) return undefined;
  return { job: draft, broken };
}

/** All fields of a job as arguments of HSET, in RQ's order. Unknown fields come last. */
export function writeJob(job: JobHash): (string | Buffer)[] {
  const flat: (string | Buffer)[] = [];
  for (const { name, write } of FIELDS) {
    const value = write(job);
    if (value !== undefined) flat.push(name, typeof value === 'number' ? String(value) : value);
  }
  for (const [name, value] of job.unknown ?? []) flat.push(name, value);
  return flat;
}

const NOTHING = Buffer.alloc(0);
const NONE: BrokenField[] = [];

type Key<T> = { [K in keyof JobHash]-?: JobHash[K] extends T | undefined ? K : never }[keyof JobHash];

function text(name: string, key: Key<string>, always = false): Field {
  return {
    name,
    read(draft, value) {
      if (value.length > 0) (draft as Record<string, unknown>)[key] = utf8(value);
    },
    write: (job) => (job[key] as string | undefined) ?? (always ? '' : undefined),
  };
}

function date(name: string, key: Key<Date>, always = false): Field {
  return {
    name,
    read(draft, value) {
      if (value.length === 0) return;
      const read = readDate(value.toString('latin1'));
      if (read === undefined) throw new Broken(`${shown(value)} is no date as RQ writes it`);
      (draft as Record<string, unknown>)[key] = read;
    },
    write: (job) => {
      const value = job[key] as Date | undefined;
      return value === undefined ? (always ? '' : undefined) : dateText(value);
    },
  };
}

/** `strict`: RQ reads the field even if it is empty, and raises. `zero: false`: the value 0 is not written. */
function int(name: string, key: Key<number>, { strict = false, zero = true } = {}): Field {
  return {
    name,
    read(draft, value) {
      if (value.length > 0 || strict) (draft as Record<string, unknown>)[key] = integer(value);
    },
    write: (job) => {
      const value = job[key] as number | undefined;
      return value === 0 && !zero ? undefined : value;
    },
  };
}

/** A flag as 0 or 1, read like Python's `bool(int(text))`. `only`: not written if it is false. */
function flag(name: string, key: Key<boolean>, { strict = false, only = false } = {}): Field {
  return {
    name,
    read(draft, value) {
      if (value.length > 0 || strict) (draft as Record<string, unknown>)[key] = integer(value) !== 0;
    },
    write: (job) => {
      const value = job[key] as boolean | undefined;
      return value === undefined || (only && !value) ? undefined : value ? 1 : 0;
    },
  };
}

function bytes(name: string, key: Key<Buffer>): Field {
  return {
    name,
    read(draft, value) {
      if (value.length > 0) (draft as Record<string, unknown>)[key] = value;
    },
    write: (job) => job[key] as Buffer | undefined,
  };
}

function seconds(name: string, key: Key<readonly number[]>): Field {
  return {
    name,
    read(draft, value) {
      if (value.length === 0) return;
      const list = parsed(value);
      if (!Array.isArray(list) || !list.every((one) => typeof one === 'number' && Number.isFinite(one)))
        throw new Broken(`${shown(value)} is no list of seconds`);
      (draft as Record<string, unknown>)[key] = list;
    },
    write: (job) => {
      const value = job[key] as readonly number[] | undefined;
      return value === undefined ? undefined : json.stringify(value);
    },
  };
}

const FIELDS: readonly Field[] = [
  date('created_at', 'createdAt', true),
  {
    name: 'data',
    read(draft, value) {
      // A Buffer other than NOTHING, so that an empty `data` differs from a missing one.
      draft.data = value;
    },
    write: (job) => job.data,
  },
  text('success_callback_name', 'successCallbackName', true),
  text('failure_callback_name', 'failureCallbackName', true),
  text('stopped_callback_name', 'stoppedCallbackName', true),
  date('started_at', 'startedAt', true),
  date('ended_at', 'endedAt', true),
  date('last_heartbeat', 'lastHeartbeat', true),
  text('worker_name', 'workerName', true),
  text('group_id', 'groupId', true),
  int('number_of_retries', 'numberOfRetries'),
  int('retries_left', 'retriesLeft'),
  seconds('retry_intervals', 'retryIntervals'),
  flag('enqueue_at_front_on_retry', 'enqueueAtFrontOnRetry', { only: true }),
  text('origin', 'origin'),
  {
    name: 'description',
    read(draft, value) {
      if (value.length > 0) draft.description = utf8(value);
    },
    write: (job) => job.description,
  },
  date('enqueued_at', 'enqueuedAt'),
  int('repeats_left', 'repeatsLeft'),
  seconds('repeat_intervals', 'repeatIntervals'),
  bytes('result', 'result'),
  bytes('exc_info', 'excInfo'),
  int('timeout', 'timeout'),
  int('success_callback_timeout', 'successCallbackTimeout', { strict: true }),
  int('failure_callback_timeout', 'failureCallbackTimeout', { strict: true }),
  int('stopped_callback_timeout', 'stoppedCallbackTimeout', { strict: true }),
  {
    // RQ ignores webhooks that it cannot read, and logs a warning.
    name: 'webhooks',
    read(draft, value) {
      if (value.length > 0) draft.webhooks = value.toString('utf8');
    },
    write: (job) => job.webhooks,
  },
  int('result_ttl', 'resultTtl'),
  int('failure_ttl', 'failureTtl'),
  {
    name: 'status',
    read(draft, value) {
      if (value.length === 0) return;
      const status = STATUS_BY_NAME.get(value.toString('latin1'));
      if (status === undefined) throw new Broken(`${shown(value)} is no status of RQ's`);
      draft.status = status;
    },
    write: (job) => job.status ?? 'created',
  },
  {
    // RQ before 1.10 had one dependency. Newer versions write both fields, and read this one if the other is missing.
    name: 'dependency_id',
    read(draft, value) {
      if (value.length > 0) draft.dependencyIds ??= [utf8(value)];
    },
    write: (job) => job.dependencyIds?.[0],
  },
  {
    name: 'dependency_ids',
    read(draft, value) {
      if (value.length === 0) return;
      const ids = parsed(value);
      if (!Array.isArray(ids) || !ids.every((one) => typeof one === 'string'))
        throw new Broken(`${shown(value)} is no list of ids`);
      draft.dependencyIds = ids;
    },
    write: (job) =>
      job.dependencyIds === undefined || job.dependencyIds.length === 0 ? undefined : json.stringify(job.dependencyIds),
  },
  bytes('meta', 'meta'),
  int('ttl', 'ttl', { zero: false }),
  flag('allow_dependency_failures', 'allowDependencyFailures'),
  flag('enqueue_at_front', 'enqueueAtFront', { strict: true }),
  text('rate_limit_key', 'rateLimitKey'),
  int('rate_limit_concurrency', 'rateLimitConcurrency'),
  int('jobglot_attempts', 'attempts'),
];

const BY_NAME: ReadonlyMap<string, Field> = new Map(FIELDS.map((field) => [field.name, field]));
const STATUS_BY_NAME: ReadonlyMap<string, JobStatus> = new Map(STATUSES.map((status) => [status, status]));

function utf8(value: Buffer): string {
  if (!isUtf8(value)) throw new Broken(`${shown(value)} is not UTF-8`);
  return value.toString('utf8');
}

// The texts that Python's int() accepts.
const INTEGER = /^\s*[+-]?\d+(?:_\d+)*\s*$/;

function integer(value: Buffer): number {
  const digits = value.toString('latin1');
  const number = INTEGER.test(digits) ? Number(digits.replaceAll('_', '')) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new Broken(`${shown(value)} is no whole number`);
  // Number('-0') is -0; Python's int is 0.
  return number === 0 ? 0 : number;
}

function parsed(value: Buffer): unknown {
  try {
    return json.parse(utf8(value));
  } catch (error) {
    if (error instanceof Broken) throw error;
    throw new Broken(`${shown(value)} is no JSON`);
  }
}

function shown(value: Buffer): string {
  return JSON.stringify(value.toString('latin1', 0, 60));
}

/** The call of a job: a function by its dotted name, or a method by its bare name on an instance. */
export interface Call {
  readonly funcName: string;
  /** The object of a method; null for a function. */
  readonly instance: unknown;
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
}

/** A call and its serializer. */
export interface ReadCall extends Call {
  readonly serializer: SerializerName;
}

/**
 * Reads the call of a job. Throws WireError `undecodable`, `too-large` or `too-deep`. Nothing in it is imported or called. Objects of
 * Python classes become PyObject.
 */
export function readCall(data: Uint8Array, options: LoadOptions = {}): ReadCall {
  const bytes = inflate(data, options.limits?.maxBytes);
  const serializer = options.serializer ?? sniff(bytes);
  const call = loads(bytes, { ...options, serializer });
  if (!Array.isArray(call) || call.length !== 4) throw noCall('a list of four: function, instance, args, kwargs');
  const [funcName, instance, args, kwargs] = call as readonly unknown[];
  if (typeof funcName !== 'string' || funcName === '') throw noCall('the name of a function');
  if (!Array.isArray(args)) throw noCall('a list of arguments');
  return { funcName, instance: instance ?? null, args, kwargs: namedArguments(kwargs), serializer };
}

function namedArguments(kwargs: unknown): Readonly<Record<string, unknown>> {
  if (kwargs instanceof Map) {
    const entries = [...(kwargs as ReadonlyMap<unknown, unknown>)];
    if (!entries.every(([name]) => typeof name === 'string')) throw noCall('keyword arguments with names');
    return Object.fromEntries(entries) as Readonly<Record<string, unknown>>;
  }
  const prototype: unknown = typeof kwargs === 'object' && kwargs !== null ? Object.getPrototypeOf(kwargs) : undefined;
  if (prototype === null || prototype === Object.prototype) return kwargs as Readonly<Record<string, unknown>>;
  throw noCall('keyword arguments');
}

function noCall(missing: string): WireError {
  return new WireError('rq', 'undecodable', `the job's data has not ${missing}`);
}

/** Writes a call as `data`. Throws WireError for arguments that the serializer cannot write. */
export function writeCall(serializer: SerializerName, call: Call): Buffer {
  const { funcName, instance, args, kwargs } = call;
  // Python's enqueue passes the arguments as a tuple, so an array becomes a Tuple. A Tuple is written as it is.
  const list = serializer === 'pickle' && !(args instanceof Tuple) ? Tuple.from(args) : args;
  return deflate(dumps(serializer, Tuple.of(funcName, instance, list, kwargs), 'call'));
}

/** Seconds; the timeout of a job without one. */
const DEFAULT_TIMEOUT = 180;

/** The job in the form that all systems share. `queue` is the queue it was found in. `headers` is its `meta`, if that can be read. */
export function toJob(job: JobHash, call: Call, queue: string, options: LoadOptions = {}): Job {
  // Source: rq/worker/base.py perform_job; 0 counts as no timeout given.
  const timeout = job.timeout || DEFAULT_TIMEOUT;
  const headers = job.meta === undefined ? undefined : headersOf(job.meta, options);
  return {
    id: job.id,
    task: call.funcName,
    args: call.args,
    kwargs: call.kwargs,
    queue,
    attempt: attemptOf(job),
    ...(job.enqueuedAt === undefined ? {} : { enqueuedAt: job.enqueuedAt }),
    ...(timeout < 0 ? {} : { timeoutMs: timeout * 1000 }),
    ...(headers === undefined ? {} : { headers }),
  };
}

/** Undefined for a meta that cannot be read, or that has keys other than texts. The job still runs, as in RQ. */
function headersOf(meta: Buffer, options: LoadOptions): Job['headers'] {
  try {
    return namedArguments(loads(meta, options));
  } catch {
    return undefined;
  }
}

/** The number of this run; the first is 1. RQ counts runs that returned a Retry, and jobglot counts runs that failed. */
export function attemptOf(job: JobHash): number {
  return 1 + (job.numberOfRetries ?? 0) + (job.attempts ?? 0);
}
