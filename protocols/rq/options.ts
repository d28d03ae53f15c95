import { WireError } from '../errors.ts';
import { isJobId } from './keys.ts';

/**
 * The options of `enqueue`, with RQ's own names, and the fields of the job hash that follow from them. Sources: rq/queue.py parse_args,
 * create_job; rq/job.py Retry, Callback, Dependency; rq/repeat.py; rq/webhook.py; rq/utils.py parse_timeout (2.10).
 *
 *     duration  = seconds | digits | digits unit            5.9 is 5, '90', '3m', '1H'; units d h m s
 *     ids       = 1*( letter | digit | "_" | "-" )           of ASCII; RQ 2.8 and later can fetch no other ids
 */
export interface JobOptions {
  /** @default a new UUID */
  readonly jobId?: string;
  /** How long a run may take: seconds, or '10m'; -1 means no limit. @default 180 */
  readonly jobTimeout?: Duration;
  /** How long a result is kept: seconds, or '1h'; 0 keeps none, -1 keeps it for ever. @default the worker's, 500 */
  readonly resultTtl?: Duration;
  /** How long a failure is kept; -1 keeps it for ever. @default the worker's, one year */
  readonly failureTtl?: Duration;
  /** How long the job may wait to be run. Then it is dropped. @default for ever */
  readonly ttl?: Duration;
  /** @default the call as Python writes it: `jobs.add(1, b=2)` */
  readonly description?: string;
  /** Run the job when these have ended: one or several of ids, jobs, or `{ jobs, allowFailure, enqueueAtFront }`. */
  readonly dependsOn?: DependsOn;
  /** Put the job at the head of its queue. @default false */
  readonly atFront?: boolean;
  /** Data of the job besides its arguments. Its handler may change it. */
  readonly meta?: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;
  readonly retry?: RetryOptions;
  readonly repeat?: RepeatOptions;
  /** The function to call with (job, connection, result) when the job has succeeded. */
  readonly onSuccess?: CallbackOptions | string;
  /** The function to call with (job, connection, type, value, traceback) at each failed run. */
  readonly onFailure?: CallbackOptions | string;
  /** The function to call with (job, connection) when the job was stopped. */
  readonly onStopped?: CallbackOptions | string;
  /** Requests to send when the job has ended. RQ 2.10 and later. */
  readonly webhooks?: readonly WebhookOptions[];
  /** Do not enqueue the job if a job with this `jobId` exists, in any state. @default false */
  readonly unique?: boolean;
  /** The job's group. RQ 2.0 and later. */
  readonly group?: string;
}

/** Seconds, or a text: `'90'`, `'3m'`, `'1h'`. */
export type Duration = number | string;

/** Run the job again after it failed: RQ's `Retry`. */
export interface RetryOptions {
  /** How many runs after the first. */
  readonly max: number;
  /** Seconds before each run. Of a list, the last `max` entries are used in order. @default 0 */
  readonly interval?: number | readonly number[];
  /** @default false */
  readonly enqueueAtFront?: boolean;
}

/** Run the job again after it succeeded: RQ's `Repeat`. */
export interface RepeatOptions {
  /** How many successful runs after the first. */
  readonly times: number;
  /** Seconds before each run. A list is used from its end, as in RQ. @default 0 */
  readonly interval?: number | readonly number[];
}

/** A callback with a time limit of its own: RQ's `Callback`. */
export interface CallbackOptions {
  /** The function's dotted name, as workers know it. A Python worker ends on a name that it cannot import. */
  readonly func: string;
  /** @default 60 */
  readonly timeout?: Duration;
}

/** A URL to request when the job has ended with `jobStatus`. */
export interface WebhookOptions {
  readonly url: string;
  readonly jobStatus: 'finished' | 'failed';
  /** A POST sends the job's id, function, status and times as JSON. @default 'GET' */
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  /** Seconds. @default 10 */
  readonly timeout?: number;
}

/** A job id, or an object that has one. */
export type JobReference = string | { readonly id: string };

/** Jobs to wait for, with options: RQ's `Dependency`. */
export interface DependencyOptions {
  readonly jobs: JobReference | readonly JobReference[];
  /** Run the job even if one of them failed. This applies to all dependencies of the job. @default false */
  readonly allowFailure?: boolean;
  /** Put the job at the head of its queue when it is released. @default false */
  readonly enqueueAtFront?: boolean;
}

/** The dependencies of a job: jobs, ids of jobs, or `Dependency`s. */
export type DependsOn = JobReference | DependencyOptions | readonly (JobReference | DependencyOptions)[];

/** A callback as it is stored in the job hash. */
export interface Callback {
  readonly name: string;
  /** Seconds. */
  readonly timeout: number;
}

/** A webhook as it is stored in the job hash; `timeout` is in seconds. */
export interface Webhook {
  readonly url: string;
  readonly jobStatus: 'finished' | 'failed';
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>> | null;
  readonly timeout: number;
}

/** The options as they are stored in the job hash. An undefined option has no field. */
export interface JobSettings {
  readonly id: string | undefined;
  readonly timeout: number;
  readonly resultTtl: number | undefined;
  readonly failureTtl: number | undefined;
  readonly ttl: number | undefined;
  /** Empty: it is made from the call. */
  readonly description: string;
  readonly dependencyIds: readonly string[];
  readonly allowDependencyFailures: boolean | undefined;
  /** Whether a deferred or scheduled job goes to the head of its queue later. */
  readonly enqueueAtFront: boolean | undefined;
  readonly atFront: boolean;
  readonly meta: JobOptions['meta'];
  readonly retriesLeft: number | undefined;
  readonly retryIntervals: readonly number[] | undefined;
  readonly enqueueAtFrontOnRetry: boolean;
  readonly repeatsLeft: number | undefined;
  readonly repeatIntervals: readonly number[] | undefined;
  readonly onSuccess: Callback | undefined;
  readonly onFailure: Callback | undefined;
  readonly onStopped: Callback | undefined;
  readonly webhooks: readonly Webhook[];
  readonly unique: boolean;
  readonly groupId: string | undefined;
}

/** Seconds a job without a timeout may run. Source: rq/defaults.py. */
export const DEFAULT_TIMEOUT = 180;

/** Seconds a callback without a timeout may take. Source: rq/defaults.py. */
export const CALLBACK_TIMEOUT = 60;

/** Checks the options and converts them to the terms of the job hash. Throws WireError `bad-option` with the option's name. */
export function jobSettings(options: JobOptions, defaultTimeout: number = DEFAULT_TIMEOUT): JobSettings {
  const { retry, repeat, atFront = false } = options;
  const dependencies = dependenciesOf(options.dependsOn);
  const settings: JobSettings = {
    id: options.jobId === undefined ? undefined : jobId('jobId', options.jobId),
    timeout: timeoutOf(options.jobTimeout, defaultTimeout),
    resultTtl: optional('resultTtl', options.resultTtl),
    failureTtl: optional('failureTtl', options.failureTtl),
    ttl: ttlOf(options.ttl),
    description: text('description', options.description ?? ''),
    dependencyIds: dependencies.ids,
    allowDependencyFailures: dependencies.allowFailure,
    // Python ignores at_front of a job that waits for other jobs.
    enqueueAtFront: dependencies.ids.length > 0 && atFront ? true : dependencies.enqueueAtFront,
    atFront: flag('atFront', atFront),
    meta: metaOf(options.meta),
    retriesLeft: retry === undefined ? undefined : count('retry.max', retry.max),
    retryIntervals: retry === undefined ? undefined : intervals('retry.interval', retry.interval),
    enqueueAtFrontOnRetry: flag('retry.enqueueAtFront', retry?.enqueueAtFront ?? false),
    repeatsLeft: repeat === undefined ? undefined : count('repeat.times', repeat.times),
    repeatIntervals: repeat === undefined ? undefined : intervals('repeat.interval', repeat.interval),
    onSuccess: callback('onSuccess', options.onSuccess),
    onFailure: callback('onFailure', options.onFailure),
    onStopped: callback('onStopped', options.onStopped),
    webhooks: (options.webhooks ?? []).map(webhook),
    unique: flag('unique', options.unique ?? false),
    groupId: options.group === undefined ? undefined : name('group', options.group),
  };
  if (settings.unique && settings.id === undefined) throw bad('unique', 'needs a jobId to be unique by');
  if (settings.unique && settings.dependencyIds.length > 0) throw bad('unique', 'cannot be had with dependsOn');
  if (settings.id !== undefined && settings.dependencyIds.includes(settings.id))
    throw bad('dependsOn', `the job ${settings.id} cannot wait for itself`);
  return settings;
}

/** A duration in seconds, as rq/utils.py parse_timeout reads it. Throws WireError `bad-option`. */
export function parseDuration(option: string, value: Duration): number {
  const seconds = typeof value === 'number' ? Math.trunc(value) : secondsOf(value);
  if (seconds === undefined || !Number.isFinite(seconds))
    throw bad(option, `must be seconds, or digits and a unit (d, h, m, s) such as '1h' or '23m', not ${shown(value)}`);
  // The limit of Python's own alarm.
  if (Math.abs(seconds) > MAX_SECONDS) throw bad(option, `must be at most ${MAX_SECONDS} seconds, not ${seconds}`);
  return seconds === 0 ? 0 : seconds;
}

function jobId(option: string, id: unknown): string {
  if (typeof id === 'string' && isJobId(id)) return id;
  throw bad(option, `must be letters, digits, - and _ only, not ${shown(id)}`);
}

/** A webhook as JSON in the job hash: `[{"url": ..., "job_status": ..., "method": ..., "headers": ..., "timeout": 10}]`. */
export function webhookRecord({
  url,
  jobStatus,
  method,
  headers,
  timeout,
}: Webhook): Readonly<Record<string, unknown>> {
  return { url, job_status: jobStatus, method, headers, timeout };
}

const MAX_SECONDS = 2_147_483_647;
const SECONDS: Readonly<Record<string, number>> = { d: 86_400, h: 3_600, m: 60, s: 1 };

function secondsOf(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  const [, digits, unit = 's'] = /^\s*([+-]?\d+(?:_\d+)*)\s*([dhms])?\s*$/i.exec(value) ?? [];
  return digits === undefined
    ? undefined
    : Number(digits.replaceAll('_', '')) * (SECONDS[unit.toLowerCase()] as number);
}

function optional(option: string, value: Duration | undefined): number | undefined {
  return value === undefined ? undefined : parseDuration(option, value);
}

function timeoutOf(value: Duration | undefined, otherwise: number): number {
  const seconds = optional('jobTimeout', value) ?? otherwise;
  if (seconds === 0 || seconds < -1) throw bad('jobTimeout', `must be above 0, or -1 for no limit, not ${seconds}`);
  return seconds;
}

function ttlOf(value: Duration | undefined): number | undefined {
  const seconds = optional('ttl', value);
  if (seconds !== undefined && seconds <= 0) throw bad('ttl', `must be above 0, not ${seconds}`);
  return seconds;
}

function dependenciesOf(given: DependsOn | undefined): {
  readonly ids: readonly string[];
  readonly allowFailure: boolean | undefined;
  readonly enqueueAtFront: boolean | undefined;
} {
  const ids = new Set<string>();
  let allowFailure: boolean | undefined;
  let enqueueAtFront: boolean | undefined;
  for (const one of listOf(given)) {
    if (typeof one === 'object' && 'jobs' in one) {
      // A flag of one dependency counts for all. A plain job has no flags.
      allowFailure = flag('dependsOn.allowFailure', one.allowFailure ?? false) || (allowFailure ?? false);
      enqueueAtFront = flag('dependsOn.enqueueAtFront', one.enqueueAtFront ?? false) || (enqueueAtFront ?? false);
      const jobs = listOf(one.jobs);
      if (jobs.length === 0) throw bad('dependsOn.jobs', 'cannot be empty');
      for (const job of jobs) ids.add(idOf(job));
    } else ids.add(idOf(one));
  }
  return { ids: [...ids], allowFailure, enqueueAtFront };
}

function idOf(job: unknown): string {
  return jobId('dependsOn', typeof job === 'object' && job !== null && 'id' in job ? job.id : job);
}

function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

function metaOf(meta: JobOptions['meta']): JobOptions['meta'] {
  if (meta === undefined || meta instanceof Map) return meta;
  const prototype: unknown = typeof meta === 'object' && meta !== null ? Object.getPrototypeOf(meta) : undefined;
  if (prototype === null || prototype === Object.prototype) return meta;
  throw bad('meta', 'must be an object');
}

function callback(option: string, given: CallbackOptions | string | undefined): Callback | undefined {
  if (given === undefined) return undefined;
  const { func, timeout } = typeof given === 'string' ? { func: given } : given;
  if (typeof func !== 'string' || !DOTTED.test(func))
    throw bad(option, `must name a function: 'app.callbacks.done', not ${shown(func)}`);
  // Python too reads 0 as the default.
  const seconds = (timeout === undefined ? 0 : parseDuration(`${option}.timeout`, timeout)) || CALLBACK_TIMEOUT;
  if (seconds < 0) throw bad(`${option}.timeout`, `must be above 0, not ${seconds}`);
  return { name: func, timeout: seconds };
}

const DOTTED = /^[\p{L}_][\p{L}\p{M}\p{N}_]*(?:\.[\p{L}_][\p{L}\p{M}\p{N}_]*)*$/u;

function webhook({ url, jobStatus, method = 'GET', headers, timeout = 10 }: WebhookOptions, at: number): Webhook {
  const option = `webhooks[${at}]`;
  if (typeof url !== 'string' || !/^https?:\/\/[^/?#]/i.test(url))
    throw bad(`${option}.url`, `must be an http:// or https:// URL, not ${shown(url)}`);
  if (jobStatus !== 'finished' && jobStatus !== 'failed')
    throw bad(`${option}.jobStatus`, `must be 'finished' or 'failed', not ${shown(jobStatus)}`);
  if (method !== 'GET' && method !== 'POST')
    throw bad(`${option}.method`, `must be 'GET' or 'POST', not ${shown(method)}`);
  if (!Number.isSafeInteger(timeout) || timeout <= 0)
    throw bad(`${option}.timeout`, `must be whole seconds above 0, not ${shown(timeout)}`);
  for (const [header, value] of Object.entries(headers ?? {}))
    if (typeof value !== 'string') throw bad(`${option}.headers`, `'${header}' must be a text, not ${shown(value)}`);
  return { url, jobStatus, method, headers: headers ?? null, timeout };
}

function intervals(option: string, given: number | readonly number[] = 0): readonly number[] {
  const list = listOf<number>(given);
  // A Python worker ends when it reads the first interval of an empty list.
  if (list.length === 0) throw bad(option, 'cannot be empty');
  for (const interval of list) {
    if (!Number.isSafeInteger(interval) || interval < 0 || interval > MAX_SECONDS)
      throw bad(option, `must be whole seconds from now, or a list of them, not ${shown(interval)}`);
  }
  return list;
}

function count(option: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw bad(option, `must be a whole number of at least 1, not ${shown(value)}`);
}

function flag(option: string, value: boolean): boolean {
  if (typeof value === 'boolean') return value;
  throw bad(option, `must be true or false, not ${shown(value)}`);
}

function text(option: string, value: string): string {
  if (typeof value === 'string') return value;
  throw bad(option, `must be a text, not ${shown(value)}`);
}

function name(option: string, value: string): string {
  if (text(option, value) !== '') return value;
  throw bad(option, 'cannot be empty');
}

function bad(option: string, why: string): WireError {
  return new WireError('rq', 'bad-option', `${option} ${why}`);
}

function shown(value: unknown): string {
  return typeof value === 'string' ? `'${value.slice(0, 100)}'` : String(value).slice(0, 100);
}
