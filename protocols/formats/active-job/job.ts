import { Numeral } from '../values.ts';
import { decodeArgument } from './decode.ts';
import { encodeArgument, encodeArguments, type EncodeOptions } from './encode.ts';
import { toJson } from './hashes.ts';
import { isSince, shown, undecodable } from './rails.ts';
import { nanosText, secondsText } from './times.ts';

/** A job as Active Job serializes it (core.rb `serialize`): the one argument of the wrapper's job in Sidekiq and Resque. */
export interface ActiveJob {
  /** `job_class` */
  readonly jobClass: string;
  /** `job_id`: the same in all runs that Active Job itself requests. Undefined where it is missing; Ruby accepts that. */
  readonly jobId: string | undefined;
  /** `provider_job_id`: the id of the previous run in the system that runs the job. */
  readonly providerJobId: string | undefined;
  /** `queue_name`, with its prefix. */
  readonly queueName: string | undefined;
  /** A lower number runs sooner, where the system uses priorities. */
  readonly priority: number | undefined;
  /** As JSON: for `decodeArguments`. */
  readonly arguments: readonly unknown[];
  /** Runs before this one, as Active Job counts them. */
  readonly executions: number;
  /** The number of runs by the errors with which they ended: `[Net::OpenTimeout]`. Keys are texts of Ruby, and may be anything. */
  readonly exceptionExecutions: ReadonlyMap<string, number>;
  readonly locale: string | undefined;
  /** A zone's name: `Europe/Paris`. */
  readonly timezone: string | undefined;
  /** `2026-11-21T00:13:59.005778187Z`; before Rails 7.1 without a fraction. */
  readonly enqueuedAt: string | undefined;
  /** The time at which it was due; from Rails 7.1 on. */
  readonly scheduledAt: string | undefined;
  /** Where an interrupted job continues; from Rails 8.1 on. */
  readonly continuation: Continuation | undefined;
  /** How often it has continued. */
  readonly resumptions: number | undefined;
  /** Every field as decoded: these fields and all others. */
  readonly fields: ReadonlyMap<string, unknown>;
}

/** continuation.rb: the steps that are done, and the present step with its cursor. */
export interface Continuation {
  readonly completed: readonly string[];
  readonly current: { readonly step: string; readonly cursor: unknown } | undefined;
}

/**
 * Reads a job's data: JSON as `parse` or `parseExact` returned it. As lenient as Ruby: only `job_class` must be present, and a text field of another
 * type counts as missing. A value on which Ruby would fail is a WireError `undecodable` that names the field.
 */
export function readJob(data: unknown): ActiveJob {
  const fields = fieldsOf(data);
  const jobClass = fields.get('job_class');
  if (typeof jobClass !== 'string' || jobClass === '')
    throw undecodable(`job_class is the name of a class, not ${shown(jobClass)}`);
  return {
    jobClass,
    jobId: text(fields, 'job_id'),
    providerJobId: text(fields, 'provider_job_id'),
    queueName: text(fields, 'queue_name'),
    priority: number(fields, 'priority'),
    arguments: list(fields),
    executions: number(fields, 'executions') ?? 0,
    exceptionExecutions: counts(fields),
    locale: text(fields, 'locale'),
    timezone: text(fields, 'timezone'),
    enqueuedAt: text(fields, 'enqueued_at'),
    scheduledAt: text(fields, 'scheduled_at'),
    continuation: continuation(fields),
    resumptions: number(fields, 'resumptions'),
    fields,
  };
}

/** A job to enqueue. */
export interface NewJob {
  readonly jobClass: string;
  /** A UUID. */
  readonly jobId: string;
  readonly queueName: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>> | ReadonlyMap<string, unknown>;
  readonly priority?: number | undefined;
  /** @default 'en' */
  readonly locale?: string | undefined;
  /** The name of a zone as Rails knows it. @default 'UTC' */
  readonly timezone?: string | undefined;
  readonly enqueuedAt: Date;
  readonly scheduledAt?: Date | undefined;
}

/** A new job's data, as JSON: an object for `stringify`, its fields in Rails' order. */
export function writeJob(job: NewJob, options: EncodeOptions = {}): object {
  const old = options.rails !== undefined && !isSince(options.rails, '7.1');
  const scheduledAt = job.scheduledAt === undefined ? null : nanosText(job.scheduledAt);
  return toJson([
    ['job_class', job.jobClass],
    ['job_id', job.jobId],
    ['provider_job_id', null],
    ['queue_name', job.queueName],
    ['priority', job.priority ?? null],
    ['arguments', encodeArguments(job.args ?? [], job.kwargs, options)],
    ['executions', 0],
    ['exception_executions', {}],
    ['locale', job.locale ?? 'en'],
    ['timezone', job.timezone ?? 'UTC'],
    ['enqueued_at', old ? secondsText(job.enqueuedAt) : nanosText(job.enqueuedAt)],
    ...(old ? [] : [['scheduled_at', scheduledAt] as const]),
  ]);
}

/** The fields that differ in the next run of a job; a field that is left out stays. */
export interface NextRun {
  readonly enqueuedAt: Date;
  /** When it is due; undefined: at once. */
  readonly scheduledAt?: Date | undefined;
  /** The id of the run that ended, in the system that runs the job. */
  readonly providerJobId?: string | undefined;
  readonly executions?: number;
  readonly exceptionExecutions?: ReadonlyMap<string, number>;
  readonly queueName?: string | undefined;
  readonly priority?: number | undefined;
  readonly continuation?: Continuation;
  readonly resumptions?: number;
}

/**
 * The data of a job that Active Job itself runs again (exceptions.rb `retry_job`, continuable.rb): the same id and arguments, as JSON for
 * `stringify`. Times are written in the form of the times in the old data. Fields that are not Rails' own are kept; Rails would drop them.
 */
export function nextRun(job: ActiveJob, next: NextRun): object {
  const fields = new Map(job.fields);
  const old = job.enqueuedAt !== undefined && !job.enqueuedAt.includes('.') && !fields.has('scheduled_at');
  const set = (key: string, value: unknown): void => {
    if (value !== undefined) fields.set(key, value);
  };
  set('provider_job_id', next.providerJobId);
  set('queue_name', next.queueName);
  set('priority', next.priority);
  set('executions', next.executions);
  if (next.exceptionExecutions !== undefined) set('exception_executions', toJson([...next.exceptionExecutions]));
  set('enqueued_at', old ? secondsText(next.enqueuedAt) : nanosText(next.enqueuedAt));
  if (!old) set('scheduled_at', next.scheduledAt === undefined ? null : nanosText(next.scheduledAt));
  if (next.continuation !== undefined) set('continuation', writeContinuation(next.continuation));
  set('resumptions', next.resumptions);
  return toJson([...fields]);
}

/** The key under which `exception_executions` counts the errors of one `retry_on`: `[Net::OpenTimeout, Errno::ECONNRESET]`. */
export function exceptionsKey(classes: readonly string[]): string {
  return `[${classes.join(', ')}]`;
}

/**
 * Seconds until the next run of a `retry_on`. `wait` is seconds, or `polynomially_longer` (`exponentially_longer` before Rails 7.1). `executions` is
 * the number of runs that ended with these errors, including the last one. `random` is in [0, 1).
 */
export function retryWait(
  wait: number | 'polynomially_longer',
  executions: number,
  jitter: number,
  random: number,
): number {
  const delay = wait === 'polynomially_longer' ? executions ** 4 : wait;
  const shaken = delay + random * delay * jitter;
  return wait === 'polynomially_longer' ? shaken + 2 : shaken;
}

function fieldsOf(data: unknown): ReadonlyMap<string, unknown> {
  if (data instanceof Map) return data as ReadonlyMap<string, unknown>;
  if (typeof data !== 'object' || data === null || Array.isArray(data) || data instanceof Numeral)
    throw undecodable(`the data of a job is an object, not ${shown(data)}`);
  return new Map(Object.entries(data));
}

function text(fields: ReadonlyMap<string, unknown>, key: string): string | undefined {
  const value = fields.get(key);
  if (value === undefined || value === null) return undefined;
  return typeof value === 'string' ? value : undefined;
}

function number(fields: ReadonlyMap<string, unknown>, key: string): number | undefined {
  const value = fields.get(key);
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number') return value;
  if (value instanceof Numeral) return value.valueOf();
  throw undecodable(`${key} is a number, not ${shown(value)}`);
}

function list(fields: ReadonlyMap<string, unknown>): readonly unknown[] {
  const value = fields.get('arguments') ?? [];
  if (Array.isArray(value)) return value as readonly unknown[];
  throw undecodable(`arguments is a list, not ${shown(value)}`);
}

function counts(fields: ReadonlyMap<string, unknown>): ReadonlyMap<string, number> {
  const value = fields.get('exception_executions') ?? {};
  const entries = typeof value === 'object' && !Array.isArray(value) ? fieldsOf(value) : undefined;
  if (entries === undefined) throw undecodable(`exception_executions is an object, not ${shown(value)}`);
  const found = new Map<string, number>();
  for (const key of entries.keys()) found.set(key, number(entries, key) ?? 0);
  return found;
}

function continuation(fields: ReadonlyMap<string, unknown>): Continuation | undefined {
  const value = fields.get('continuation');
  if (value === undefined || value === null) return undefined;
  const found = fieldsOf(value);
  const completed = found.get('completed') ?? [];
  const current = found.get('current') ?? undefined;
  const isRead =
    Array.isArray(completed) &&
    completed.every((step) => typeof step === 'string') &&
    (current === undefined || (Array.isArray(current) && typeof current[0] === 'string'));
  if (!isRead) throw undecodable(`not a continuation: ${shown(value)}`);
  return {
    completed: completed as readonly string[],
    current: current === undefined ? undefined : step(current as [string, unknown]),
  };
}

function step([name, cursor]: readonly [string, unknown]): NonNullable<Continuation['current']> {
  return { step: name, cursor: decodeArgument(cursor ?? null) };
}

function writeContinuation({ completed, current }: Continuation): object {
  return current === undefined
    ? { completed }
    : { completed, current: [current.step, encodeArgument(current.cursor, { at: 'cursor' })] };
}
